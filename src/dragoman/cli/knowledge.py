"""`dragoman knowledge`: ls, import, export, rm.

Files are NDJSON: one entry a line, `{"id", "title", "text"}` as Kibana's bulk import has them, and what `export` adds.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct, field

from dragoman.cli.conversations import write_whole
from dragoman.cli.failing import exit_code
from dragoman.cli.opening import acting_in, in_house, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.terminal import note, progress, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import BadRequest
from dragoman.core.knowledge import DeleteEntry, EntryRole, KnowledgeEntry
from dragoman.core.names import Principal
from dragoman.runtime.knowledge import ENTRIES_MAX, check_entry
from dragoman.runtime.knowledge_rules import check_entries

if TYPE_CHECKING:
    from dragoman.server.house import House

FILE_BYTES_MAX = 512 * 1024 * 1024
BATCH = 200
"""Entries of one transaction, the step of the progress that is shown."""
BOM = b"\xef\xbb\xbf"


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file. `updated_at` is written and not read: the store says when."""

    id: str
    text: str
    title: str = ""
    public: bool = True
    role: EntryRole = EntryRole.USER
    labels: dict[str, str] = field(default_factory=dict[str, str])
    owner: str = ""
    """Of whom a private entry is; "" of a public one = whoever imports it."""
    owner_name: str = ""
    updated_at: str = ""


@click.group("knowledge", short_help="Knowledge: list, import, export, delete what assistants can recall.")
def command() -> None:
    """Knowledge: texts that assistants look up before they answer, in whichever way they were saved."""


@command.command("ls")
@click.argument("text", default="")
@project_option
@json_option
@global_options
def ls(text: str, project: str, as_json: bool) -> None:
    """List entries by title; with TEXT those in whose title or id it stands."""

    async def work(house: "House") -> list[KnowledgeEntry]:
        where = await project_of(house, project)
        return list(await house.store.knowledge.page(where, containing=text, limit=ENTRIES_MAX))

    found = in_house(work, writer=False)
    if as_json:
        say_json([msgspec.to_builtins(_line(entry)) for entry in found])
        return
    rows = [
        (entry.id, entry.title, "everybody" if entry.public else entry.owner, stamp(entry.updated_at), str(entry.role))
        for entry in found
    ]
    say_table(("ID", "TITLE", "FOR", "UPDATED", "FROM"), rows)
    if not found:
        note("No entry. Take some in with: dragoman knowledge import FILE")


@command.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, allow_dash=True))
@project_option
@json_option
@global_options
def import_(files: tuple[Path, ...], project: str, as_json: bool) -> int:
    """Take entries in from FILES of NDJSON, one {"id", "title", "text"} a line; - = from stdin.

    An entry whose id is there already is written over. Faulty lines are named and left out.
    """
    faults: list[dict[str, Any]] = []
    kept = 0
    worst = 0

    async def work(house: "House") -> None:
        nonlocal kept, worst
        principal = await acting_in(house, project)
        for file in files:
            lines = _read(file).removeprefix(BOM).splitlines()
            entries: dict[str, KnowledgeEntry] = {}
            with progress(f"read {file}", total=len(lines)) as bar:
                for number, line in enumerate(lines, start=1):
                    bar.step()
                    if not line.strip():
                        continue
                    try:
                        entry = entry_of(line, principal)
                    except BadRequest as error:
                        worst = exit_code(error)
                        faults.append({"file": str(file), "line": number, "error": error.detail})
                    else:
                        entries[entry.id] = entry
            kept += await _keep(house, list(entries.values()), str(file))

    in_house(work, writer=False)
    if as_json:
        say_json({"entries": kept, "faults": faults})
        return worst
    for fault in faults:
        click.echo(f"dragoman: {fault['file']}:{fault['line']}: {fault['error']}", err=True)
    say(f"{kept} entries are in the knowledge base" + (f"; {len(faults)} lines were left out." if faults else "."))
    return worst


@command.command("export")
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Else to stdout.")
@project_option
@json_option
@global_options
def export(to: Path | None, project: str, as_json: bool) -> None:
    """Write all entries as NDJSON, private ones of everybody included; `import` reads it."""

    async def work(house: "House") -> list[KnowledgeEntry]:
        where = await project_of(house, project)
        return list(await house.store.knowledge.page(where, sort="id", limit=ENTRIES_MAX))

    found = in_house(work, writer=False)
    body = b"".join(msgspec.json.encode(_line(entry)) + b"\n" for entry in found)
    if to is None:
        sys.stdout.buffer.write(body)
        return
    write_whole(to, body)
    if as_json:
        say_json({"file": str(to), "entries": len(found)})
        return
    say(f"{len(found)} entries are in {to}")


@command.command("rm")
@click.argument("entry")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
@global_options
def rm(entry: str, yes: bool, project: str, as_json: bool) -> None:
    """Delete the entry with the id ENTRY."""
    if not yes:
        click.confirm(f"Delete the knowledge entry {entry} for good?", abort=True, err=True)

    async def work(house: "House") -> None:
        await house.desk.answer(await acting_in(house, project), DeleteEntry(entry))

    in_house(work, writer=False)
    if as_json:
        say_json({"id": entry, "deleted": True})
        return
    say(f"{entry} is deleted.")


def entry_of(line: bytes, principal: Principal) -> KnowledgeEntry:
    """One line of a file as an entry of the principal's project. Raises BadRequest."""
    try:
        given = msgspec.json.decode(line, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = str(error).replace("`", "").replace("Object ", "the object ")
        raise BadRequest(f"this is no knowledge entry: {said}.") from None
    if not given.public and not given.owner:
        raise BadRequest('a private entry must say whose it is: add "owner", or "public": true.')
    entry = KnowledgeEntry(
        principal.project,
        given.id,
        given.text,
        given.title,
        given.public,
        given.role,
        given.labels,
        given.owner or principal.owner,
        given.owner_name if given.owner else principal.name,
    )
    check_entry(entry)
    check_entries([entry])
    return entry


async def _keep(house: "House", entries: list[KnowledgeEntry], what: str) -> int:
    """Write them, BATCH at a time. Raises Conflict; what was written before it stays."""
    with progress(f"kept of {what}", total=len(entries)) as bar:
        for at in range(0, len(entries), BATCH):
            batch = entries[at : at + BATCH]
            await house.knowledge.keep(batch)
            bar.step(len(batch))
    return len(entries)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        body = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        if len(body) > FILE_BYTES_MAX:
            raise _too_large("what came from stdin")
        return body
    if file.is_dir():
        raise BadRequest(f"{file} is a folder; name the files in it.")
    if file.stat().st_size > FILE_BYTES_MAX:
        raise _too_large(str(file))
    return file.read_bytes()


def _too_large(what: str) -> BadRequest:
    return BadRequest(f"{what} is larger than {FILE_BYTES_MAX} bytes; split it.")


def _line(entry: KnowledgeEntry) -> Line:
    return Line(
        entry.id,
        entry.text,
        entry.title,
        entry.public,
        entry.role,
        entry.labels,
        entry.owner,
        entry.owner_name,
        iso(entry.updated_at) or "",
    )
