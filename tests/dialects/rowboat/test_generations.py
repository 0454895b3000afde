"""Which generation a request speaks."""

import json
from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.dialects.rowboat.generations import VALUES_MAX, choose, fields_of, generation_of
from tests.dialects.rowboat.chatting import USER, request

TYPED = {"role": "assistant", "content": "hi", "agenticResponseType": "external"}
CAMEL = {"role": "assistant", "content": "hi", "responseType": "external"}


@pytest.mark.parametrize(
    ("keys", "generation"),
    [
        # What client libraries send, all of it (rowboat spec 9)
        ({"state": None}, "g1"),
        ({"state": None, "skipToolCalls": False, "maxTurns": 3, "workflowId": None, "testProfileId": None}, "g1"),
        ({"state": None, "workflowId": None, "testProfileId": None}, "g1"),
        ({"state": None, "workflowId": None, "testProfileId": None, "mockTools": None}, "g15"),
        ({"conversationId": None, "mockTools": None}, "g2"),
        # What others may
        ({"conversationId": "x"}, "g2"),
        ({"conversationId": "x", "stream": True}, "g2_stream"),
        ({"stream": True}, "g2_stream"),
        ({"stream": False}, "g2"),
        ({"stream": None}, "g2"),
        ({"stream": "true"}, "g2"),
        ({"conversationId": None, "state": None, "mockTools": {}}, "g2"),
        ({"workflowId": "w"}, "g1"),
        ({"testProfileId": None}, "g1"),
        ({"workflowId": "w", "mockTools": {}}, "g1"),
        ({"mockTools": {}}, "ambiguous"),
        ({"other": 1}, "ambiguous"),
        ({}, "ambiguous"),
    ],
)
def test_the_keys_of_a_body_tell(keys: dict[str, Any], generation: str) -> None:
    assert choose(request({"messages": [USER], **keys})) == generation


@pytest.mark.parametrize(
    ("messages", "generation"),
    [
        ([USER, TYPED, USER], "g1"),
        ([USER, {"role": "assistant", "tool_calls": []}], "g1"),
        ([USER, CAMEL, USER], "g15"),
        ([USER, {"role": "assistant", "toolCalls": []}], "g15"),
        ([TYPED | CAMEL], "g1"),
        ([USER, {"role": "assistant", "content": "hi", "agentName": "A"}], "ambiguous"),
        ([], "ambiguous"),
        (["x", None, 1], "ambiguous"),
        ("x", "ambiguous"),
        (None, "ambiguous"),
    ],
)
def test_where_no_key_tells_the_spelling_of_messages_does(messages: Any, generation: str) -> None:
    assert generation_of({"messages": messages}) == generation


def test_a_conversation_told_in_camel_case_is_the_second_generations() -> None:
    assert generation_of({"messages": [CAMEL], "conversationId": None}) == "g2"


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff\xfe", b'{"a":NaN}'])
def test_what_is_no_json_is_refused_by_that_word(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        choose(request(body))
    assert caught.value.detail == "Invalid JSON in request body"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_body_may_begin_with_a_mark_and_be_latin_1_as_old_clients_send_it(encoding: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "h\xe9llo"}]}, ensure_ascii=False).encode(encoding)
    assert fields_of(request(body))["messages"][0]["content"] == "h\xe9llo"


@pytest.mark.parametrize("body", [[], "x", None, 1, True])
def test_what_is_no_object_is_an_invalid_body(body: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        choose(request(body))
    assert caught.value.detail.startswith("Invalid request body: [")
    assert '"expected": "object"' in caught.value.detail


def test_a_body_beyond_a_limit_is_invalid_and_says_why() -> None:
    fits = fields_of(request({"messages": [1] * (VALUES_MAX - 2)}))
    assert len(fits["messages"]) == VALUES_MAX - 2
    for body in ({"messages": [1] * (VALUES_MAX - 1)}, b'{"messages":"\\ud800"}', b"[" * 100 + b"]" * 100):
        with pytest.raises(BadRequest) as caught:
            choose(request(body))
        assert caught.value.detail.startswith("Invalid request body: [") and '"code": "custom"' in caught.value.detail
