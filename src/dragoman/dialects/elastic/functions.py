"""Functions: which tools a turn is offered and what its model is told, recalling, remembering (elastic spec 3.3)."""

from typing import Any

from dragoman.core import knowledge as core
from dragoman.core.knowledge import EntryRole, KnowledgeEntry
from dragoman.core.names import Scope
from dragoman.dialects.elastic import knowledge_shapes as shapes
from dragoman.dialects.elastic.errors import truth
from dragoman.dialects.elastic.knowledge import NOWHERE, done
from dragoman.dialects.elastic.requests import INTERNAL, body, invalid, query, uuid_of
from dragoman.wire.dialect import Parameter, Reply, Request, Route, json_reply

BASE = f"{INTERNAL}/functions"
FUNCTION_SCOPES = ("observability", "search", "all")
CATEGORY = "category"


def list_functions(request: Request) -> core.ListFunctions:
    """`scopes` is read, and leaves nothing out: the tools here belong to none of them alone."""
    scope = query(request, "scopes").get("scopes", "all")
    if scope not in FUNCTION_SCOPES:
        raise invalid("query.scopes", f"{scope[:60]!a} is none of {', '.join(FUNCTION_SCOPES)}")
    return core.ListFunctions()


def functions(found: core.FunctionList, _request: Request) -> Reply:
    definitions = tuple(
        shapes.Definition(each.name, each.description, each.parameters, each.internal) for each in found.tools
    )
    return json_reply(shapes.Functions(definitions, found.system))


def recall(request: Request) -> core.RecallEntries:
    given = body(request, shapes.Recall)
    query(request)
    return core.RecallEntries(tuple(core.Query(each.text, each.boost) for each in given.queries))


def recalled(found: core.RecalledEntries, request: Request) -> Reply:
    """Entries of other categories than the request's are left out of what was found, as upstream does not look for
    them; those without one are not."""
    categories = body(request, shapes.Recall).categories
    kept = (
        each for each in found.items if not categories or each.entry.labels.get(CATEGORY, categories[0]) in categories
    )
    return json_reply(
        shapes.RecalledEntries(
            tuple(
                shapes.Recalled(each.entry.id, each.entry.text, each.score, each.entry.title, each.entry.labels)
                for each in kept
            )
        )
    )


def summarize(request: Request) -> core.SaveEntries:
    given = body(request, shapes.Summary)
    query(request)
    if not given.text.strip():
        raise invalid("text", "must not be empty")
    return core.SaveEntries(
        (
            KnowledgeEntry(
                NOWHERE,
                uuid_of(request.nonce),
                given.text,
                given.title,
                truth(given.public),
                EntryRole.ASSISTANT,
                given.labels,
            ),
        )
    )


def _path(name: str) -> dict[str, Any]:
    return {"path": f"{BASE}{name}", "scopes": (Scope.CHAT_RUN,)}


ROUTES: tuple[Route[Any], ...] = (
    Route(
        method="GET",
        decode=list_functions,
        answer=functions,
        summary="The tools a chat is offered, and its system message",
        gives=shapes.Functions,
        asks=(Parameter("scopes", f"One of {', '.join(FUNCTION_SCOPES)}; leaves nothing out here"),),
        **_path(""),
    ),
    Route(
        method="POST",
        decode=recall,
        answer=recalled,
        summary="Search the knowledge base",
        takes=shapes.Recall,
        gives=shapes.RecalledEntries,
        **_path("/recall"),
    ),
    Route(
        method="POST",
        decode=summarize,
        answer=done,
        summary="Remember something",
        takes=shapes.Summary,
        gives=shapes.Done,
        **_path("/summarize"),
    ),
)
