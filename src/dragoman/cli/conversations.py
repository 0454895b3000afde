"""`dragoman conversations`: ls, show, export, import, rm."""

import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from dragoman.cli.failing import exit_code
from dragoman.cli.opening import acting_in, in_house, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.report import first_line, size_of
from dragoman.cli.terminal import dim, note, printable, progress, say, say_json, say_table, shorten
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import BadRequest, DragomanError, NotFound
from dragoman.core.events import MessagesImported
from dragoman.core.messages import Message, ToolResult
from dragoman.core.names import ConversationId
from dragoman.core.operations import (
    ConversationInfo,
    ConversationPage,
    ConversationView,
    DeleteConversation,
    ListConversations,
    ReadConversation,
)
from dragoman.core.transcript import ended_well
from dragoman.wire.dialect import LoadedConversation

if TYPE_CHECKING:
    from dragoman.server.house import House

OWN_FORMAT = "json"
FILE_BYTES_MAX = 256 * 1024 * 1024
DIGEST_DIGITS = 32
HEAD_CHARS_MAX = 300

_PLAIN_KEY = re.compile(r"(?!key-)[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,127}")

Name = Callable[[ConversationId], str]
Dump = Callable[[ConversationView], bytes]
Load = Callable[[bytes], LoadedConversation]


class Format(Struct, frozen=True):
    """How whole conversations are written to files and read from them."""

    name: Name
    dump: Dump
    load: Load


@click.group("conversations", short_help="Conversations: list, read, export, import, delete.")
def command() -> None:
    """Conversations: threads of turns, in whichever dialect they were held."""


@command.command("ls")
@click.option("--after", default="", metavar="KEY", help="Begin after this one.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="How many; 0 = all.")
@project_option
@json_option
@global_options
def ls(after: str, limit: int, project: str, as_json: bool) -> None:
    """List conversations, in order of their keys."""

    async def work(house: "House") -> ConversationPage:
        operation = ListConversations(after=after, limit=limit)
        return await house.desk.answer(await acting_in(house, project), operation)

    page = in_house(work, writer=False)
    if as_json:
        say_json([_described(info) for info in page.items])
        return
    rows = [
        (
            info.id,
            str(info.messages),
            str(info.turns),
            stamp(info.updated_at),
            info.origin,
            info.owner,
            _state(info),
            info.title,
        )
        for info in page.items
    ]
    say_table(("KEY", "MESSAGES", "TURNS", "UPDATED", "FROM", "OWNER", "STATE", "TITLE"), rows)
    if page.next:
        note(f"More follow: dragoman conversations ls --after {page.next} --limit {limit}")
    if not page.items:
        note('No conversation yet. Begin one with: dragoman ask "which files are there?"')


@command.command("show")
@click.argument("key")
@project_option
@json_option
@global_options
def show(key: str, project: str, as_json: bool) -> None:
    """Print the conversation KEY: who said what, and which tools were called."""
    view = in_house(lambda house: _read(house, key, project), writer=False)
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(view), indent=2).decode())
        return
    info = view.info
    whose = f"  of {info.owner}" if info.owner else ""
    head = f"{info.id}  {info.messages} messages  begun {stamp(info.created_at)} UTC{whose}  {_state(info)}"
    say(dim(shorten(f"{head.rstrip()}  {info.title}".rstrip(), chars_max=HEAD_CHARS_MAX)))
    for turn in view.turns:
        for message in (*turn.asked, *turn.answered):
            for line in spoken(message):
                say(line)
        if not ended_well(turn):
            say(dim(f"  (run {turn.run}: {'still running' if turn.end is None else 'failed'})"))


@command.command("export")
@click.argument("key")
@click.option(
    "--format", "format_name", default=OWN_FORMAT, show_default=True, metavar="NAME", help="json, or a dialect's."
)
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write a file there; else to stdout."
)
@project_option
@json_option
@global_options
def export(key: str, format_name: str, to: Path | None, project: str, as_json: bool) -> None:
    """Write the conversation KEY as a file, for keeping or for another system."""

    async def work(house: "House") -> tuple[str, bytes]:
        form = format_of(house, format_name)
        view = await _read(house, key, project)
        return form.name(view.info.id), form.dump(view)

    name, body = in_house(work, writer=False)
    if to is None:
        sys.stdout.buffer.write(body)
        if sys.stdout.isatty():
            say()
        return
    to.mkdir(parents=True, exist_ok=True)
    path = to / name
    write_whole(path, body)
    if as_json:
        say_json({"conversation": key, "file": str(path), "bytes": len(body)})
        return
    say(str(path))


@command.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--format", "format_name", default=OWN_FORMAT, show_default=True, metavar="NAME", help="json, or a dialect's."
)
@project_option
@json_option
@global_options
def import_(paths: tuple[Path, ...], format_name: str, project: str, as_json: bool) -> int:
    """Take conversations in from files, or from all files of a folder. One whose key exists already is left alone."""
    files = [
        file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else (path,)) if file.is_file()
    ]
    outcomes: list[dict[str, Any]] = []
    worst = 0

    async def work(house: "House") -> None:
        nonlocal worst
        form = format_of(house, format_name)
        with progress("imported", total=len(files)) as bar:
            for file in files:
                try:
                    info = await _take_in(house, _load(form, file), project)
                except DragomanError as error:
                    worst = worst or exit_code(error)
                    outcomes.append({"file": str(file), "error": error.detail})
                else:
                    outcomes.append({"file": str(file), "conversation": info.id, "messages": info.messages})
                bar.step()

    in_house(work, writer=True)
    if as_json:
        say_json(outcomes)
        return worst
    for outcome in outcomes:
        if "error" in outcome:
            click.echo(f"dragoman: {outcome['file']}: {outcome['error']}", err=True)
        else:
            say(f"{outcome['conversation']}  {outcome['messages']} messages  from {outcome['file']}")
    return worst


@command.command("rm")
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
@global_options
def rm(key: str, yes: bool, project: str, as_json: bool) -> None:
    """Delete the conversation KEY with its runs. There is no way back."""
    if not yes:
        click.confirm(f"Delete the conversation {key} for good?", abort=True, err=True)

    async def work(house: "House") -> None:
        operation = DeleteConversation(ConversationId(key))
        await house.desk.answer(await acting_in(house, project), operation)

    in_house(work, writer=True)
    if as_json:
        say_json({"id": key, "deleted": True})
        return
    say(f"{key} is deleted.")


# -- formats -------------------------------------------------------------------------------------------------------


def format_of(house: "House", name: str) -> Format:
    """Our own format, or that of a dialect's conversation files. Raises NotFound naming those there are."""
    if name == OWN_FORMAT:
        return Format(own_name, dump_own, load_own)
    for dialect in house.dialects:
        if dialect.name == name and dialect.files is not None:
            return Format(dialect.files.name, dialect.files.dump, dialect.files.load)
    known = [OWN_FORMAT, *(dialect.name for dialect in house.dialects if dialect.files is not None)]
    raise NotFound(f"There is no file format {name}; known are: {', '.join(known)}", what="format")


def own_name(conversation: ConversationId) -> str:
    """A file name for any key, another for each: the key itself, or a digest of it where a file system might object."""
    if _PLAIN_KEY.fullmatch(conversation):
        return f"{conversation}.json"
    return f"key-{hashlib.sha256(conversation.encode()).hexdigest()[:DIGEST_DIGITS]}.json"


def dump_own(view: ConversationView) -> bytes:
    return msgspec.json.format(msgspec.json.encode(view), indent=1) + b"\n"


def load_own(body: bytes) -> LoadedConversation:
    """What `dump_own` wrote, as messages. Turns that failed or never ended are left out, as a model would not see
    them either. Raises BadRequest."""
    try:
        view = msgspec.json.decode(body, type=ConversationView)
    except msgspec.DecodeError as error:
        raise BadRequest(f"This is no conversation as `dragoman conversations export` writes it: {error}.") from error
    messages = tuple(message for turn in view.turns if ended_well(turn) for message in (*turn.asked, *turn.answered))
    source = view.info.origin or "export"
    return LoadedConversation(
        view.info.id, MessagesImported(messages, source), view.info.created_at, view.info.updated_at
    )


def _load(form: Format, file: Path) -> LoadedConversation:
    if file.stat().st_size > FILE_BYTES_MAX:
        raise BadRequest(f"The file is larger than {FILE_BYTES_MAX} bytes; that is no conversation.")
    return form.load(file.read_bytes())


async def _take_in(house: "House", loaded: LoadedConversation, project: str) -> ConversationInfo:
    return await house.conversations.take_in(
        await project_of(house, project),
        loaded.id,
        loaded.imported,
        created_at=loaded.created_at,
        updated_at=loaded.updated_at,
    )


async def _read(house: "House", key: str, project: str) -> ConversationView:
    operation = ReadConversation(ConversationId(key))
    return await house.desk.answer(await acting_in(house, project), operation)


def write_whole(path: Path, body: bytes) -> None:
    """The whole file or none."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(body)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


# -- for people ----------------------------------------------------------------------------------------------------


def spoken(message: Message) -> list[str]:
    """A message as lines: the text after who said it; calls and results, one line each."""
    lines: list[str] = []
    if message.text:
        lines.append(f"{click.style(message.name or message.role, bold=True)}: {printable(message.text)}")
    lines.extend(dim(f"  {call.name}  {shorten(call.arguments)}") for call in message.calls)
    for part in message.parts:
        if isinstance(part, ToolResult):
            what = first_line(part.content) if part.is_error else size_of(part.content)
            lines.append(dim(f"  {'failed: ' if part.is_error else ''}{what}"))
    return lines


def _state(info: ConversationInfo) -> str:
    """What is not as usual."""
    states = (("answering", info.live_run is not None), ("shared", info.shared), ("archived", info.archived))
    return " ".join(name for name, holds in states if holds)


def _described(info: ConversationInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "title": info.title,
        "origin": info.origin,
        "messages": info.messages,
        "turns": info.turns,
        "created_at": iso(info.created_at),
        "updated_at": iso(info.updated_at),
        "live_run": info.live_run,
        "owner": info.owner,
        "shared": info.shared,
        "archived": info.archived,
    }
