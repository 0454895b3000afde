"""V1-V11 (elastic spec 7.6): requests of this wire through its routes, against documents over two stores; and how other
wires read what this one told anew."""

import json
import re
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.core.events import Entry
from dragoman.core.messages import Message, ToolCall, said
from dragoman.core.names import CallId, ConversationId, Principal, RunId, Scope, Tape
from dragoman.core.operations import ConversationInfo, ConversationView, TurnView
from dragoman.core.transcript import Transcript
from dragoman.dialects.elastic import DIALECT
from dragoman.dialects.elastic.conversations import ROUTES
from dragoman.dialects.elastic.errors import fail
from dragoman.dialects.elastic.messages import core_messages, wire_messages
from dragoman.dialects.grafana.messages import turn_messages
from dragoman.dialects.grip import encode as grip
from dragoman.runtime.whole import new_part
from dragoman.wire.dialect import Reply, Request
from tests.documents import ANNA, BERT, ENGINES, Archive, archive_of
from tests.tellings import NEWS, TURNS

BASE = "/internal/observability_ai_assistant"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
AT = "2023-11-14T22:13:20.000Z"
LATER = "2023-11-14T22:13:21.000Z"


class Caller:
    """What an HTTP client is to this wire, without the HTTP."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._nonces = (f"{number:032x}" for number in count(0xABCDEF))

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: Principal = ANNA,
        space: str = "",
        **changes: Any,
    ) -> tuple[int, Any]:
        """Status and JSON."""
        request = self.request(method, f"{space}{BASE}/{path}", body, **changes)
        reply = await self._reply(request, by)
        return reply.status, json.loads(reply.body)

    def request(self, method: str, path: str, body: Any = None, **changes: Any) -> Request:
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"kbn-xsrf": "true", "content-type": "application/json"}
        fields: dict[str, Any] = {"params": {}, "query": {}, "headers": headers, "body": sent, "id": "req", "at": 0.0}
        return Request(method=method, path=path, nonce=next(self._nonces), **(fields | changes))

    async def _reply(self, request: Request, by: Principal) -> Reply:
        for route in DIALECT.routes:
            for path in (route.path, *route.also):
                params = _match(path, request.path)
                if route.method == request.method and params is not None:
                    found = replace(request, params=params)
                    assert all(by.may(scope) for scope in route.scopes)
                    try:
                        result = await self.archive.do(route.decode(found), by)
                    except DragomanError as error:
                        return fail(error, found)
                    assert route.answer is not None
                    return route.answer(result, found)
        raise AssertionError(f"no route for {request.method} {request.path}")


def _match(pattern: str, path: str) -> dict[str, str] | None:
    wanted, found = pattern.split("/"), path.split("/")
    if len(wanted) != len(found):
        return None
    params: dict[str, str] = {}
    for each, part in zip(wanted, found, strict=True):
        if each.startswith("{"):
            params[each.strip("{}")] = part
        elif each != part:
            return None
    return params


@pytest.fixture(params=ENGINES)
async def call(request: Any, tmp_path: Path) -> AsyncIterator[Caller]:
    async with archive_of(request.param, tmp_path) as archive:
        yield Caller(archive)


def message(content: str = "Good morning, bot!", role: str = "user", **more: Any) -> dict[str, Any]:
    return {"@timestamp": "2025-01-01T00:00:00.000Z", "message": {"role": role, "content": content, **more}}


CREATE: dict[str, Any] = {
    "@timestamp": "2024-12-31T00:00:00Z",
    "conversation": {"title": "My title"},
    "systemMessage": "this is a system message",
    "messages": [message(), message("Good morning!", "assistant", event="e", data="{}")],
    "labels": {"team": "ops"},
    "numeric_labels": {"weight": 3, "share": 0.5},
    "public": False,
    "archived": False,
}


async def created(call: Caller, *, by: Principal = ANNA, **changes: Any) -> dict[str, Any]:
    status, body = await call("POST", "conversation", {"conversation": CREATE | changes}, by=by)
    assert status == 200, body
    return body


async def listed(call: Caller, by: Principal = ANNA) -> list[dict[str, Any]]:
    status, body = await call("POST", "conversations", by=by)
    assert (status, list(body)) == (200, ["conversations"])
    return body["conversations"]


def one(conversation: dict[str, Any]) -> str:
    return f"conversation/{conversation['conversation']['id']}"


def update_of(conversation: dict[str, Any], **changes: Any) -> dict[str, Any]:
    head = {"id": conversation["conversation"]["id"], "title": "New title"}
    return {"conversation": CREATE | {"conversation": head} | changes}


def refused(status: int, error: str, text: str) -> tuple[int, dict[str, Any]]:
    return status, {"statusCode": status, "error": error, "message": text, "attributes": {"data": None}}


NOT_FOUND = refused(404, "Not Found", "Conversation not found")


# -- V1-V11 ------------------------------------------------------------------------------------------------------------


async def test_v1_the_list_is_empty_at_first(call: Caller) -> None:
    assert await listed(call) == []


async def test_v2_an_unknown_id_is_404(call: Caller) -> None:
    unknown = "conversation/00000000-0000-4000-8000-000000000000"
    body = {"conversation": CREATE | {"conversation": {"id": "x", "title": "t"}}}
    for asking in (
        call("GET", unknown),
        call("PUT", unknown, body),
        call("PATCH", unknown, {"public": True}),
        call("POST", f"{unknown}/duplicate"),
        call("DELETE", unknown),
    ):
        assert await asking == NOT_FOUND


async def test_v3_a_conversation_is_created_with_all_its_fields(call: Caller) -> None:
    conversation = await created(call)
    id = conversation["conversation"]["id"]
    assert conversation == {
        "@timestamp": AT,
        "user": {"name": "anna's key", "id": "user:anna"},
        "conversation": {"id": id, "title": "My title", "last_updated": AT},
        "systemMessage": "this is a system message",
        "messages": CREATE["messages"],
        "labels": {"team": "ops"},
        "numeric_labels": {"weight": 3, "share": 0.5},
        "namespace": "default",
        "public": False,
        "archived": False,
    }
    assert isinstance(conversation["numeric_labels"]["weight"], int)
    assert re.fullmatch(UUID, id)
    assert await call("GET", one(conversation)) == (200, conversation)
    assert await listed(call) == [conversation]
    assert await call("GET", one(conversation), space="/s/default") == (200, conversation)


async def test_v4_put_gives_another_title(call: Caller) -> None:
    conversation = await created(call)
    call.archive.clock.move(1)
    status, changed = await call("PUT", one(conversation), update_of(conversation))
    head = {**conversation["conversation"], "title": "New title", "last_updated": LATER}
    assert (status, changed) == (200, conversation | {"conversation": head})
    assert await call("GET", one(conversation)) == (200, changed)


async def test_v5_what_is_deleted_is_gone(call: Caller) -> None:
    conversation = await created(call)
    assert await call("DELETE", one(conversation)) == (200, {})
    assert await call("GET", one(conversation)) == NOT_FOUND
    assert await listed(call) == []


async def test_v6_each_lists_their_own_and_what_is_public(call: Caller) -> None:
    for by in (ANNA, BERT):
        for public in (False, True):
            await created(call, by=by, public=public)
    for by in (ANNA, BERT):
        found = await listed(call, by)
        assert sorted(each["public"] for each in found) == [False, True, True]
        assert [each["user"]["id"] for each in found if not each["public"]] == [by.owner]


async def test_v7_the_owner_changes_and_another_does_not_even_see_a_private_one(call: Caller) -> None:
    public, private = await created(call, public=True), await created(call)
    status, changed = await call("PUT", one(public), update_of(public, public=True))
    assert (status, changed["conversation"]["title"], changed["public"]) == (200, "New title", True)
    assert await call("PUT", one(private), update_of(private), by=BERT) == NOT_FOUND
    not_owned = "Changing a conversation is only allowed for the owner of the conversation."
    assert await call("PUT", one(public), update_of(public), by=BERT) == refused(403, "Forbidden", not_owned)
    assert await call("GET", one(public), by=BERT) == (200, changed)


async def test_v8_what_can_be_read_can_be_duplicated(call: Caller) -> None:
    private, public = await created(call), await created(call, public=True, archived=True)
    assert await call("POST", f"{one(private)}/duplicate", by=BERT) == NOT_FOUND
    call.archive.clock.move(1)
    for original, by in ((private, ANNA), (public, ANNA), (public, BERT)):
        status, copy = await call("POST", f"{one(original)}/duplicate", by=by)
        assert status == 200
        assert copy["conversation"]["id"] != original["conversation"]["id"]
        head = {**original["conversation"], "id": copy["conversation"]["id"], "last_updated": LATER}
        own = {"user": {"name": by.name, "id": by.owner}, "public": False, "archived": False}
        assert copy == original | own | {"@timestamp": LATER, "conversation": head}
        assert await call("GET", one(copy), by=by) == (200, copy)
    assert await call("GET", one(public)) == (200, public)


async def test_v9_the_owner_shares_and_archives(call: Caller) -> None:
    conversation = await created(call)
    for change in ({"public": True}, {"archived": True}, {"archived": "false", "public": "true"}, {}):
        conversation |= {name: value in (True, "true") for name, value in change.items()}
        status, changed = await call("PATCH", one(conversation), change)
        assert (status, changed) == (200, conversation)
    not_owned = "Changing a conversation is only allowed for the owner of the conversation."
    assert await call("PATCH", one(conversation), {"public": False}, by=BERT) == refused(403, "Forbidden", not_owned)
    excess = "Excess keys are not allowed:\naccess"
    assert await call("PATCH", one(conversation), {"access": "private"}) == refused(400, "Bad Request", excess)
    assert await call("GET", one(conversation)) == (200, conversation)


async def test_v10_nobody_else_deletes(call: Caller) -> None:
    private, public = await created(call), await created(call, public=True)
    assert await call("DELETE", one(private), by=BERT) == NOT_FOUND
    not_allowed = "Deleting a conversation is only allowed for the owner of the conversation."
    assert await call("DELETE", one(public), by=BERT) == refused(403, "Forbidden", not_allowed)
    for conversation in (private, public):
        assert await call("DELETE", one(conversation)) == (200, {})


def test_v11_every_route_asks_for_the_privilege() -> None:
    """A credential without it is a viewer: the edge refuses it with 403."""
    writes = {"POST", "PUT", "PATCH", "DELETE"}
    for route in ROUTES:
        assert route.scopes[0] == Scope.CHAT_RUN
        reads = route.method not in writes or route.path.endswith("/conversations")
        assert route.scopes[1:] == ((Scope.CONVERSATIONS_READ if reads else Scope.CONVERSATIONS_WRITE),)
    assert len(ROUTES) == 7


# -- bodies ------------------------------------------------------------------------------------------------------------


async def test_what_was_read_can_be_sent_back_as_it_is(call: Caller) -> None:
    conversation = await created(call)
    assert await call("PUT", one(conversation), {"conversation": conversation}) == (200, conversation)
    old = conversation | {
        "conversation": {**conversation["conversation"], "token_count": {"prompt": 1, "completion": 1, "total": 2}}
    }
    assert await call("PUT", one(conversation), {"conversation": old}) == (200, conversation)
    status, copy = await call("POST", "conversation", {"conversation": old})
    assert (status, copy["messages"]) == (200, conversation["messages"])
    assert copy["conversation"]["id"] != conversation["conversation"]["id"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"extra": 1}, "Excess keys are not allowed:\nconversation.extra"),
        ({"public": "maybe"}, "Failed to validate"),
        ({"public": None}, "Failed to validate"),
        ({"labels": {"a": 1}}, "Failed to validate: \n  in /conversation/labels"),
        ({"numeric_labels": {"a": "1"}}, "Failed to validate: \n  in /conversation/numeric_labels"),
        ({"conversation": {}}, "Failed to validate: \n  in /conversation/conversation/title: undefined"),
        ({"messages": [{"message": {"role": "user"}}]}, "Failed to validate: \n  in /conversation/messages/0/@timest"),
        ({"messages": [message(name="nope")]}, "Could not find tool call request for nope"),
        ({"conversation": {"title": "x" * 201}}, "A title has 1 to 200 characters; this one has 201."),
    ],
)
async def test_a_body_of_another_shape_is_400_and_writes_nothing(call: Caller, change: Any, text: str) -> None:
    status, body = await call("POST", "conversation", {"conversation": CREATE | change})
    assert (status, body["message"].startswith(text)) == (400, True), body
    assert await listed(call) == []


@pytest.mark.parametrize("field", ["@timestamp", "conversation", "messages", "labels", "numeric_labels", "public"])
async def test_what_must_be_there_must_be_there(call: Caller, field: str) -> None:
    sent = {name: value for name, value in CREATE.items() if name != field}
    status, body = await call("POST", "conversation", {"conversation": sent})
    assert (status, f"in /conversation/{field}: undefined" in body["message"]) == (400, True)


async def test_writes_need_their_header_and_reads_do_not(call: Caller) -> None:
    conversation = await created(call)
    bare: dict[str, Any] = {"headers": {}}
    assert (await call("GET", one(conversation), **bare))[0] == 200
    for method, path in (
        ("POST", "conversations"),
        ("POST", "conversation"),
        ("PUT", one(conversation)),
        ("PATCH", one(conversation)),
        ("POST", f"{one(conversation)}/duplicate"),
        ("DELETE", one(conversation)),
    ):
        status, body = await call(method, path, {}, **bare)
        assert (status, body["message"]) == (400, "Request must contain a kbn-xsrf header.")


async def test_unknown_query_fields_are_refused_everywhere(call: Caller) -> None:
    conversation = await created(call)
    for route in ROUTES:
        path = route.path.replace("{conversation}", conversation["conversation"]["id"]).removeprefix(f"{BASE}/")
        status, body = await call(route.method, path, {}, query={"x": "1"})
        assert (status, body["message"]) == (400, "Excess keys are not allowed:\nquery.x")


async def test_a_list_takes_a_query_and_no_more(call: Caller) -> None:
    await created(call)
    for body in ({}, {"query": "anything"}):
        status, found = await call("POST", "conversations", body)
        assert (status, len(found["conversations"])) == (200, 1)
    status, found = await call("POST", "conversations", {"limit": 1})
    assert (status, found["message"]) == (400, "Excess keys are not allowed:\nlimit")


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_system_messages_are_not_shown_and_fill_the_system_message(call: Caller) -> None:
    system = [message("Be brief.", "system"), message("Be kind.", "system")]
    filled = await created(call, systemMessage="", messages=[*system, message()])
    assert (filled["systemMessage"], filled["messages"]) == ("Be brief.", [message()])
    kept = await created(call, messages=[*system, message()])
    assert (kept["systemMessage"], kept["messages"]) == ("this is a system message", [message()])
    other = ev.MessagesImported((said("system", "A summary."), said("user", "q")))
    c = ConversationId("grip:1")
    made = ev.ConversationCreated(ANNA.project, c, "grip", ANNA.owner)
    await call.archive.store.put_messages(made, other, at=1.0, updated_at=2.0, run=RunId("imported"))
    status, body = await call("GET", "conversation/grip:1")
    assert (status, body["systemMessage"]) == (200, "A summary.")
    assert [each["message"]["content"] for each in body["messages"]] == ["q"]


async def test_a_conversation_of_ours_is_told_whole_and_goes_on_from_what_it_was_told_as(call: Caller) -> None:
    calls = (ToolCall(CallId("c1"), "look", "{}"), ToolCall(CallId("c2"), "see", '{"x":1}'))
    between = (
        ev.CallAdded(ToolCall(CallId("c0"), "context", "{}")),
        ev.ToolReturned(CallId("c0"), '{"learnings":[]}'),
        ev.ReplyFinished("I look", calls),
        ev.ToolReturned(CallId("c1"), '{"seen":1}', shown='{"rows":[]}'),
        ev.ToolReturned(CallId("c2"), '{"seen":2}'),
    )
    await call.archive.talk("one?", "1", said_between=between, system="Be brief.")
    _, conversation = await call("GET", "conversation/c")
    said_so = [each["message"] for each in conversation["messages"]]
    names = [each.get("name", each.get("function_call", {}).get("name")) for each in said_so]
    assert names == [None, *("context", "context"), *("look", "look"), *("see", "see"), ""]
    assert conversation["systemMessage"] == "Be brief."
    head = (await call.archive.info()).head
    _, again = await call("PUT", "conversation/c", {"conversation": conversation | {"archived": True}})
    assert again == conversation | {"archived": True}
    assert (await call.archive.info()).head == head + 1  # not a message was written again


@given(TURNS, NEWS)
def test_what_was_told_by_this_wire_is_known_again(turns: list[TurnView], news: tuple[Message, ...]) -> None:
    back = core_messages(wire_messages(turns))
    assert new_part(turns, (*back, *news)) == (news, 0)


async def test_messages_come_back_as_they_were_sent_after_an_edit(call: Caller) -> None:
    await call.archive.talk("one?", "1")
    _, conversation = await call("GET", "conversation/c")
    edited = [message("ONE?"), *conversation["messages"][1:], message("and?", event="e")]
    status, body = await call("PUT", "conversation/c", {"conversation": conversation | {"messages": edited}})
    assert (status, body["messages"]) == (200, edited)


async def test_one_whose_owner_nobody_knows_names_no_user(call: Caller) -> None:
    await call.archive.talk()
    await call("PATCH", "conversation/c", {"public": True})
    call.archive.names.names.clear()
    _, body = await call("GET", "conversation/c", by=BERT)
    assert body["user"] == {"name": "user:anna", "id": "user:anna"}
    made = ev.ConversationCreated(ANNA.project, ConversationId("old"))
    await call.archive.store.put_messages(made, ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("i"))
    await call.archive.store.note(ANNA.project, ConversationId("old"), (ev.SharingChanged(True),))
    _, body = await call("GET", "conversation/old")
    assert "user" not in body


# -- other wires -------------------------------------------------------------------------------------------------------


def restated(end: ev.Event | None) -> tuple[Entry, ...]:
    """A turn, and a second one of a caller that told the first otherwise."""
    retold = (said("user", "uno?"), said("assistant", "1"), said("user", "two?"))
    events = [
        ("r1", ev.TurnReceived((said("user", "one?"),))),
        ("r1", ev.ReplyFinished("1")),
        ("r1", ev.RunCompleted()),
        ("r2", ev.TurnReceived(retold, whole=True, restates=2)),
        ("r2", ev.ReplyFinished("2")),
        *([("r2", end)] if end is not None else []),
    ]
    return tuple(Entry(seq, RunId(run), 0.0, event) for seq, (run, event) in enumerate(events, start=1))


@pytest.mark.parametrize(
    ("end", "texts"),
    [
        (ev.RunCompleted(), ["uno?", "1", "two?", "2"]),
        (ev.RunCancelled(), ["one?", "1", "two?", "2"]),
        (ev.RunFailed("x", "y"), ["one?", "1"]),
        (None, ["one?", "1"]),
    ],
)
def test_grip_reads_what_was_told_anew(end: ev.Event | None, texts: list[str]) -> None:
    info = ConversationInfo(ConversationId("c"), Tape(1), "", "elastic", 0.0, 0.0, 0, 0, 0)
    view = ConversationView(info, Transcript(restated(end)).turns())
    request = Request("GET", "/", {}, {}, {}, b"", "", "", 0.0)
    entries = json.loads(grip.session_messages(view, request).body)["messages"]
    assert [entry["content"] for entry in entries if entry["role"] in ("user", "assistant")] == texts


def test_grafana_reads_what_was_told_anew() -> None:
    for end, questions in ((ev.RunCompleted(), ["uno?", "1", "two?", "2"]), (None, ["one?", "1", "two?", "2"])):
        names: dict[CallId, str] = {}
        turns = Transcript(restated(end)).turns()
        shown = [each for turn in turns for each in turn_messages(turn, names)]
        assert [getattr(part, "text", "") for each in shown for part in each.content] == questions
        assert [each.role for each in shown] == ["user", "assistant", "user", "assistant"]
        assert len({each.id for each in shown}) == len(shown)
