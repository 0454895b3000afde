"""Taking turns: what may be asked, and what a turn's end means for the exit code."""

import asyncio
import re

import pytest

from dragoman.cli import terminal
from dragoman.cli.options import Settings
from dragoman.cli.report import Report
from dragoman.cli.talking import Question, check_question, code_of, new_conversation, remote_turn
from dragoman.core.errors import BackendFailed, BadRequest
from dragoman.server.config_shapes import Config, Limits


def test_a_new_conversation_has_a_key_of_its_own():
    first, second = new_conversation(), new_conversation()

    assert re.fullmatch(r"cli:[0-9a-f]{12}", first)
    assert first != second


def test_a_question_has_the_length_the_config_allows():
    config = Config(limits=Limits(message_chars=3))

    check_question(Question("abc", "k"), config)
    for text in ("abcd", "", " \n"):
        with pytest.raises(BadRequest):
            check_question(Question(text, "k"), config)


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("completed", "", 0),
        ("cancelled", "", 130),
        ("left", "", 130),
        ("failed", "upstream_idle", 5),
        ("failed", "storage_full", 75),
        ("needs_client", "", 5),
    ],
)
def test_the_end_of_a_turn_is_an_exit_code(status: str, code: str, exit_code: int):
    assert code_of(Report(status=status, code=code)) == exit_code


class Far:
    """A server that goes on until it is hung up on, or fails."""

    def __init__(self, error: Exception | None = None, *, run: str = "r_1") -> None:
        self.error = error
        self.run = run
        self.posted: list[str] = []
        self.began = asyncio.Event()
        self.hung_up = False

    async def post(self, path: str) -> dict[str, str]:
        self.posted.append(path)
        return {}

    async def chat(self, text: str, conversation: str, model: str, report: Report) -> None:
        report.run = self.run
        self.began.set()
        if self.error is not None:
            raise self.error
        try:
            await asyncio.Event().wait()
        finally:
            self.hung_up = True


async def test_a_remote_turn_that_is_stopped_hangs_up_and_says_what_that_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(terminal, "settings", Settings)
    far, report, stop = Far(), Report(quiet=True), asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(remote_turn(far, Question("q", "k"), report, stop))
        await far.began.wait()
        stop.set()

    assert (far.hung_up, report.status) == (True, "left")
    assert far.posted == ["/api/runs/r_1/cancel"]
    assert capsys.readouterr().err == "Stopped run r_1.\n"


async def test_a_remote_turn_that_is_stopped_before_its_run_is_known_says_that_it_may_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(terminal, "settings", Settings)
    far, stop = Far(run=""), asyncio.Event()
    stop.set()
    await remote_turn(far, Question("q", "k"), Report(quiet=True), stop)
    assert far.posted == []
    assert capsys.readouterr().err.startswith("Hung up. The run may go on: ")


async def test_what_goes_wrong_far_away_comes_out():
    far = Far(BackendFailed("It broke."))
    with pytest.raises(ExceptionGroup) as caught:
        await remote_turn(far, Question("q", "k"), Report(quiet=True), asyncio.Event())
    assert caught.value.exceptions == (far.error,)


async def test_an_agent_cannot_be_chosen_far_away():
    with pytest.raises(BadRequest):
        await remote_turn(Far(), Question("q", "k", agent="a"), Report(), asyncio.Event())
