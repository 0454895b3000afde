"""`dragoman chat`, fed from a pipe: as many turns as there are lines."""

import asyncio
import io
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from dragoman.cli.chat import Line
from dragoman.cli.report import Report
from dragoman.cli.talking import Question
from dragoman.core.errors import BackendFailed, Conflict


def test_each_line_is_a_turn_of_one_conversation(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    done = cli.ok("chat", "--conversation", "k")

    assert done.out == "Echo: one\nEcho: two\n"
    assert done.err.splitlines()[0] == "conversation k; Ctrl-C stops an answer, Ctrl-D leaves"
    assert done.err.splitlines()[-1] == "go on with: dragoman chat --conversation k"
    assert [turn["turns"] for turn in cli.ok("conversations", "ls", "--json").json] == [2]


def test_a_turn_that_fails_does_not_end_the_talk(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("break it\nstill there?\n"))
    done = cli.ok("chat")

    assert done.out == "Echo: still there?\n"
    assert "  failed  " in done.err


def test_a_line_too_long_does_not_end_the_talk(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 100_001 + "\nok\n"))
    done = cli.ok("chat")

    assert done.out == "Echo: ok\n"
    assert "The text has 100002 characters; 100000 at most" in done.err


def test_a_config_that_cannot_be_used_is_said_at_once(cli):
    (cli.folder / "script.toml").write_text("[[reply]]\nfault = 'nonsense'\n")
    assert cli.run("chat").code == 78


# -- the line between the thread that reads and the thread that answers ------------------------------------------------


async def interrupt_when_it_waits() -> None:
    """Send Ctrl-C to the thread that asked, once it waits for the answer."""
    asker = threading.main_thread().ident
    assert asker is not None
    async with asyncio.timeout(5):
        while sys._current_frames()[asker].f_code.co_name != "wait":
            await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)


@asynccontextmanager
async def opened() -> AsyncGenerator[str]:
    yield "house"


def test_ctrl_c_during_an_answer_asks_the_turn_to_stop_and_waits_for_its_end():
    async def turn(house: str, question: Question, report: Report, stop: asyncio.Event) -> None:
        await interrupt_when_it_waits()
        async with asyncio.timeout(5):
            await stop.wait()
        report.status = "cancelled"

    report = Report()
    with Line(opened(), turn) as line:
        line.turn(Question("q", "k"), report)
        assert report.status == "cancelled"


def test_a_second_ctrl_c_is_an_interruption():
    async def turn(house: str, question: Question, report: Report, stop: asyncio.Event) -> None:
        await interrupt_when_it_waits()
        async with asyncio.timeout(5):
            await stop.wait()
        await interrupt_when_it_waits()
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt), Line(opened(), turn) as line:
        line.turn(Question("q", "k"), Report())


def test_what_goes_wrong_in_a_turn_is_raised_where_it_was_asked_for():
    async def turn(house: str, question: Question, report: Report, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup():
            raise BackendFailed(f"{question.text} in the {house}")

    with Line(opened(), turn) as line, pytest.raises(BackendFailed) as caught:
        line.turn(Question("no", "k"), Report())
    assert caught.value.detail == "no in the house"


def test_a_house_that_cannot_be_opened_is_said_before_the_first_line():
    @asynccontextmanager
    async def locked() -> AsyncGenerator[None]:
        raise Conflict("In use.")
        yield

    async def turn(house: None, question: Question, report: Report, stop: asyncio.Event) -> None: ...

    with pytest.raises(Conflict), Line(locked(), turn):
        pass
