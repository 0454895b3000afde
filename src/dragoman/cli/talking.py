"""Taking a turn, in this process or with a running server, and reporting it as it happens."""

import asyncio
import os
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from dragoman.cli.failing import run_exit_code
from dragoman.cli.main import INTERRUPTED
from dragoman.cli.options import F
from dragoman.cli.remote import Remote
from dragoman.cli.report import Report
from dragoman.cli.terminal import note
from dragoman.core.errors import BadRequest, DragomanError, NotFound
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, RunId
from dragoman.core.operations import CancelRun, StartTurn

if TYPE_CHECKING:
    from dragoman.server.config import Config
    from dragoman.server.house import House

ORIGIN = "cli"


class Question(Struct, frozen=True):
    """What is asked, and of whom."""

    text: str
    conversation: str
    model: str = ""
    agent: str = ""


def turn_options(command: F) -> F:
    """Decorator: the options of commands that take turns."""
    for option in (
        click.option(
            "--credential", envvar="DRAGOMAN_CREDENTIAL", metavar="TEXT", help="For --url; else HOME/admin-credential."
        ),
        click.option(
            "--url", envvar="DRAGOMAN_URL", metavar="URL", help="Talk to a running server instead of the local store."
        ),
        click.option("--agent", default="", metavar="A", help="Which agent answers; else the default one."),
        click.option(
            "--model", default="", metavar="M", help="Which model it uses; else the agent's or the default one."
        ),
        click.option("--conversation", default="", metavar="KEY", help="Go on in this conversation; else a new one."),
    ):
        command = option(command)
    return command


def new_conversation() -> str:
    return f"{ORIGIN}:{os.urandom(6).hex()}"


def check_question(question: Question, config: "Config") -> None:
    """The same limits as at the door. Raises BadRequest."""
    chars_max = config.limits.message_chars
    if not question.text.strip():
        raise BadRequest("There is nothing to ask; give a text, or - to read it from stdin.")
    if len(question.text) > chars_max:
        raise BadRequest(f"The text has {len(question.text)} characters; {chars_max} at most ([limits] message_chars).")


async def local_turn(
    house: "House", principal: Principal, question: Question, report: Report, stop: asyncio.Event
) -> None:
    """One turn on the house's own tape. Setting `stop` cancels the run; its end is still awaited."""
    turn = StartTurn(
        ConversationId(question.conversation),
        (said("user", question.text),),
        agent=question.agent,
        model=question.model,
        origin=ORIGIN,
    )
    started = await house.desk.answer(principal, turn)
    report.conversation, report.run = started.conversation, started.run
    reader = house.desk.reader(started)
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(_cancel_when(stop, house, principal, started.run))
        while entries := await reader.batch():
            for entry in entries:
                report.entry(entry)
        watcher.cancel()


async def _cancel_when(stop: asyncio.Event, house: "House", principal: Principal, run: RunId) -> None:
    await stop.wait()
    await house.desk.answer(principal, CancelRun(run))


async def remote_turn(remote: Remote, question: Question, report: Report, stop: asyncio.Event) -> None:
    """One turn with a running server. Setting `stop` hangs up and has the server stop the run: hanging up alone would
    leave it at work."""
    if question.agent:
        raise BadRequest("--agent works on the local store only: the API behind --url has no place for it.")
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(remote.chat(question.text, question.conversation, question.model, report))
        stopping = group.create_task(stop.wait())
        await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        stopping.cancel()
    if not report.status:
        report.left()
        await _stop_far_away(remote, report.run)


async def _stop_far_away(remote: Remote, run: str) -> None:
    try:
        if not run:  # it hung up before the server said which run it is
            raise NotFound("The server had not answered yet.", what="run")
        await remote.post(f"/api/runs/{run}/cancel")
        note(f"Stopped run {run}.")
    except DragomanError as error:
        note(f"Hung up. The run may go on: {error.detail} See: dragoman runs ls; stop it with: dragoman runs cancel ID")


def code_of(report: Report) -> int:
    """The exit code a finished turn means."""
    if report.status == "completed":
        return 0
    return INTERRUPTED if report.status in ("cancelled", "left") else run_exit_code(report.code)
