"""Whatever is sent to this wire through the whole server is answered, quickly, and what is refused leaves nothing."""

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import StartTurn
from dragoman.edge.house import HOUSE
from tests.parts import ADMIN
from tests.stage import SetUp, Stage, standing
from tests.streaming_client import Response

CHAT = "/api/v1/chat"
SESSIONS = "/api/v1/sessions/"

ANSWER_S = 0.1
"""Processor time that an answer may take, whatever was asked."""
TRIES_MAX = 3
"""A collection of garbage may fall into one try; that it falls into each is no accident."""

MIB = 2**20


async def ask(s: Stage, method: str, target: str, **sent: Any) -> Response:
    """The answer, given in time."""
    took_s: list[float] = []
    while True:
        began = time.process_time()
        answer = await s.client().request(method, target, **sent)
        took_s.append(time.process_time() - began)
        if took_s[-1] < ANSWER_S:
            return answer
        assert len(took_s) < TRIES_MAX, f"{method} {target[:80]} took {min(took_s):.3f} s"


async def kept(s: Stage) -> list[str]:
    """Ids of all conversations."""
    page = await s.store.page(ADMIN.project, after="", limit=0)
    return [info.id for info in page.items]


def expect_harmless(answer: Response) -> None:
    """No fault of ours, nothing of our insides, and everything that every answer carries."""
    assert answer.status < 500 or answer.status == 501, answer.body
    assert b"Traceback" not in answer.body and b"site-packages" not in answer.body
    assert len(answer.headers["x-request-id"]) >= 1
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert all("\n" not in value and "\r" not in value for value in answer.headers.values())
    if answer.body and answer.headers["content-type"] == "application/json":
        json.loads(answer.body)


def nested(depth: int, opening: bytes, closing: bytes = b"") -> bytes:
    return b'{"message":' + opening * depth + closing * depth + b"}"


def row(field: str, message: str, kind: str, detail: str | None = None) -> dict[str, Any]:
    return {"detail": detail or message, "errors": [{"field": field, "message": message, "type": kind}]}


TOO_DEEP = row("", "The body is nested deeper than 64 levels.", "too_deep")
TOO_MANY = row("", "The body has more than 10000 values.", "too_many_values")
OUT_OF_RANGE = row("", "The body holds a number that is out of range.", "number_out_of_range")
NO_OBJECT = row(
    "",
    "Input should be a valid dictionary or object to extract fields from",
    "model_attributes_type",
    "the body must be a JSON object, sent as application/json",
)
MISSING = row("", "Field required", "missing", "the body is required")
NO_TEXT = {"detail": "There was an error parsing the body"}
NO_STRING = row("message", "Input should be a valid string", "string_type", "message must be a string")


def no_json(byte: int) -> dict[str, Any]:
    return row(str(byte), "JSON decode error", "json_invalid", f"The body is not valid JSON (byte {byte}).")


BODIES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "arrays in arrays": (b"[" * 100_000, TOO_DEEP),
    "objects in objects": (b'{"a":' * 100_000, TOO_DEEP),
    "arrays in arrays, closed": (nested(100_000, b"[", b"]"), TOO_DEEP),
    "just too deep": (nested(64, b"[", b"]"), TOO_DEEP),
    "a hundred thousand keys": (b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}", TOO_MANY),
    "a hundred thousand strings": (b"[" + b",".join([b'""'] * 100_000) + b"]", TOO_MANY),
    "a hundred thousand halves of characters": (
        b"[" + b",".join([b'"\\ud800"'] * 100_000) + b"]",
        TOO_MANY,
    ),
    "half a character": (
        b'{"message":"\\ud800"}',
        row(
            "message",
            "Input should be a valid string, unable to parse raw data as a unicode string",
            "string_unicode",
            "message must not hold a lone surrogate",
        ),
    ),
    "half a character as a key": (
        b'{"message":"hi","\\udfff":1}',
        row(
            "",
            "Input should be a valid string, unable to parse raw data as a unicode string",
            "string_unicode",
            "the body must not hold a lone surrogate",
        ),
    ),
    "a NUL as it is": (b'{"message":"a\x00b"}', no_json(13)),
    "a line end as it is": (b'{"message":"a\nb"}', no_json(13)),
    "NULs": (b"\x00" * 1000, no_json(0)),
    "not UTF-8": (b'{"message":"\xff"}', NO_TEXT),
    "UTF-16": ('{"message":"hi"}'.encode("utf-16"), NO_TEXT),
    "UTF-16 without a mark": ('{"message":"hi"}'.encode("utf-16-le"), no_json(1)),
    "UTF-32": ('{"message":"hi"}'.encode("utf-32"), NO_TEXT),
    "a surrogate in UTF-8": (b'{"message":"\xed\xa0\x80"}', NO_TEXT),
    "a byte order mark": (b'\xef\xbb\xbf{"message":"hi"}', no_json(0)),
    "gzip": (bytes.fromhex("1f8b0800000000000003") + b"x" * 50, NO_TEXT),
    "NaN": (b'{"message":NaN}', no_json(11)),
    "Infinity": (b'{"message":Infinity}', no_json(11)),
    "-Infinity": (b'{"message":-Infinity}', no_json(12)),
    "a number beyond doubles": (b'{"message":1e999}', OUT_OF_RANGE),
    "5,000 digits": (b'{"message":' + b"1" * 5000 + b"}", OUT_OF_RANGE),
    "a million digits": (b'{"message":' + b"1" * 1_000_000 + b"}", OUT_OF_RANGE),
    "4,000 digits": (b'{"message":' + b"1" * 4000 + b"}", NO_STRING),
    "numbers of 4,300 digits": (b"[" + b",".join([b"1" * 4300] * 240) + b"]", NO_OBJECT),
    "a fraction of a million digits": (b'{"message":0.' + b"1" * 1_000_000 + b"}", NO_STRING),
    "nothing": (b"", MISSING),
    "null": (b"null", NO_OBJECT),
    "blanks": (b" " * 1_000_000, no_json(1_000_000)),
    "an array": (b"[]", NO_OBJECT),
    "an array of objects": (b'[{"message":"hi"}]', NO_OBJECT),
    "a string": (b'"message"', NO_OBJECT),
    "true": (b"true", NO_OBJECT),
    "a number": (b"-0", NO_OBJECT),
    "two objects": (b'{"message":"hi"}{}', no_json(16)),
    "a comma too many": (b'{"message":"hi",}', no_json(16)),
    "a comment": (b'{"message":"hi"/**/}', no_json(15)),
    "single quotes": (b"{'message':'hi'}", no_json(1)),
    "a form": (b"message=hi", no_json(0)),
    "a string without an end": (b'{"message":"' + b"\\" * 1_000_000, no_json(11)),
    "a megabyte": (
        json.dumps({"message": "x" * 1_000_000}).encode(),
        row(
            "message",
            "String should have at most 100000 characters",
            "string_too_long",
            "message must have at most 100000 characters",
        ),
    ),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", [CHAT, CHAT + "/stream"])
async def test_a_bad_body_is_refused_with_what_is_wrong_and_nothing_is_kept(
    stage: SetUp, path: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, refusal = BODIES[name]
    async with stage() as s:
        answer = await ask(s, "POST", path, body=body)
        assert (answer.status, json.loads(answer.body)) == (400, refusal)
        expect_harmless(answer)
        assert (await kept(s), s.model.prompts) == ([], [])
    assert caplog.records == []


@pytest.mark.parametrize("number", [9_999, 10_001])
async def test_unknown_fields_in_any_number_are_refused(stage: SetUp, number: int) -> None:
    body = b"{" + b",".join(b'"%d":1' % each for each in range(number)) + b"}"
    async with stage() as s:
        answer = await ask(s, "POST", CHAT, body=body)
        assert (answer.status, await kept(s)) == (400, [])
    shown = json.loads(answer.body)
    if number > 10_000:
        assert shown == TOO_MANY
    else:
        assert len(shown["errors"]) == 100 + 1  # and the message that is missing
        assert len(shown["detail"]) < 300


OVER_THE_LIMIT = {
    "one byte too many": b'{"message":"' + b"x" * (MIB - 13) + b'"}',
    "10 MiB": b'{"message":"' + b"x" * 10 * MIB + b'"}',
    "a million keys": b"{" + b",".join(b'"%d":1' % each for each in range(1_000_000)) + b"}",
}


@pytest.mark.parametrize("name", OVER_THE_LIMIT)
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_not_read_to_its_end(stage: SetUp, name: str, announced: bool) -> None:
    whole = OVER_THE_LIMIT[name]
    assert len(whole) > MIB
    async with stage() as s:
        answer = await ask(s, "POST", CHAT, body=whole if announced else [whole[:MIB], whole[MIB:]])
        assert (answer.status, json.loads(answer.body)) == (
            413,
            {"detail": "Request body too large (max 1048576 bytes)"},
        )
        assert (answer.headers["connection"], await kept(s)) == ("close", [])


@pytest.mark.parametrize(
    "length", ["-1", "+5", "5x", "", " ", "²", "٣", "1e9", "0x10", "5, 5", "9" * 100, "\x00"], ids=ascii
)
async def test_a_length_that_is_no_number_breaks_nothing(stage: SetUp, length: str) -> None:
    if not all(ord(character) < 256 for character in length):
        length = length.encode().decode("latin-1")
    async with stage() as s:
        answer = await ask(s, "POST", CHAT, body=[b"{}"], headers={"content-length": length})
        expect_harmless(answer)
        assert answer.status == (413 if length.startswith("99") else 400)


@pytest.mark.parametrize(
    ("media_type", "understood"),
    [
        ("application/json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/json;charset=utf-16", True),
        ("application/vnd.api+json", True),
        ("application/jsonx", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("text/json", False),
        ("text/plain", False),
        ("", False),
        ("é", False),
        ("a" * 60_000, False),
        ("application/" + "a+" * 30_000, False),
        (" " * 60_000, False),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
async def test_a_body_of_another_type_is_not_read_as_json(stage: SetUp, media_type: str, understood: bool) -> None:
    async with stage() as s:
        answer = await ask(s, "POST", CHAT, body=b'{"message":"hi"}', headers={"content-type": media_type})
        assert (answer.status, len(await kept(s))) == ((200, 1) if understood else (400, 0))
    if not understood:
        assert json.loads(answer.body) == NO_OBJECT


async def test_of_repeated_keys_the_last_counts_and_escaped_controls_are_text(stage: SetUp) -> None:
    async with stage() as s:
        answer = await ask(s, "POST", CHAT, body=b'{"message":"a","message":"b\\u0000\\u001b[31m"}')
        assert answer.status == 200
        assert s.model.prompts[-1].messages[-1].text == "b\x00\x1b[31m"


@pytest.mark.parametrize(
    "credential",
    ["é", "ключ", "\u0660" * 60, "\x00", "a b", "", " ", "x" * 60_000, "drg_" + "0" * 100],
    ids=lambda value: ascii(value[:12]),
)
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "Bearer", "Basic ", ""])
async def test_a_credential_of_any_text_is_refused_without_a_word_on_why(
    stage: SetUp, scheme: str, credential: str
) -> None:
    value = (scheme + credential).encode().decode("latin-1")
    async with stage() as s:
        answer = await ask(s, "POST", CHAT, body=b"{", headers={"authorization": value})
    assert (answer.status, json.loads(answer.body)) == (401, {"detail": "Authentication required"})
    assert answer.headers["www-authenticate"] == "Bearer"


# -- session keys in paths ---------------------------------------------------------------------------------------------

KEYS = [
    *("..", ".", "../..", "../../../etc/passwd", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5c", "%5c"),
    *("a%2fb", "a//b", "%2f", "/", "//", "", "%20", "+", "*", "~", "-", "%25", "%252e%252e", "%zz", "%", "%u0041"),
    *("%00", "a%00b", "%0a", "a%0d%0ax: y", "%1b[31m", "%7f", "%ff", "%c0%ae%c0%ae", "%ed%a0%80", "%f0%9f%98%80"),
    *("CON", "nul.json", "k.json", "sessions", "x" * 128, "x" * 129, "x" * 10_000, "%41" * 128, "%e2%80%ae"),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key[:30]))
async def test_no_session_key_in_a_path_finds_what_is_not_there(
    stage: SetUp, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage() as s:
        (s.home / "sessions").mkdir()
        (s.home / "sessions" / "k.json").write_text("{}")
        before = sorted(path.name for path in s.home.rglob("*"))
        for method, target in (
            ("GET", SESSIONS + key),
            ("DELETE", SESSIONS + key),
            ("GET", SESSIONS + key + "/messages"),
        ):
            answer = await ask(s, method, target)
            assert (answer.status, json.loads(answer.body)) == (404, {"detail": "Session not found"}), target
            expect_harmless(answer)
        assert await kept(s) == []
        assert sorted(path.name for path in s.home.rglob("*")) == before
    assert caplog.records == []


@pytest.mark.parametrize("key", ["..", "a/b", "a\nb", "\r\n", "%2e", "a?b#c", "\U0001f600", "\\", " ", "'", "~"])
async def test_a_session_of_another_wire_is_reached_by_its_id_whatever_that_is(stage: SetUp, key: str) -> None:
    target = SESSIONS + quote(key, safe="")
    async with stage() as s:
        await s.house.desk.answer(ADMIN, turn(key))
        await s.house.runs[0].settled()
        assert await kept(s) == [key]
        read = await ask(s, "GET", target)
        deleted = await ask(s, "DELETE", target)
        assert (read.status, json.loads(read.body)["key"]) == (200, key)
        assert (deleted.status, json.loads(deleted.body)) == (200, {"deleted": True, "key": key})
        assert await kept(s) == []


def turn(key: str) -> StartTurn:
    return StartTurn(ConversationId(key), (said("user", "hi"),))


# -- anything ----------------------------------------------------------------------------------------------------------

segments = st.one_of(
    st.text(max_size=20).map(lambda text: quote(text, safe="")),
    st.binary(max_size=10).map(lambda raw: quote(raw, safe="")),
    st.sampled_from(["..", ".", "", "%", "%zz", "%00", "%0a", "%2f", "k", "messages", "execute", "look"]),
)
paths = st.lists(segments, max_size=6).map(lambda parts: "/" + "/".join(parts))
queries = st.one_of(st.just(""), st.text(max_size=30).map(lambda text: "?" + quote(text, safe="=&+")), segments)
names = st.sampled_from(
    ["authorization", "content-type", "content-length", "x-request-id", "x-forwarded-for", "accept", "te", "x-a"]
)
headers = st.dictionaries(names, st.text(st.characters(max_codepoint=255), max_size=40), max_size=4)
methods = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY", "get"])
texts = st.text(max_size=20)
documents = st.dictionaries(
    st.sampled_from(["message", "session_key", "model", "parameters"]) | texts,
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.lists(texts, max_size=2),
    max_size=4,
)
bodies = st.one_of(
    st.binary(max_size=200),
    documents.map(lambda document: json.dumps(document).encode()),
    documents.map(lambda document: json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.lists(st.binary(max_size=20), min_size=1, max_size=4),
)


def test_nothing_that_is_sent_is_a_fault_of_ours(stage: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    with standing(stage) as (s, run):
        routes = [route for dialect in (*s.house.dialects, HOUSE) for route in dialect.routes]
        opened = ["/health", "/ready", "/metrics", "/docs", "/openapi/house.json"]

        @st.composite
        def targets(draw: st.DrawFn) -> tuple[str, str]:
            """Mostly a path of a route with its parameters filled in, and a method."""
            route = draw(st.sampled_from(routes))
            parts = [draw(segments) if part.startswith("{") else part for part in route.path.split("/")]
            path = draw(st.one_of(st.just("/".join(parts)), paths, st.sampled_from(opened)))
            slashes = draw(st.sampled_from(["", "", "", "/", "//"]))
            return draw(st.one_of(st.just(route.method), methods)), path + slashes + draw(queries)

        @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(asked=targets(), sent=headers, body=bodies)
        def harmless(asked: tuple[str, str], sent: dict[str, str], body: bytes | list[bytes]) -> None:
            method, target = asked
            expect_harmless(run(s.client().request(method, target, headers=sent, body=body)))
            assert [record.getMessage() for record in caplog.records] == []

        harmless()
