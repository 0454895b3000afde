"""What all requests of this wire have in common."""

import uuid
from base64 import b64encode
from typing import Any

import pytest
from msgspec import Struct

from dragoman.core.errors import BadRequest, NotAuthenticated
from dragoman.core.operations import ReadStatus
from dragoman.dialects.elastic import DIALECT, requests
from dragoman.wire.dialect import Request, Route

WRITE = {"content-type": "application/json", "kbn-xsrf": "true"}


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    items: tuple[Inner, ...]
    count: int = 0


def request(body: bytes = b"", headers: dict[str, str] = WRITE, query: dict[str, str] | None = None) -> Request:
    return Request("POST", "/", {}, query or {}, headers, body, "abcdef012345", "0" * 32, 0.0)


def basic(text: str) -> str:
    return b64encode(text.encode()).decode()


# -- who asks, and where -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        (f"Basic {basic('elastic:s3cret')}", "s3cret"),
        (f"basic  {basic('elastic:with:colon')} ", "with:colon"),
        (f"ApiKey {basic('id:s3cret')}", "s3cret"),
        ("ApiKey drg_plain", "drg_plain"),
        (f"ApiKey {basic('no colon')}", basic("no colon")),
        ("Bearer s3cret", "s3cret"),
        ("BEARER s3cret", "s3cret"),
    ],
)
def test_a_credential_comes_in_three_schemes(header: str, secret: str) -> None:
    assert requests.credential({"authorization": header}) == secret


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!",
        f"Basic {basic('nobody')}",
        f"Basic {basic('elastic:')}",
        "Bearer ",
        "Bearer é",
        "Other x",
    ],
)
def test_what_is_no_credential_is_refused(header: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        requests.credential({"authorization": header})
    assert caught.value.detail == requests.NO_CREDENTIAL


@pytest.mark.parametrize(
    ("params", "project"),
    [
        ({}, ""),
        ({"space": "default"}, ""),
        ({"space": "sales"}, "sales"),
        ({"about": "sales"}, "sales"),
        ({"space": "default", "about": "sales"}, "sales"),
        ({"space": "sales", "about": "sales"}, "sales"),
        ({"space": "sales", "about": "default"}, "sales"),
        ({"space": "sales", "about": "other"}, "sales/other"),
    ],
)
def test_a_space_is_a_project(params: dict[str, str], project: str) -> None:
    asked = Request("GET", "/", params, {}, {}, b"", "abcdef012345", "0" * 32, 0.0)
    assert requests.project(asked) == project


def test_a_route_of_this_wire_stands_in_spaces_and_tells_of_the_header_of_writes() -> None:
    for method, asks in (("GET", ()), ("POST", (requests.XSRF,)), ("DELETE", (requests.XSRF,))):
        found = requests.on_this_wire(Route(method, "/api/thing", lambda request: ReadStatus()))
        assert (found.also, found.asks) == (("/s/{space}/api/thing",), asks)


def test_random_digits_make_a_uuid_of_version_4() -> None:
    made = uuid.UUID(requests.uuid_of("0123456789abcdef" * 2))
    assert (made.version, made.variant) == (4, uuid.RFC_4122)
    assert requests.uuid_of("f" * 32) == "ffffffff-ffff-4fff-bfff-ffffffffffff"


# -- bodies and queries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["kbn-xsrf", "kbn-version", "x-elastic-internal-origin"])
def test_Q10_a_write_carries_a_header_that_no_page_can_send(header: str) -> None:
    requests.write(request(headers={header: "true"}))


@pytest.mark.parametrize("headers", [{}, {"kbn-xsrf": ""}])
def test_Q10_a_write_without_it_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        requests.write(request(headers=headers))
    assert caught.value.detail == "Request must contain a kbn-xsrf header."
    with pytest.raises(BadRequest):
        requests.body(request(b'{"items":[]}', headers | {"content-type": "application/json"}), Shape)


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/vnd.x+json; charset=utf-8", " Application/JSON"]
)
def test_a_body_is_json(media_type: str) -> None:
    asked = request(b'{"items":[{"name":"a"}]}', WRITE | {"content-type": media_type})
    assert requests.body(asked, Shape) == Shape((Inner("a"),))


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/jsonp", "multipart/form-data"])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(BadRequest) as caught:
        requests.body(request(b'{"items":[]}', WRITE | {"content-type": media_type}), Shape)
    assert caught.value.detail == requests.NO_JSON


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{}", "Failed to validate: \n  in /items: undefined does not match the expected type"),
        (b'{"items":[{}]}', "Failed to validate: \n  in /items/0/name: undefined does not match the expected type"),
        (b'{"items":[{"name":1}]}', "Failed to validate: \n  in /items/0/name: expected str, got int"),
        (b"[]", "Failed to validate: \n  in /: expected object, got array"),
        (b"", "Failed to validate: The body is empty."),
        (b"{", "Failed to validate: The body is not valid JSON (byte 1)."),
        (b'{"items":[],"more":1}', "Excess keys are not allowed:\nmore"),
        (b'{"items":[{"name":"a","more":1}]}', "Excess keys are not allowed:\nitems.0.more"),
    ],
)
def test_Q6_Q7_a_body_that_is_none_is_refused(body: bytes, detail: str) -> None:
    with pytest.raises(BadRequest) as caught:
        requests.body(request(body), Shape)
    assert caught.value.detail == detail
    assert caught.value.faults


def test_Q7_a_query_holds_what_the_route_takes() -> None:
    given: dict[str, Any] = {"format": "openai"}
    assert requests.query(request(query=given), "format") == given
    assert requests.query(request()) == {}
    with pytest.raises(BadRequest) as caught:
        requests.query(request(query={"a": "1", "format": "x", "b": ""}), "format")
    assert caught.value.detail == "Excess keys are not allowed:\nquery.a\nquery.b"


# -- documents ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", DIALECT.routes, ids=lambda row: f"{row.method} {row.path}")
def test_a_document_asks_for_the_header_where_a_request_is_refused_without_it(row: Route[Any]) -> None:
    """Q10"""
    told = [asked.name for asked in row.asks if asked.where == "header"]
    named = {name: "x" for name in ("conversation", "id", "entryId", "space", "connectorId")}
    bare = Request(
        row.method, row.path, named, {}, {"content-type": "application/json"}, b"{}", "abcdef012345", "0" * 32, 0.0
    )
    try:
        row.decode(bare)
    except BadRequest as error:
        refused = error.detail == requests.NO_XSRF
    else:
        refused = False
    assert (told == ["kbn-xsrf"]) is refused, told
