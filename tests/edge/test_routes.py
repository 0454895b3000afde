"""Which route answers a path."""

from collections.abc import Mapping
from typing import Any

import pytest

from dragoman.core.errors import DragomanError, NotFound, WrongMethod
from dragoman.core.operations import ReadStatus
from dragoman.edge.routes import RouteTable
from dragoman.wire.dialect import Dialect, Reply, Request, Route


def credential(headers: Mapping[str, str]) -> str:
    return ""


def fail(error: DragomanError, request: Request | None) -> Reply:
    return Reply(500)


def dialect(name: str, *routes: tuple[str, str], prefixes: tuple[str, ...] = ()) -> Dialect:
    rows = tuple(
        Route(method, path, lambda request: ReadStatus(), answer=lambda r, q: Reply(200)) for method, path in routes
    )
    return Dialect(name, name, prefixes, rows, credential, fail)


ALPHA = dialect(
    "alpha",
    ("POST", "/api/v1/chat"),
    ("GET", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/{key:path}"),
    ("DELETE", "/api/v1/sessions/{key:path}"),
    ("GET", "/api/v1/sessions/{key}/messages"),
    prefixes=("/api/v1/sessions", "/api/v1/chat"),
)
BETA = dialect("beta", ("POST", "/api/v1/{project}/chat"), ("POST", "/s/{space}/api/chat"), prefixes=("/api/v1/",))
TABLE = RouteTable((ALPHA, BETA))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/v1/chat", ("alpha", "/api/v1/chat", {})),
        ("GET", "/api/v1/sessions/a:b", ("alpha", "/api/v1/sessions/{key:path}", {"key": "a:b"})),
        ("GET", "/api/v1/sessions/a\nb", ("alpha", "/api/v1/sessions/{key:path}", {"key": "a\nb"})),
        ("GET", "/api/v1/sessions/\n", ("alpha", "/api/v1/sessions/{key:path}", {"key": "\n"})),
        ("GET", "/api/v1/sessions/a\n/messages", ("alpha", "/api/v1/sessions/{key}/messages", {"key": "a\n"})),
        ("GET", "/api/v1/sessions/a/b", ("alpha", "/api/v1/sessions/{key:path}", {"key": "a/b"})),
        ("GET", "/api/v1/sessions/a/messages", ("alpha", "/api/v1/sessions/{key}/messages", {"key": "a"})),
        ("DELETE", "/api/v1/sessions/ключ", ("alpha", "/api/v1/sessions/{key:path}", {"key": "ключ"})),
        ("POST", "/api/v1/p1/chat", ("beta", "/api/v1/{project}/chat", {"project": "p1"})),
        ("POST", "/s/x/api/chat", ("beta", "/s/{space}/api/chat", {"space": "x"})),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, expected: tuple[str, str, dict[str, str]]) -> None:
    mounted, params = TABLE.find(method, path)
    assert (mounted.dialect.name, mounted.route.path, params) == expected


def test_a_wrong_method_is_told_which_are_right() -> None:
    with pytest.raises(WrongMethod) as refused:
        TABLE.find("PUT", "/api/v1/sessions/a")
    assert refused.value.allowed == ("GET", "DELETE")


@pytest.mark.parametrize(
    "path", ["/", "", "/api/v1", "/api/v1/chatter", "/s/x/y/api/chat", "//api/v1/chat", "/api/v1/chat\n"]
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        TABLE.find("POST", path)


@pytest.mark.parametrize(
    ("path", "owner"),
    [("/api/v1/sessions/x/y/z", "alpha"), ("/api/v1/nothing", "beta"), ("/elsewhere", None)],
)
def test_the_longest_prefix_says_who_answers_an_unknown_path(path: str, owner: str | None) -> None:
    found = TABLE.owner(path)
    assert (found.name if found else None) == owner


@pytest.mark.parametrize(
    ("path", "target"), [("/api/v1/chat/", "/api/v1/chat"), ("/nothing/", ""), ("/", ""), ("/api/v1/chat", "")]
)
def test_a_trailing_slash_too_many_is_redirected(path: str, target: str) -> None:
    assert TABLE.redirect("POST", path) == target


def test_two_dialects_cannot_answer_the_same_request() -> None:
    with pytest.raises(ValueError, match="twin and alpha both answer POST /api/v1/chat"):
        RouteTable((ALPHA, dialect("twin", ("POST", "/api/v1/chat"))))


class Searched(str):
    """A path that counts how often a slash was looked for in it."""

    looks = 0

    def rfind(self, *args: Any) -> int:
        self.looks += 1
        return super().rfind(*args)


@pytest.mark.parametrize("path", ["/" + "a/" * 8000, "/api/v1/sessions" + "/" * 8000, "/" * 16_000])
def test_a_path_of_nothing_but_slashes_is_not_looked_through(path: str) -> None:
    searched = Searched(path)
    try:
        TABLE.find("PUT", searched)
    except (NotFound, WrongMethod):
        pass
    assert 0 < searched.looks <= len("/api/v1/sessions/") + 1


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
def test_a_path_is_its_nearest_dialects_whatever_another_would_make_of_it(method: str) -> None:
    with pytest.raises(WrongMethod) as caught:
        TABLE.find(method, "/api/v1/sessions/chat")
    assert caught.value.allowed == ("GET", "DELETE")
    owner = TABLE.owner("/api/v1/sessions/chat")
    assert owner is not None and owner.name == "alpha"


def test_rows_of_one_dialect_share_a_path() -> None:
    table = RouteTable((dialect("gamma", ("GET", "/x/new"), ("POST", "/x/{id}")),))
    assert table.find("POST", "/x/new")[1] == {"id": "new"}
    with pytest.raises(WrongMethod) as caught:
        table.find("PUT", "/x/new")
    assert caught.value.allowed == ("GET", "POST")


def test_whose_route_a_path_has_under_another_method_speaks_of_it_whatever_the_prefixes() -> None:
    table = RouteTable((dialect("one", prefixes=("/api/v1/",)), dialect("two", ("POST", "/api/v1/{project}/chat"))))
    owners = [table.owner(path) for path in ("/api/v1/p1/chat", "/api/v1/p1/chats")]
    assert [owner and owner.name for owner in owners] == ["two", "one"]
