"""What clients look at first: the status, and whether a space is there."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.core.operations import ReadStatus, Status
from dragoman.dialects.elastic import status
from dragoman.wire.dialect import Reply, Request

FOUND = Status("1.2", 0.0, "m", (), (), (), "", 0, 0, 25, {})


def request(*, query: dict[str, str] | None = None, **params: str) -> Request:
    return Request("GET", "/", params, query or {}, {}, b"", "id", "0" * 32, 0.0)


def shown(reply: Reply) -> Any:
    assert (reply.status, reply.media_type) == (200, "application/json")
    return json.loads(reply.body)


def test_the_status_names_our_version_and_the_one_that_is_followed():
    assert shown(status.status(FOUND, request())) == {
        "name": "dragoman 1.2",
        "version": {"number": "9.4.3", "build_flavor": "traditional", "build_snapshot": False},
        "status": {"overall": {"level": "available", "summary": "All services and plugins are available"}},
    }


def test_spaces():
    assert shown(status.space(FOUND, request(about="default"))) == {
        "id": "default",
        "name": "Default",
        "description": "",
        "disabledFeatures": [],
        "_reserved": True,
    }
    other = shown(status.space(FOUND, request(about="team-a")))
    assert (other["id"], other["name"], "_reserved" in other) == ("team-a", "team-a", False)


@pytest.mark.parametrize(
    ("decode", "taken"), [(status.read, ("v7format", "v8format")), (status.read_space, ("purpose",))]
)
def test_nothing_is_counted_for_it_and_queries_are_strict(decode: Callable[[Request], ReadStatus], taken: Any):
    for name in taken:
        assert decode(request(query={name: "true"})) == ReadStatus(counted=False)
    with pytest.raises(BadRequest, match=r"query\.other"):
        decode(request(query={"other": "1"}))
