"""The knowledge base: entries, standing instructions, and what callers ask of its set-up (elastic spec 3.4).

Ours searches by words and needs no model: it is always ready. Nothing is to be installed, warmed up or indexed again;
who asks for it is told what is so, as often as they ask. `INFERENCE_ID` is the name it goes by where this wire has that
of a model.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dragoman.core import knowledge as core
from dragoman.core.errors import BadRequest
from dragoman.core.names import ProjectId, Scope
from dragoman.core.operations import Operation
from dragoman.dialects.elastic import knowledge_shapes as shapes
from dragoman.dialects.elastic.errors import truth
from dragoman.dialects.elastic.messages import iso
from dragoman.dialects.elastic.requests import INTERNAL, body, invalid, query, write
from dragoman.wire.dialect import Parameter, Reply, Request, Route, json_reply

BASE = f"{INTERNAL}/kb"
SCOPES = (Scope.CHAT_RUN,)
INFERENCE_ID = "dragoman-word-search"
LISTED_MAX = 500
SORTS: Mapping[str, str] = {
    "title": "title",
    "@timestamp": "updated_at",
    "id": "id",
    "doc_id": "id",
    "role": "role",
    "public": "public",
}
DIRECTIONS = ("asc", "desc")
NOWHERE = ProjectId("")
"""Project of an entry that is to be saved: the server fills it in."""


# -- set-up ------------------------------------------------------------------------------------------------------------


def plain(request: Request) -> core.ReadKnowledgeStatus:
    """A question about the knowledge base that needs nothing said."""
    query(request)
    return core.ReadKnowledgeStatus()


def for_endpoint(request: Request) -> core.ReadKnowledgeStatus:
    """A write that must name an inference endpoint."""
    write(request)
    if not query(request, "inference_id", "wait_until_complete").get("inference_id"):
        raise missing("inference_id")
    return core.ReadKnowledgeStatus()


def upkeep(request: Request) -> core.ReadKnowledgeStatus:
    """A write that names nothing; callers of some versions name the endpoint all the same."""
    write(request)
    query(request, "inference_id")
    return core.ReadKnowledgeStatus()


def status(_status: core.KnowledgeStatus, _request: Request) -> Reply:
    """Product documentation is nothing that this server has."""
    return json_reply(
        shapes.KnowledgeBaseStatus(
            enabled=True,
            inferenceModelState="READY",
            kbState="READY",
            currentInferenceId=INFERENCE_ID,
            concreteWriteIndex="dragoman-knowledge",
            isReIndexing=False,
            productDocStatus="uninstalled",
        )
    )


def set_up(_status: core.KnowledgeStatus, _request: Request) -> Reply:
    return json_reply(shapes.SetUp(reindex=False, currentInferenceId=INFERENCE_ID, nextInferenceId=INFERENCE_ID))


def reindexed(_status: core.KnowledgeStatus, _request: Request) -> Reply:
    return json_reply(shapes.Reindexed(True))


def endpoints(_status: core.KnowledgeStatus, _request: Request) -> Reply:
    own = shapes.InferenceEndpoint(INFERENCE_ID, "sparse_embedding", "dragoman", {})
    return json_reply(shapes.InferenceEndpoints((own,)))


def done(_result: object, _request: Request) -> Reply:
    return json_reply(shapes.Done())


# -- entries -----------------------------------------------------------------------------------------------------------


def listing(request: Request) -> core.ListEntries:
    """All three fields must be there, although the first may be empty."""
    fields = query(request, "query", "sortBy", "sortDirection")
    for name in ("query", "sortBy", "sortDirection"):
        if name not in fields:
            raise missing(name)
    sort, direction = fields["sortBy"], fields["sortDirection"]
    if sort not in SORTS:
        raise invalid("query.sortBy", f"{_shown(sort)} is none of {', '.join(SORTS)}")
    if direction not in DIRECTIONS:
        raise invalid("query.sortDirection", f"{_shown(direction)} is none of {', '.join(DIRECTIONS)}")
    return core.ListEntries(fields["query"], SORTS[sort], direction == "desc", LISTED_MAX)


def save(request: Request) -> core.SaveEntries:
    given = body(request, shapes.GivenEntry)
    query(request)
    return core.SaveEntries((entry_of(given, ""),))


def bring(request: Request) -> core.SaveEntries:
    """Several at once."""
    given = body(request, shapes.GivenEntries).entries
    query(request)
    return core.SaveEntries(tuple(entry_of(each, f"entries.{at}.") for at, each in enumerate(given)))


def deletion(request: Request) -> core.DeleteEntry:
    write(request)
    query(request)
    return core.DeleteEntry(request.params["entryId"])


def entry_of(given: shapes.GivenEntry, place: str) -> core.KnowledgeEntry:
    for name, text in (("id", given.id), ("text", given.text)):
        if not text.strip():
            raise invalid(f"{place}{name}", "must not be empty")
    return core.KnowledgeEntry(
        NOWHERE, given.id, given.text, given.title, truth(given.public), shapes.ROLES_MEANT[given.role], given.labels
    )


def entries(found: core.EntryPage, _request: Request) -> Reply:
    return json_reply(shapes.Entries(tuple(map(_entry, found.items))))


def _entry(entry: core.KnowledgeEntry) -> shapes.Entry:
    author = {"user": shapes.Author(entry.owner_name)} if entry.owner_name else {}
    return shapes.Entry(
        timestamp=iso(entry.updated_at),
        id=entry.id,
        text=entry.text,
        type="contextual",
        public=entry.public,
        labels=entry.labels,
        role=shapes.ROLES[entry.role],
        title=entry.title,
        **author,
    )


# -- instructions ------------------------------------------------------------------------------------------------------


def list_instructions(request: Request) -> core.ListInstructions:
    query(request)
    return core.ListInstructions()


def put_instruction(request: Request) -> core.PutInstruction:
    given = body(request, shapes.UserInstruction)
    query(request)
    for name, text in (("id", given.id), ("text", given.text)):
        if not text.strip():
            raise invalid(name, "must not be empty")
    return core.PutInstruction(given.id, given.text, truth(given.public))


def instructions(found: core.InstructionList, _request: Request) -> Reply:
    return json_reply(
        shapes.UserInstructions(tuple(shapes.UserInstruction(each.id, each.text, each.public) for each in found.items))
    )


# -- the routes --------------------------------------------------------------------------------------------------------


def missing(name: str) -> BadRequest:
    return invalid(f"query.{name}", "undefined does not match expected type string")


def _shown(text: str) -> str:
    return ascii(text[:60])


def _row(
    method: str,
    path: str,
    decode: Callable[[Request], Operation[Any]],
    answer: Callable[[Any, Request], Reply],
    summary: str,
    **more: Any,
) -> Route[Any]:
    path = f"{BASE}/{path}"
    return Route(method, path, decode, answer=answer, scopes=SCOPES, summary=summary, **more)


_ENDPOINT = (
    Parameter("inference_id", "Any inference endpoint; this server needs none", required=True),
    Parameter("wait_until_complete", "Means nothing here: there is nothing to wait for"),
)
_LISTING = (
    Parameter("query", "Part of a title or id; empty = all", required=True),
    Parameter("sortBy", f"One of {', '.join(SORTS)}", required=True),
    Parameter("sortDirection", "asc or desc", required=True),
)

ROUTES: tuple[Route[Any], ...] = (
    _row("GET", "status", plain, status, "State of the knowledge base", gives=shapes.KnowledgeBaseStatus),
    _row("POST", "setup", for_endpoint, set_up, "Set the knowledge base up", gives=shapes.SetUp, asks=_ENDPOINT),
    _row("POST", "warmup_model", for_endpoint, done, "Warm its model up", gives=shapes.Done, asks=_ENDPOINT),
    _row("POST", "reindex", upkeep, reindexed, "Index all entries again", gives=shapes.Reindexed),
    _row("POST", "migrations/startup", upkeep, done, "Bring old entries up to date", gives=shapes.Done),
    _row("GET", "inference_endpoints", plain, endpoints, "What it can search with", gives=shapes.InferenceEndpoints),
    _row(
        "GET",
        "user_instructions",
        list_instructions,
        instructions,
        "Standing instructions: yours, and the public ones",
        gives=shapes.UserInstructions,
    ),
    _row(
        "PUT",
        "user_instructions",
        put_instruction,
        done,
        "Set your private, or your public, instruction",
        takes=shapes.UserInstruction,
        gives=shapes.Done,
    ),
    _row("GET", "entries", listing, entries, "Entries", gives=shapes.Entries, asks=_LISTING),
    _row("POST", "entries/save", save, done, "Save an entry", takes=shapes.GivenEntry, gives=shapes.Done),
    _row("POST", "entries/import", bring, done, "Save several entries", takes=shapes.GivenEntries, gives=shapes.Done),
    _row("DELETE", "entries/{entryId:path}", deletion, done, "Delete an entry", gives=shapes.Done),
)
