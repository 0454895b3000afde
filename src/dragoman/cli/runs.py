"""`dragoman runs`: ls, show, cancel; waiting, approve and deny stand in `approving.py`."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.approving import approve, deny, server_options, waiting
from dragoman.cli.failing import unwrapped
from dragoman.cli.opening import acting_in, in_house, load_settings, project_of, store_path
from dragoman.cli.options import global_options, json_option, project_option, settings
from dragoman.cli.remote import Remote, find_credential
from dragoman.cli.terminal import dim, note, say, say_json, say_table
from dragoman.cli.timeline import timeline_lines
from dragoman.cli.times import fine, iso, stamp
from dragoman.core.events import dump_event
from dragoman.core.names import RunId
from dragoman.core.operations import CancelRun, ReadRun, RunView, Timeline
from dragoman.stores.sqlite.lock import holder_of

if TYPE_CHECKING:
    from dragoman.server.house import House

LIMIT_DEFAULT = 20
LIMIT_MAX = 10_000


@click.group("runs", short_help="Runs: list, look at one's timeline, stop one, approve its calls.")
def command() -> None:
    """Runs: what answers one turn of a conversation."""


for each in (waiting, approve, deny):
    command.add_command(each)


@command.command("ls")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True, help="How many.")
@project_option
@json_option
@global_options
def ls(limit: int, project: str, as_json: bool) -> None:
    """List runs, newest first."""

    async def work(house: "House") -> list[RunView]:
        return list(await house.store.runs(await project_of(house, project), limit=limit))

    found = in_house(work, writer=False)
    if as_json:
        say_json([_described(run) for run in found])
        return
    rows = [
        (
            run.id,
            run.status,
            stamp(run.started_at),
            "" if run.ended_at is None else fine(run.ended_at - run.started_at),
            str(run.epoch),
            run.conversation,
        )
        for run in found
    ]
    say_table(("ID", "STATUS", "STARTED", "TOOK", "TRIES", "CONVERSATION"), rows)
    if not found:
        note('No run yet. Start one with: dragoman ask "which files are there?"')


@command.command("show")
@click.argument("run")
@project_option
@json_option
@global_options
def show(run: str, project: str, as_json: bool) -> None:
    """Draw RUN's timeline: what it waited for, and how long."""

    async def work(house: "House") -> Timeline:
        return await house.desk.answer(await acting_in(house, project), ReadRun(RunId(run)))

    timeline = in_house(work, writer=False)
    view = timeline.run
    if as_json:
        entries = ",".join(
            f'{{"seq":{entry.seq},"at":{entry.at!r},"event":{dump_event(entry.event).decode()}}}'
            for entry in timeline.entries
        )
        say(f'{{"run":{json.dumps(_described(view), ensure_ascii=False)},"entries":[{entries}]}}')
        return
    say(dim(f"run {view.id}  conversation {view.conversation}  {view.status}  {stamp(view.started_at)} UTC"))
    for line in timeline_lines(timeline.entries):
        say(line)


@command.command("cancel")
@click.argument("run")
@server_options
@project_option
@json_option
@global_options
def cancel(run: str, url: str | None, credential: str | None, project: str, as_json: bool) -> None:
    """Stop RUN: through the server that drives it, or, if none runs, in the store."""
    config = load_settings(resolve_secrets=False).config
    if not url:
        holder = None if config.store.is_postgres else holder_of(store_path(config))
        url = holder.url if holder is not None else ""
    if url:
        remote = Remote(url, find_credential(credential, settings().home))
        try:
            answer = asyncio.run(remote.post(f"/api/runs/{run}/cancel"))
        except BaseExceptionGroup as group:
            raise unwrapped(group) from group
        status = str(answer.get("status", ""))
    else:
        status = _cancel_here(RunId(run), project).status
    if as_json:
        say_json({"id": run, "status": status})
        return
    say(f"run {run}: {status}")


def _cancel_here(run: RunId, project: str) -> RunView:
    async def work(house: "House") -> RunView:
        return await house.desk.answer(await acting_in(house, project), CancelRun(run))

    return in_house(work, writer=True)


def _described(run: RunView) -> dict[str, Any]:
    return {
        "id": run.id,
        "conversation": run.conversation,
        "status": run.status,
        "attempts": run.epoch,
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
    }
