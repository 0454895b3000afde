"""What the document says of query fields, headers and bodies is what `decode` takes."""

from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.core.resources import Rule
from dragoman.dialects.grafana import DIALECT, decode, resource_requests
from dragoman.wire.openapi import openapi
from tests.dialects.grafana.asking import request

API = "/api/plugins/grafana-assistant-app/resources/api/v1"
DOCUMENT = openapi(DIALECT, version="1")


def schemas(method: str, path: str) -> dict[str, Any]:
    """Of what an operation asks for, by name."""
    return {each["name"]: each["schema"] for each in DOCUMENT["paths"][API + path][method]["parameters"]}


def test_limits_of_lists_are_where_the_document_says() -> None:
    limit = schemas("get", "/chats")["limit"]
    for said in (limit["minimum"], limit["maximum"]):
        assert decode.list_chats(request(query={"limit": str(said)})).limit == said
    for said in (limit["minimum"] - 1, limit["maximum"] + 1):
        with pytest.raises(BadRequest, match="limit"):
            decode.list_chats(request(query={"limit": str(said)}))


@pytest.mark.parametrize("scope", ["user", "tenant", "project"])
def test_a_scope_is_one_of_those_in_the_document(scope: str) -> None:
    known = schemas("get", "/rules")["scope"]["enum"]
    decode_page = resource_requests.page_of(Rule)
    if scope in known:
        assert decode_page(request(query={"scope": scope})).wide is (scope == "tenant")
    else:
        with pytest.raises(BadRequest, match="scope"):
            decode_page(request(query={"scope": scope}))


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("post", "/assistant/chats", ["prompt"]),
        ("post", "/rules", ["name", "ruleContent"]),
        ("put", "/rules/{id}", []),
    ],
)
def test_a_creation_says_what_it_needs_and_a_change_needs_nothing(method: str, path: str, needed: list[str]) -> None:
    schema = DOCUMENT["paths"][API + path][method]["requestBody"]["content"]["application/json"]["schema"]
    assert schema.get("required", []) == needed
