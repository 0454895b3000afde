"""The functions' routes: which tools there are, recalling, remembering."""

from typing import Any, cast

import msgspec
import pytest

from dragoman.core import knowledge as core
from dragoman.core.errors import BadRequest
from dragoman.core.names import ProjectId, Scope
from dragoman.dialects.elastic.functions import ROUTES
from dragoman.wire.dialect import Request

BASE = "/internal/observability_ai_assistant/functions"
WRITE = {"kbn-xsrf": "true", "content-type": "application/json"}
LIST, RECALL, SUMMARIZE = cast("tuple[Any, Any, Any]", ROUTES)
NONCE = "00112233445566778899aabbccddeeff"


def asked(body: Any = None, headers: dict[str, str] = WRITE, query: dict[str, str] | None = None) -> Request:
    content = b"" if body is None else msgspec.json.encode(body)
    return Request("POST", BASE, {}, query or {}, headers, content, "id", NONCE, 0.0)


def found(name: str, **labels: str) -> core.Found:
    return core.Found(core.KnowledgeEntry(ProjectId("p"), name, f"About {name}.", labels=labels), 1.5)


def told(route: Any, result: Any, request: Request) -> Any:
    reply = route.answer(result, request)
    assert reply.status == 200
    return msgspec.json.decode(reply.body)


def test_the_routes_stand_in_spaces_too_and_demand_the_privilege():
    assert [(route.method, route.path.removeprefix(BASE)) for route in ROUTES] == [
        ("GET", ""),
        ("POST", "/recall"),
        ("POST", "/summarize"),
    ]
    for route in ROUTES:
        assert route.scopes == (Scope.CHAT_RUN,)


@pytest.mark.parametrize(("route", "body"), [(RECALL, {"queries": []}), (SUMMARIZE, {})])
def test_a_write_shows_that_no_page_sent_it(route: Any, body: Any):
    with pytest.raises(BadRequest, match="kbn-xsrf"):
        route.decode(asked(body, headers={}))


# -- what there is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{}, {"scopes": "observability"}, {"scopes": "search"}, {"scopes": "all"}])
def test_functions_are_asked_for_by_scope(query: dict[str, str]):
    assert LIST.decode(asked(query=query)) == core.ListFunctions()


def test_a_scope_is_one_that_there_is():
    with pytest.raises(BadRequest, match="in /query/scopes: 'mine' is none of observability, search, all"):
        LIST.decode(asked(query={"scopes": "mine"}))
    with pytest.raises(BadRequest, match="Excess keys are not allowed"):
        LIST.decode(asked(query={"scope": "all"}))


def test_I2_functions_are_told_with_the_system_message():
    tools = (
        core.FunctionShown("context", "Begins.", {"type": "object"}, True),
        core.FunctionShown("query", "Asks.", {"type": "object"}, False),
    )
    assert told(LIST, core.FunctionList(tools, "You are."), asked()) == {
        "functionDefinitions": [
            {"name": "context", "description": "Begins.", "parameters": {"type": "object"}, "isInternal": True},
            {"name": "query", "description": "Asks.", "parameters": {"type": "object"}},
        ],
        "systemMessage": "You are.",
    }


# -- recalling ---------------------------------------------------------------------------------------------------------


def test_F11_texts_are_recalled_with_their_scores():
    request = asked({"queries": [{"text": "a"}, {"text": "b", "boost": 3}]})
    assert RECALL.decode(request) == core.RecallEntries((core.Query("a"), core.Query("b", 3.0)))
    entry = core.KnowledgeEntry(ProjectId("p"), "b", "Text.", "Title", labels={"k": "v"})
    assert told(RECALL, core.RecalledEntries((found("a"), core.Found(entry, 0.5))), request) == {
        "entries": [
            {"id": "a", "text": "About a.", "esScore": 1.5},
            {"id": "b", "text": "Text.", "esScore": 0.5, "title": "Title", "labels": {"k": "v"}},
        ]
    }


def test_entries_of_other_categories_are_left_out():
    items = (found("a", category="x"), found("b", category="y"), found("c", category="z"), found("d"))
    request = asked({"queries": [], "categories": ["x", "y"]})
    entries = told(RECALL, core.RecalledEntries(items), request)["entries"]
    assert [entry["id"] for entry in entries] == ["a", "b", "d"]


@pytest.mark.parametrize("queries", ["a", '["a"]', "[{}]", '[{"text": "a", "boost": "high"}]'])
def test_a_search_that_is_none_is_refused(queries: str):
    request = Request("POST", BASE, {}, {}, WRITE, f'{{"queries": {queries}}}'.encode(), "id", NONCE, 0.0)
    with pytest.raises(BadRequest, match="Failed to validate"):
        RECALL.decode(request)


# -- remembering -------------------------------------------------------------------------------------------------------


def test_what_is_to_be_remembered_is_given_an_id():
    given = {"title": "t", "text": "x", "public": False, "labels": {"k": "v"}}
    assert SUMMARIZE.decode(asked(given)) == core.SaveEntries(
        (
            core.KnowledgeEntry(
                ProjectId(""),
                "00112233-4455-4677-8899-aabbccddeeff",
                "x",
                "t",
                False,
                core.EntryRole.ASSISTANT,
                {"k": "v"},
            ),
        )
    )
    assert told(SUMMARIZE, core.KnowledgeKept(1), asked(given)) == {}


def test_older_callers_may_say_how_sure_they_are():
    given = {"title": "t", "text": "x", "public": "true", "confidence": "low", "is_correction": False}
    (entry,) = SUMMARIZE.decode(asked(given)).entries
    assert entry.public


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": ""}, "in /text: must not be empty"),
        ({"title": 1}, "in /title: "),
        ({"nonsense": 1}, "Excess keys are not allowed:\nnonsense"),
    ],
)
def test_what_cannot_be_remembered_is_refused(change: Any, said: str):
    with pytest.raises(BadRequest) as caught:
        SUMMARIZE.decode(asked({"title": "t", "text": "x", "public": True} | change))
    assert said in caught.value.detail
