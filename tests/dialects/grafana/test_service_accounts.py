"""Service accounts over HTTP: the shapes and statuses of Grafana's documentation, and what a made credential is good
for."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.core.admission import FindServiceAccounts, IssueAccountCredential
from dragoman.core.errors import BadRequest
from dragoman.core.names import Scope
from dragoman.dialects.grafana import service_accounts as wire
from dragoman.wire.dialect import Request
from tests.dialects.grafana.admitting import BASE, Callers, callers
from tests.parts import ADMIN

ACCOUNT = {
    "id": 1,
    "uid": "service-account-1",
    "name": "CI Bot",
    "login": "sa-ci-bot",
    "orgId": 1,
    "isDisabled": False,
    "isExternal": False,
    "role": "Editor",
    "tokens": 0,
    "avatarUrl": "",
    "teams": [],
    "createdAt": "2023-11-14T22:13:20Z",
    "updatedAt": "2023-11-14T22:13:20Z",
}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Callers]:
    async with callers(tmp_path) as found:
        yield found


def request(query: dict[str, str] | None = None, body: bytes = b"", **params: str) -> Request:
    return Request("GET", BASE, params, query or {}, {}, body, "id", "0" * 32, 0.0)


async def test_an_account_is_made_read_changed_and_deleted(http: Callers) -> None:
    assert await http.call("POST", BASE, {"name": "CI Bot", "role": "Editor", "isDisabled": False}) == (201, ACCOUNT)
    assert await http.call("GET", f"{BASE}/1") == (200, ACCOUNT)
    http.clock.move(60)
    changed = ACCOUNT | {"name": "ци", "login": "sa-1", "role": "Viewer", "updatedAt": "2023-11-14T22:14:20Z"}
    assert await http.call("PATCH", f"{BASE}/1", {"name": "ци", "role": "Viewer"}) == (
        200,
        changed | {"message": "Service account updated", "serviceaccount": changed},
    )
    assert await http.call("DELETE", f"{BASE}/1") == (200, {"message": "Service account deleted"})
    status, body = await http.call("GET", f"{BASE}/1")
    assert (status, body["message"]) == (404, "There is no service account 1.")


async def test_accounts_are_searched_page_by_page(http: Callers) -> None:
    for name in ("alpha", "beta", "alphabet"):
        await http.call("POST", BASE, {"name": name})
    status, body = await http.call("GET", f"{BASE}/search?perpage=1&page=2&query=ALPHA")

    assert (status, [each["name"] for each in body.pop("serviceAccounts")]) == (200, ["alphabet"])
    assert body == {"totalCount": 2, "page": 2, "perPage": 1}
    _, body = await http.call("GET", f"{BASE}/search")
    assert [each["role"] for each in body["serviceAccounts"]] == ["Viewer"] * 3
    assert (body["page"], body["perPage"]) == (1, 1000)


async def test_a_credential_is_shown_once_and_listed_without_its_text(http: Callers) -> None:
    await http.call("POST", BASE, {"name": "ci", "role": "Editor"})
    status, issued = await http.call("POST", f"{BASE}/1/tokens", {"name": "laptop", "secondsToLive": 604_799})

    assert (status, issued) == (200, {"id": 1, "name": "laptop", "key": issued["key"]})
    assert issued["key"].startswith("glsa_")
    await http.call("POST", f"{BASE}/1/tokens", {"name": "for ever"})
    status, tokens = await http.call("GET", f"{BASE}/1/tokens")
    laptop = {
        "id": 1,
        "name": "laptop",
        "created": "2023-11-14T22:13:20Z",
        "lastUsedAt": None,
        "expiration": "2023-11-21T22:13:19Z",
        "secondsUntilExpiration": 604_799.0,
        "hasExpired": False,
        "isRevoked": False,
    }
    ever = laptop | {"id": 2, "name": "for ever", "expiration": None, "secondsUntilExpiration": 0.0}
    assert (status, tokens) == (200, [laptop, ever])
    http.clock.move(604_799)
    _, tokens = await http.call("GET", f"{BASE}/1/tokens")
    assert tokens[0] == laptop | {"secondsUntilExpiration": 0.0, "hasExpired": True}
    assert (await http.call("GET", f"{BASE}/1"))[1]["tokens"] == 1


async def test_a_credential_works_until_it_is_deleted(http: Callers) -> None:
    await http.call("POST", BASE, {"name": "boss", "role": "Admin"})
    _, issued = await http.call("POST", f"{BASE}/1/tokens", {"name": "laptop"})

    assert (await http.call("GET", f"{BASE}/1", credential=issued["key"]))[0] == 200
    assert await http.call("DELETE", f"{BASE}/1/tokens/1") == (200, {"message": "API key deleted"})
    assert (await http.call("GET", f"{BASE}/1", credential=issued["key"]))[0] == 401
    assert (await http.call("DELETE", f"{BASE}/1/tokens/1"))[0] == 404


async def test_a_disabled_account_has_no_good_credential(http: Callers) -> None:
    await http.call("POST", BASE, {"name": "boss", "role": "Admin"})
    _, issued = await http.call("POST", f"{BASE}/1/tokens", {"name": "laptop"})

    assert (await http.call("PATCH", f"{BASE}/1", {"isDisabled": True}))[1]["isDisabled"] is True
    assert (await http.call("GET", f"{BASE}/1", credential=issued["key"]))[0] == 401
    assert (await http.call("GET", f"{BASE}/1/tokens"))[1][0]["isRevoked"] is True
    assert (await http.call("POST", f"{BASE}/1/tokens", {"name": "another"}))[0] == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("POST", "", {"name": "CI"}, 400, "There is a service account called CI already."),
        ("POST", "", {"role": "Viewer"}, 400, "Object missing required field name"),
        ("POST", "", {"name": " "}, 400, "The name of a service account has 1 to 100 printable characters."),
        (
            "POST",
            "",
            {"name": "x", "role": "Owner"},
            400,
            "role: invalid role specified; it is one of None, Viewer, Editor, Admin",
        ),
        (
            "PATCH",
            "/1",
            {"role": "viewer"},
            400,
            "role: invalid role specified; it is one of None, Viewer, Editor, Admin",
        ),
        ("GET", "/x", None, 400, "Service account ID is invalid: it is a number."),
        ("GET", "/9", None, 404, "There is no service account 9."),
        ("PATCH", "/9", {"name": "x"}, 404, "There is no service account 9."),
        ("DELETE", "/9", None, 404, "There is no service account 9."),
        ("GET", "/9/tokens", None, 404, "There is no service account 9."),
        ("POST", "/9/tokens", {"name": "x"}, 404, "There is no service account 9."),
        ("POST", "/1/tokens", {"name": "one"}, 409, "Service account ci has a credential called one already."),
        ("DELETE", "/1/tokens/x", None, 400, "Token ID is invalid: it is a number."),
        ("DELETE", "/1/tokens/9", None, 404, "Service account 1 has no credential 9."),
        (
            "POST",
            "/1/tokens",
            {"name": "x", "secondsToLive": -1},
            400,
            "secondsToLive: must be 0 (it never expires) or a number of seconds",
        ),
        (
            "POST",
            "/1/tokens",
            {"name": "x", "secondsToLive": 10**12},
            400,
            "A credential is good for 1 second to 100 years, or for ever.",
        ),
    ],
)
async def test_what_cannot_be_done_is_said(
    http: Callers, method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    await http.call("POST", BASE, {"name": "ci"})
    await http.call("POST", f"{BASE}/1/tokens", {"name": "one"})

    assert await http.call(method, BASE + path, body) == (
        status,
        {"status": "error", "message": sentence, "error": sentence},
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [(route.method, route.path.format(id="1", token="1")) for route in wire.routes()],
)
async def test_every_route_wants_a_scope_that_not_everybody_holds(http: Callers, method: str, path: str) -> None:
    poor = (await http.house.mint.create("poor", ADMIN.project, scopes=DEFAULT_SCOPES)).text

    needed = Scope.CREDENTIALS_READ if method == "GET" else Scope.CREDENTIALS_WRITE
    assert (await http.call(method, path, {}, credential=poor)) == (
        403,
        {
            "status": "error",
            "message": f"This credential lacks the scope {needed}.",
            "error": f"This credential lacks the scope {needed}.",
        },
    )
    assert (await http.send(method, path)).status == 401


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, (1000, 0)),
        ({"page": "3", "perpage": "10"}, (10, 20)),
        ({"page": "0", "perpage": "0"}, (1000, 0)),
        ({"page": "-1", "perpage": "x"}, (1000, 0)),
        ({"page": "²", "perpage": "5000"}, (1000, 0)),
        ({"page": "9" * 50, "perpage": "1"}, (1, 0)),
    ],
)
def test_pages_are_as_asked_or_the_default(query: dict[str, str], page: tuple[int, int]) -> None:
    assert wire.search(request(query)) == FindServiceAccounts("", None, limit=page[0], offset=page[1])


@pytest.mark.parametrize(("text", "disabled"), [("true", True), ("false", False), ("", None), ("x", None)])
def test_a_search_may_be_for_disabled_ones(text: str, disabled: bool | None) -> None:
    assert wire.search(request({"disabled": text})).disabled is disabled


def test_no_lifetime_is_for_ever() -> None:
    assert wire.issue(request(body=b'{"name":"a"}', id="1")) == IssueAccountCredential(1, "a", None)
    assert wire.issue(request(body=b'{"name":"a","secondsToLive":5}', id="1")) == IssueAccountCredential(1, "a", 5.0)


@pytest.mark.parametrize("number", ["", "-1", "1.0", "²", "9" * 17, str(2**53 + 1)])
def test_what_is_no_number_names_no_account(number: str) -> None:
    with pytest.raises(BadRequest):
        wire.issue(request(body=b'{"name":"a"}', id=number))
