"""`dragoman sources`: create, add, ls, set, rm.

Files are text or Markdown, in UTF-8. What is in another form is refused with what to do about it.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.opening import in_house, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.terminal import note, say, say_json, say_table
from dragoman.cli.times import iso, stamp
from dragoman.core.errors import BadRequest, DragomanError
from dragoman.core.sources import Document, Source
from dragoman.runtime.sources import DOCUMENT_CHARS_MAX, TITLE_CHARS_MAX, check_document

if TYPE_CHECKING:
    from dragoman.server.house import House

FILE_BYTES_MAX = 4 * DOCUMENT_CHARS_MAX

_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*[ \t\r]*$", re.MULTILINE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNREADABLE = {
    ".pdf": "a PDF",
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf"), "a document of a word processor"),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".ppt", ".pptx"), "an office document"),
}

TEXT = click.option("--text", "texts", multiple=True, metavar="TEXT", help="A document's text itself.")


@click.group("sources", short_help="Sources: documents in which agents of workflows search.")
def command() -> None:
    """Sources: documents of a project. An agent of a workflow searches in those that it names, by their ids."""


@command.command("create")
@click.argument("name")
@click.argument("files", nargs=-1)
@TEXT
@click.option("--description", default="", help="What is in it, for people.")
@click.option("--id", "source_id", default="", metavar="ID", help="24 hex digits that a workflow names; else new ones.")
@project_option
@json_option
@global_options
def create(
    name: str,
    files: tuple[str, ...],
    texts: tuple[str, ...],
    description: str,
    source_id: str,
    project: str,
    as_json: bool,
) -> None:
    """Make a source called NAME, of FILES of text or Markdown."""
    documents = _documents(files, texts)

    async def work(house: "House") -> tuple[Source, tuple[str, ...]]:
        where = await project_of(house, project)
        made = await house.sources.create(where, name, description, source_id=source_id)
        try:
            ids = await house.sources.add(where, made.id, documents)
        except DragomanError:
            await house.sources.remove(where, made.id)  # so that the same command can be given again
            raise
        return made, ids

    made, ids = in_house(work, writer=False)
    if as_json:
        say_json({**_described(made), "documents": _listed(documents, ids)})
        return
    say(f"{made.name}  id {made.id}  {len(ids)} documents")


@command.command("add")
@click.argument("source")
@click.argument("files", nargs=-1)
@TEXT
@project_option
@json_option
@global_options
def add(source: str, files: tuple[str, ...], texts: tuple[str, ...], project: str, as_json: bool) -> None:
    """Add FILES of text or Markdown to the source with the id SOURCE."""
    documents = _documents(files, texts)
    if not documents:
        raise BadRequest("Say what to add: files, or --text.")

    async def work(house: "House") -> tuple[str, ...]:
        return await house.sources.add(await project_of(house, project), source, documents)

    ids = in_house(work, writer=False)
    if as_json:
        say_json({"id": source, "documents": _listed(documents, ids)})
        return
    say(f"{len(ids)} documents are in {source}.")


@command.command("ls")
@project_option
@json_option
@global_options
def ls(project: str, as_json: bool) -> None:
    """List sources, oldest first."""

    async def work(house: "House") -> tuple[Source, ...]:
        return await house.sources.page(await project_of(house, project))

    found = in_house(work, writer=False)
    if as_json:
        say_json([_described(source) for source in found])
        return
    rows = [
        (each.id, each.name, str(each.documents), "" if each.active else "not searched", stamp(each.created_at))
        for each in found
    ]
    say_table(("ID", "NAME", "DOCUMENTS", "STATE", "CREATED"), rows)
    if not found:
        note("No source yet. Make one with: dragoman sources create NAME FILE…")


@command.command("set")
@click.argument("source")
@click.option("--active/--inactive", required=True, help="Whether agents search in it.")
@project_option
@json_option
@global_options
def set_(source: str, active: bool, project: str, as_json: bool) -> None:
    """Say whether the source with the id SOURCE is searched."""

    async def work(house: "House") -> Source:
        where = await project_of(house, project)
        return await house.sources.set_active(where, source, active=active)

    found = in_house(work, writer=False)
    if as_json:
        say_json(_described(found))
        return
    say(f"{found.name} ({found.id}) is {'searched' if active else 'kept, and not searched'}.")


@command.command("rm")
@click.argument("source")
@click.option("--yes", is_flag=True, help="Do not ask.")
@project_option
@json_option
@global_options
def rm(source: str, yes: bool, project: str, as_json: bool) -> None:
    """Delete the source with the id SOURCE, and all its documents."""
    if not yes:
        click.confirm(f"Delete the source {source} with its documents for good?", abort=True, err=True)

    async def work(house: "House") -> None:
        await house.sources.remove(await project_of(house, project), source)

    in_house(work, writer=False)
    if as_json:
        say_json({"id": source, "deleted": True})
        return
    say(f"{source} is deleted.")


def _documents(files: tuple[str, ...], texts: tuple[str, ...]) -> list[Document]:
    """Raises BadRequest naming the file that cannot be one."""
    found = [_read(file) for file in files]
    found += [Document(_title(text, f"text {number}"), text) for number, text in enumerate(texts, start=1)]
    return [check_document(document) for document in found]


def _read(given: str) -> Document:
    if _URL.match(given):
        raise BadRequest(f"{given}: pages are not fetched. Save it as text or Markdown, and give the file.")
    file = Path(given)
    kind = _UNREADABLE.get(file.suffix.lower())
    if kind is not None:
        raise BadRequest(f"{given}: {kind} is not read here. Turn it into text or Markdown first, and give that.")
    if file.is_dir():
        raise BadRequest(f"{given} is a folder; name the files in it.")
    if not file.exists():
        raise BadRequest(f"There is no file {given}.")
    if file.stat().st_size > FILE_BYTES_MAX:
        raise BadRequest(f"{given} is larger than {FILE_BYTES_MAX} bytes; split it.")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest(f"{given} is no text in UTF-8; save it in that encoding.") from None
    if "\0" in text:
        raise BadRequest(f"{given} is no text: it has NUL characters in it.")
    heading = file.suffix.lower() in (".md", ".markdown")
    return Document(_title(text, file.name) if heading else file.name[:TITLE_CHARS_MAX], text, file.name)


def _title(text: str, otherwise: str) -> str:
    heading = _HEADING.search(text)
    return (heading[1] if heading else otherwise)[:TITLE_CHARS_MAX]


def _listed(documents: list[Document], ids: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"id": document_id, "title": document.title, "name": document.name or None}
        for document, document_id in zip(documents, ids, strict=True)
    ]


def _described(source: Source) -> dict[str, Any]:
    return {
        "id": source.id,
        "name": source.name,
        "description": source.description,
        "documents": source.documents,
        "active": source.active,
        "created_at": iso(source.created_at),
    }
