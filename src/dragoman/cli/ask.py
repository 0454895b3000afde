"""`dragoman ask`."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from dragoman.cli.failing import unwrapped
from dragoman.cli.opening import in_house_of, load_settings, local_principal, refuse_if_in_use
from dragoman.cli.options import global_options, json_option, settings
from dragoman.cli.remote import Remote, find_credential
from dragoman.cli.report import Report
from dragoman.cli.talking import (
    Question,
    check_question,
    code_of,
    local_turn,
    new_conversation,
    remote_turn,
    turn_options,
)
from dragoman.cli.terminal import dim, note, say

if TYPE_CHECKING:
    from dragoman.server.house import House

STDIN = "-"
STDIN_CHARS_MAX = 10_000_000
"""As much as [limits] message_chars can allow; what is longer is refused for its length."""


@click.command("ask", short_help="Ask one question and print the answer as it comes.")
@click.argument("text")
@turn_options
@json_option
@global_options
def command(
    text: str, conversation: str, model: str, agent: str, url: str | None, credential: str | None, as_json: bool
) -> int:
    """Ask TEXT (- reads it from stdin) and print the answer as it comes.

    Without --url it runs in this process, on the local store, and Ctrl-C stops the run; with it Ctrl-C hangs up.
    """
    question = Question(
        sys.stdin.read(STDIN_CHARS_MAX + 1) if text == STDIN else text, conversation or new_conversation(), model, agent
    )
    report = Report(quiet=as_json)
    if url:
        remote = Remote(url, find_credential(credential, settings().home))
        try:
            asyncio.run(_stoppable(lambda stop: remote_turn(remote, question, report, stop)))
        except BaseExceptionGroup as group:
            raise unwrapped(group) from group
    else:
        _ask_here(question, report)
    if as_json:
        say(report.as_json())
    elif report.status == "failed":
        click.echo(f"dragoman: {report.detail}", err=True)
    note(dim(report.sum()))
    return code_of(report)


def _ask_here(question: Question, report: Report) -> None:
    config = load_settings().config
    check_question(question, config)
    refuse_if_in_use(config, can_talk=True)

    async def work(house: "House") -> None:
        principal = local_principal(config)
        await _stoppable(lambda stop: local_turn(house, principal, question, report, stop))

    in_house_of(config, work, writer=True)


async def _stoppable(turn: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Take the turn; the first Ctrl-C asks it to stop, a second one ends this process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop.set()

    loop.add_signal_handler(signal.SIGINT, asked)
    try:
        await turn(stop)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
