"""`dragoman chat`: turn by turn. The main thread reads lines, another one holds the house open and takes the turns:
so Ctrl-C at the prompt, which belongs to readline, and Ctrl-C during an answer, which stops the run, do not mix.
"""

import asyncio
import importlib
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.failing import unwrapped
from dragoman.cli.opening import load_settings, local_principal, refuse_if_in_use
from dragoman.cli.options import global_options, settings
from dragoman.cli.remote import Remote, find_credential
from dragoman.cli.report import Report
from dragoman.cli.talking import (
    Question,
    check_question,
    local_turn,
    new_conversation,
    remote_turn,
    turn_options,
)
from dragoman.cli.terminal import dim, note
from dragoman.core.errors import DragomanError

if TYPE_CHECKING:
    from dragoman.server.config import Config
    from dragoman.server.house import House

PROMPT = "> "
STOP_S = 30.0
"""The house gets this long to close."""

Turn = Callable[[Any, Question, Report, asyncio.Event], Awaitable[None]]


@click.command("chat", short_help="Talk with the assistant, turn by turn.")
@turn_options
@global_options
def command(conversation: str, model: str, agent: str, url: str | None, credential: str | None) -> None:
    """Talk with the assistant. Ctrl-C stops an answer, Ctrl-D leaves.

    Without --url it runs in this process, on the local store; with it Ctrl-C only stops listening.
    """
    key = conversation or new_conversation()
    config = load_settings(resolve_secrets=not url).config
    if url:
        remote = Remote(url, find_credential(credential, settings().home))
        line = Line(nullcontext(), lambda _, question, report, stop: remote_turn(remote, question, report, stop))
    else:
        refuse_if_in_use(config, can_talk=True)
        principal = local_principal(config)
        line = Line(
            _open(config), lambda house, question, report, stop: local_turn(house, principal, question, report, stop)
        )
    note(dim(f"conversation {key}; Ctrl-C stops an answer, Ctrl-D leaves"))
    with line:
        while (text := read_line()) is not None:
            if text.strip():
                _take(line, Question(text, key, model, agent), config)
    note(dim(f"go on with: dragoman chat --conversation {key}"))


def _open(config: "Config") -> "AbstractAsyncContextManager[House]":
    from dragoman.server.assemble import open_house  # noqa: PLC0415 keeps --help fast

    return open_house(config, settings().home)


def _take(line: "Line", question: Question, config: "Config") -> None:
    """One turn; what goes wrong with it is said, and the talk goes on."""
    report = Report()
    try:
        check_question(question, config)
        line.turn(question, report)
    except DragomanError as error:
        click.echo(f"dragoman: {error.detail}", err=True)
        return
    if report.status == "failed":
        click.echo(f"dragoman: {report.detail}", err=True)
    note(dim(report.sum()))


def read_line() -> str | None:
    """The next line; None at the end. On a terminal with a prompt and, where Python has it, readline's keys."""
    if not sys.stdin.isatty():
        return sys.stdin.readline() or None
    with suppress(ImportError):
        importlib.import_module("readline")  # gives input() its keys; not on every system
    while True:
        try:
            return input(PROMPT)
        except EOFError:
            click.echo(err=True)
            return None
        except KeyboardInterrupt:
            click.echo(err=True)  # as in a shell: the line is thrown away


class Line:
    """Holds something open in a thread with an event loop of its own, and takes turns there."""

    def __init__(self, opening: AbstractAsyncContextManager[Any], turn: Turn) -> None:
        self._opening = opening
        self._turn = turn
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Any]] = Future()
        self._thread = threading.Thread(target=self._run, name="dragoman-chat", daemon=True)
        self._failed: BaseException | None = None

    def __enter__(self) -> "Line":
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(self, *exc: object) -> None:
        loop, leave, _ = self._ready.result()
        loop.call_soon_threadsafe(leave.set)
        self._thread.join(STOP_S)
        if self._failed is not None and exc[0] is None:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:
            if self._ready.done():
                self._failed = unwrapped(error)
            else:
                self._ready.set_exception(unwrapped(error))

    async def _hold(self) -> None:
        leave = asyncio.Event()
        async with self._opening as opened:
            self._ready.set_result((asyncio.get_running_loop(), leave, opened))
            await leave.wait()

    def turn(self, question: Question, report: Report) -> None:
        """Take one turn. The first Ctrl-C asks it to stop; a second one is raised."""
        loop, _, opened = self._ready.result()
        stop = asyncio.Event()

        async def take() -> None:
            await self._turn(opened, question, report, stop)

        future: Future[None] | None = None
        try:
            try:
                future = asyncio.run_coroutine_threadsafe(take(), loop)
                future.result()
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(stop.set)
                if future is not None:
                    future.result()
        except BaseExceptionGroup as group:
            raise unwrapped(group) from group
