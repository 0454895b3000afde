"""The knowledge base's routes: what they ask for, and what they tell."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from dragoman.core import knowledge as core
from dragoman.core.errors import BadRequest, NotFound
from dragoman.core.names import ProjectId, Scope
from dragoman.dialects.elastic import errors
from dragoman.dialects.elastic.knowledge import ROUTES, SORTS
from dragoman.wire.dialect import Reply, Request, Route

BASE = "/internal/observability_ai_assistant/kb/"
WRITE = {"kbn-xsrf": "true", "content-type": "application/json"}
BY_NAME: Mapping[tuple[str, str], Route[Any]] = {
    (route.method, route.path.removeprefix(BASE).replace(":path", "")): route for route in ROUTES
}
ENTRY = core.KnowledgeEntry(
    ProjectId("p"), "a", "Blue.", "Colour", False, core.EntryRole.ASSISTANT, {"k": "v"}, "ann", "Ann", 1_700_000_000.5
)


def asked(method: str, path: str, body: Any = None, **query: str) -> Request:
    content = b"" if body is None else msgspec.json.encode(body)
    headers = {} if method == "GET" else WRITE
    return Request(method, BASE + path, {}, query, headers, content, "id", "0" * 32, 0.0)


def decoded(method: str, path: str, body: Any = None, **query: str) -> Any:
    return BY_NAME[method, path].decode(asked(method, path, body, **query))


def answered(method: str, path: str, result: Any) -> Any:
    answer = BY_NAME[method, path].answer
    assert answer is not None
    reply: Reply = answer(result, asked(method, path))
    assert reply.status == 200
    return msgspec.json.decode(reply.body)


def test_K8_each_route_demands_the_privilege():
    assert len(BY_NAME) == len(ROUTES) == 12
    for route in ROUTES:
        assert route.scopes == (Scope.CHAT_RUN,)


@pytest.mark.parametrize(("method", "path"), [key for key in BY_NAME if key[0] != "GET"])
def test_a_write_shows_that_no_page_sent_it(method: str, path: str):
    request = Request(method, BASE + path, {"entryId": "a"}, {"inference_id": "x"}, {}, b"{}", "id", "0" * 32, 0.0)
    with pytest.raises(BadRequest, match="kbn-xsrf"):
        BY_NAME[method, path].decode(request)


@pytest.mark.parametrize(("method", "path"), list(BY_NAME))
def test_D15_queries_are_strict(method: str, path: str):
    fields = {"query": "", "sortBy": "title", "sortDirection": "asc", "inference_id": "x"}
    body: dict[str, Any] = {"entries": []} if path == "entries/import" else {"id": "a", "text": "b", "public": True}
    with pytest.raises(BadRequest, match="Excess keys are not allowed"):
        decoded(method, path, body, **fields, nonsense="1")


# -- set-up ------------------------------------------------------------------------------------------------------------


def test_K7_it_is_always_ready():
    assert decoded("GET", "status") == core.ReadKnowledgeStatus()
    assert answered("GET", "status", core.KnowledgeStatus(3)) == {
        "enabled": True,
        "inferenceModelState": "READY",
        "kbState": "READY",
        "currentInferenceId": "dragoman-word-search",
        "concreteWriteIndex": "dragoman-knowledge",
        "isReIndexing": False,
        "productDocStatus": "uninstalled",
    }


@pytest.mark.parametrize("path", ["setup", "warmup_model"])
def test_an_endpoint_must_be_named(path: str):
    assert decoded("POST", path, inference_id="x", wait_until_complete="true") == core.ReadKnowledgeStatus()
    with pytest.raises(BadRequest, match="Failed to validate: \n  in /query/inference_id: undefined does not match"):
        decoded("POST", path)


def test_set_up_says_what_is_searched_with_whatever_was_asked_for():
    told = answered("POST", "setup", core.KnowledgeStatus(0))
    own = "dragoman-word-search"
    assert told == {"reindex": False, "currentInferenceId": own, "nextInferenceId": own}
    (endpoint,) = answered("GET", "inference_endpoints", core.KnowledgeStatus(0))["endpoints"]
    assert endpoint["inference_id"] == own


def test_upkeep_is_done_already():
    for path in ("reindex", "migrations/startup"):
        assert decoded("POST", path) == decoded("POST", path, inference_id="x") == core.ReadKnowledgeStatus()
    assert answered("POST", "reindex", core.KnowledgeStatus(0)) == {"success": True}
    assert answered("POST", "warmup_model", core.KnowledgeStatus(0)) == {}
    assert answered("POST", "migrations/startup", core.KnowledgeStatus(0)) == {}


# -- entries -----------------------------------------------------------------------------------------------------------


def test_K1_an_entry_has_what_it_was_not_given():
    assert decoded("POST", "entries/save", {"id": "a", "title": "t", "text": "x"}) == core.SaveEntries(
        (core.KnowledgeEntry(ProjectId(""), "a", "x", "t", True, core.EntryRole.USER, {}),)
    )
    given = {"id": "a", "text": "x", "public": False, "labels": {"k": "v"}, "role": "elastic"}
    assert decoded("POST", "entries/save", given) == core.SaveEntries(
        (core.KnowledgeEntry(ProjectId(""), "a", "x", "", False, core.EntryRole.PROGRAM, {"k": "v"}),)
    )
    assert answered("POST", "entries/save", core.KnowledgeKept(1)) == {}


@pytest.mark.parametrize(("given", "public"), [("true", True), ("false", False), (1, True), (None, False)])
def test_flags_are_read_as_upstream_reads_them(given: Any, public: bool):
    (entry,) = decoded("POST", "entries/save", {"id": "a", "text": "x", "public": given}).entries
    assert entry.public is public


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": "x"}, "in /id: undefined does not match"),
        ({"id": "a"}, "in /text: undefined does not match"),
        ({"id": "a", "text": " "}, "in /text: must not be empty"),
        ({"id": "", "text": "x"}, "in /id: must not be empty"),
        ({"id": "a", "text": "x", "role": "boss"}, "in /role: "),
        ({"id": "a", "text": "x", "labels": {"k": 1}}, "in /labels/"),
        ({"id": "a", "text": "x", "nonsense": 1}, "Excess keys are not allowed:\nnonsense"),
    ],
)
def test_an_entry_that_is_none_is_refused(given: Any, said: str):
    with pytest.raises(BadRequest) as caught:
        decoded("POST", "entries/save", given)
    assert said in caught.value.detail


def test_K2_several_are_brought_at_once():
    given = {"entries": [{"id": name, "title": name, "text": "x"} for name in "abc"]}
    assert [entry.id for entry in decoded("POST", "entries/import", given).entries] == ["a", "b", "c"]
    with pytest.raises(BadRequest, match="in /entries/1/text: must not be empty"):
        decoded("POST", "entries/import", {"entries": [{"id": "a", "text": "x"}, {"id": "b", "text": ""}]})


def test_K2_a_list_says_how_it_is_sorted():
    for wire, ours in SORTS.items():
        expected = core.ListEntries("b", ours, True, 500)
        assert decoded("GET", "entries", query="b", sortBy=wire, sortDirection="desc") == expected
    ascending = decoded("GET", "entries", query="", sortBy="title", sortDirection="asc")
    assert ascending == core.ListEntries("", "title", False, 500)


@pytest.mark.parametrize("left_out", ["query", "sortBy", "sortDirection"])
def test_all_three_fields_of_a_list_are_needed(left_out: str):
    fields = {"query": "", "sortBy": "title", "sortDirection": "asc"}
    del fields[left_out]
    with pytest.raises(BadRequest, match=f"in /query/{left_out}: undefined does not match expected type string"):
        decoded("GET", "entries", **fields)


@pytest.mark.parametrize(("field", "value"), [("sortBy", "text"), ("sortDirection", "up")])
def test_a_list_is_sorted_by_what_there_is(field: str, value: str):
    fields = {"query": "", "sortBy": "title", "sortDirection": "asc"} | {field: value}
    with pytest.raises(BadRequest, match=f"in /query/{field}: '{value}' is none of "):
        decoded("GET", "entries", **fields)


def test_K4_an_entry_is_told_without_what_is_old():
    given = {"id": "a", "text": "x", "confidence": "high", "is_correction": True}
    assert decoded("POST", "entries/save", given).entries[0].id == "a"
    assert answered("GET", "entries", core.EntryPage((ENTRY,))) == {
        "entries": [
            {
                "@timestamp": "2023-11-14T22:13:20.500Z",
                "id": "a",
                "text": "Blue.",
                "type": "contextual",
                "public": False,
                "labels": {"k": "v"},
                "role": "assistant_summarization",
                "title": "Colour",
                "user": {"name": "Ann"},
            }
        ]
    }


def test_an_entry_of_nobody_without_a_title_is_told_so():
    bare = core.KnowledgeEntry(ProjectId("p"), "a", "x")
    (told,) = answered("GET", "entries", core.EntryPage((bare,)))["entries"]
    assert set(told) == {"@timestamp", "id", "text", "type", "public", "labels", "role"}


def test_K1_an_entry_is_deleted_once():
    request = Request("DELETE", BASE + "entries/a/b", {"entryId": "a/b"}, {}, WRITE, b"", "id", "0" * 32, 0.0)
    assert BY_NAME["DELETE", "entries/{entryId}"].decode(request) == core.DeleteEntry("a/b")
    assert answered("DELETE", "entries/{entryId}", core.EntryGone("a/b")) == {}
    assert errors.fail(NotFound("There is none.", what="entry"), request).status == 500


# -- instructions ------------------------------------------------------------------------------------------------------


def test_K5_instructions_are_listed_and_set():
    assert decoded("GET", "user_instructions") == core.ListInstructions()
    kept = core.KeptInstruction("a", "Be short.", False)
    assert answered("GET", "user_instructions", core.InstructionList((kept,))) == {
        "userInstructions": [{"id": "a", "text": "Be short.", "public": False}]
    }
    given = {"id": "a", "text": "Be short.", "public": "true"}
    assert decoded("PUT", "user_instructions", given) == core.PutInstruction("a", "Be short.", True)
    assert answered("PUT", "user_instructions", kept) == {}


@pytest.mark.parametrize("field", ["id", "text"])
def test_an_instruction_is_not_empty(field: str):
    given = {"id": "a", "text": "x", "public": False} | {field: ""}
    with pytest.raises(BadRequest, match=f"in /{field}: must not be empty"):
        decoded("PUT", "user_instructions", given)
