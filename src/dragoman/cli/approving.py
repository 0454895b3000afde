"""`dragoman runs waiting`, `approve` and `deny`: which calls wait for a person, and what he says to them.

A run waits with the server that drives it, so all three talk to a running server.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import quote

import click

from dragoman.cli.failing import unwrapped
from dragoman.cli.opening import load_settings, store_path
from dragoman.cli.options import F, global_options, json_option, settings
from dragoman.cli.remote import Remote, find_credential
from dragoman.cli.terminal import dim, exact, note, say, say_json, shorten
from dragoman.cli.times import stamp
from dragoman.core.errors import BackendFailed, BadRequest, NotFound, Unavailable
from dragoman.stores.sqlite.lock import holder_of

HASH_DIGITS_SHOWN = 16
"""Of an arguments' hash, in what is to be typed: nobody finds two calls of one run that share so many."""
HASH_DIGITS_MIN = 8

Row = dict[str, Any]
"""A waiting call, as `GET /api/waiting` tells it."""


def server_options(command: F) -> F:
    """Decorator: which server is asked, and as whom."""
    for option in (
        click.option(
            "--credential", envvar="DRAGOMAN_CREDENTIAL", metavar="TEXT", help="For it; else HOME/admin-credential."
        ),
        click.option(
            "--url", envvar="DRAGOMAN_URL", metavar="URL", help="The running server; else the one on this home."
        ),
    ):
        command = option(command)
    return command


hash_option = click.option(
    "--hash",
    "digits",
    default="",
    metavar="DIGITS",
    help=f"How the hash of the arguments that you looked at begins, {HASH_DIGITS_MIN} digits or more.",
)


@click.command("waiting")
@server_options
@json_option
@global_options
def waiting(url: str | None, credential: str | None, as_json: bool) -> None:
    """List the calls that wait for approval, oldest first, with their whole arguments."""
    answer = _asked(_remote(url, credential), _listed)
    rows = _rows(answer)
    if as_json:
        say_json(answer)
        return
    for row in rows:
        _show(row)
        words = _words(row)
        if words:
            say(dim(f"  dragoman runs approve {words}"))
            say(dim(f"  dragoman runs deny {words}"))
    if answer.get("more"):
        note("More runs are at work than were looked at; decide these, and look again.")
    if not rows:
        note("Nothing waits for approval.")


@click.command("approve")
@click.argument("run")
@click.argument("call")
@hash_option
@click.option("--yes", is_flag=True, help="Do not ask, whatever the arguments are now.")
@server_options
@json_option
@global_options
def approve(
    run: str, call: str, digits: str, yes: bool, url: str | None, credential: str | None, as_json: bool
) -> None:
    """Let CALL of RUN be made, this once and with just these arguments.

    Without --hash it shows the arguments and asks.
    """
    remote = _remote(url, credential)
    row = _row_of(remote, run, call, digits)
    if not digits and not yes:
        _show(row, err=True)
        click.confirm("Let it be made?", abort=True, err=True)
    _decide(remote, row, approved=True, as_json=as_json)


@click.command("deny")
@click.argument("run")
@click.argument("call")
@hash_option
@server_options
@json_option
@global_options
def deny(run: str, call: str, digits: str, url: str | None, credential: str | None, as_json: bool) -> None:
    """Have CALL of RUN refused; the model is told, and goes on without it."""
    remote = _remote(url, credential)
    _decide(remote, _row_of(remote, run, call, digits), approved=False, as_json=as_json)


def _remote(url: str | None, credential: str | None) -> Remote:
    """The server that is meant. Raises Unavailable if there is none."""
    if not url:
        config = load_settings(resolve_secrets=False).config
        holder = None if config.store.is_postgres else holder_of(store_path(config))
        url = holder.url if holder is not None else ""
    if not url:
        raise Unavailable(
            "A call waits with the server that runs it, and no server runs on this home: name one with --url, or start"
            " one with: dragoman serve"
        )
    return Remote(url, find_credential(credential, settings().home))


def _asked(remote: Remote, ask: Callable[[Remote], Awaitable[Row]]) -> Row:
    async def work() -> Row:
        return await ask(remote)

    try:
        return asyncio.run(work())
    except BaseExceptionGroup as group:
        raise unwrapped(group) from group


async def _listed(remote: Remote) -> Row:
    return await remote.get("/api/waiting")


def _rows(answer: Row) -> list[Row]:
    rows = answer.get("approvals")
    if not isinstance(rows, list):
        raise BackendFailed("The server's answer is no list of approvals; is it a Dragoman of this version?")
    return cast("list[Row]", rows)


def _row_of(remote: Remote, run: str, call: str, digits: str) -> Row:
    """The call as it waits now. Raises NotFound if it does not, BadRequest if its arguments are others."""
    if digits and len(digits) < HASH_DIGITS_MIN:
        raise BadRequest(f"Give at least {HASH_DIGITS_MIN} digits of the hash.")
    for row in _rows(_asked(remote, _listed)):
        if (row["run"], row["call"]) == (run, call):
            if not str(row["arguments_hash"]).startswith(digits.lower()):
                raise BadRequest("The call waits with other arguments than these: see dragoman runs waiting")
            return row
    raise NotFound(
        f"No call {shorten(call)} of run {shorten(run)} waits for approval (any more): see dragoman runs waiting",
        what="approval",
    )


def _decide(remote: Remote, row: Row, *, approved: bool, as_json: bool) -> None:
    path = f"/api/runs/{quote(row['run'], safe='')}/approvals/{quote(row['call'], safe='')}"
    body = {"approved": approved, "arguments_hash": row["arguments_hash"]}
    answer = _asked(remote, lambda server: server.post(path, body))
    if as_json:
        say_json(answer)
        return
    say(f"run {row['run']}: {shorten(row['tool'])} {'approved' if approved else 'denied'}")


def _show(row: Row, *, err: bool = False) -> None:
    """Who wants what, and the arguments whole: whoever approves them must have seen them."""
    head = (
        f"{shorten(row['tool'])}  run {row['run']}  call {shorten(row['call'])}"
        f"  conversation {shorten(row['conversation'])} of {shorten(row['owner'])}"
        f"  until {stamp(row['expires_at'])} UTC"
    )
    for line in (head, f"  {exact(row['arguments'])}"):
        click.echo(line, err=err)


def _words(row: Row) -> str:
    """What is to be typed about this call; "" if that cannot be shown as it is."""
    words = shlex.join((row["run"], row["call"], "--hash", row["arguments_hash"][:HASH_DIGITS_SHOWN]))
    return words if words.isprintable() else ""
