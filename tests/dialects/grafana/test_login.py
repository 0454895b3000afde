"""Login over HTTP, as programs do it: the page, what it refuses, the redirect to this machine, exchange and renewal."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.admission import DecideLogin, LoginWish, ReviewLogin
from dragoman.core.errors import BadRequest
from dragoman.core.names import Scope
from dragoman.dialects.grafana import login
from dragoman.wire.dialect import Request
from tests.dialects.grafana.admitting import BASE, Callers, callers
from tests.parts import ADMIN
from tests.streaming_client import Response

PAGE = "/a/grafana-assistant-app/cli/auth"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
STATE = "0123456789abcdef" * 4
LINK = {
    "callback_port": "54321",
    "state": STATE,
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "device_name": "laptop",
    "scopes": "assistant:chat,assistant:a2a,tunnel:connect",
}
"""What the command line tool sends a browser to."""


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[Callers]:
    async with callers(tmp_path) as found:
        yield found


def link(**changes: str | None) -> str:
    query = {name: value for name, value in (LINK | changes).items() if value is not None}
    return f"{PAGE}?{urlencode(query)}"


async def choose(http: Callers, decision: str, credential: str = "", path: str = "") -> Response:
    form = urlencode({"decision": decision, "credential": credential}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "host": "assistant.example.com:8080"}
    return await http.send("POST", path or link(), form, headers=headers)


def callback(answer: Response) -> dict[str, str]:
    """What the program that waits on this machine is told."""
    where = urlsplit(answer.headers["location"])
    assert (answer.status, answer.body, where.scheme, where.netloc, where.path) == (
        302,
        b"",
        "http",
        "127.0.0.1:54321",
        "/callback",
    )
    return {name: value for name, (value,) in parse_qs(where.query).items()}


async def post(http: Callers, path: str, **body: Any) -> tuple[int, Any]:
    return await http.call("POST", f"/api/cli/v1/auth/{path}", body)


# -- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", login.PAGES)
async def test_the_page_says_who_asks_for_what_and_shows_the_code_to_compare(http: Callers, path: str) -> None:
    answer = await http.send("GET", link().replace(PAGE, path))
    page = answer.body.decode()

    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<q>laptop</q>" in page and "(port 54321)" in page
    assert "<code>13d3-1e96</code>" in page  # the first bytes of the standard's example
    assert re.findall(r"<li>([^<]*)", page) == [
        "talk with the assistant in your name, and read and change your conversations",
        "let programs talk with the assistant in your name",
        "offer files and commands of its machine to the assistant as tools",
    ]


async def test_the_page_runs_nothing_loads_nothing_and_posts_only_here(http: Callers) -> None:
    answer = await http.send("GET", link())
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))

    (style,) = re.findall(rb"<style>(.*?)</style>", answer.body)
    assert policy.pop("style-src") == f"'sha256-{b64encode(sha256(style).digest()).decode()}'"
    assert policy == {
        "default-src": "'none'",
        "form-action": "'self' http://127.0.0.1:*",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert not re.search(rb"<script|<img|<link|<iframe|\bsrc=|\bon\w+=|style=|action=", answer.body)
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ('"><b onclick=x>', '"><b onclick=x>'),
        ("a\n\u202eb\x00c", "a b c"),
        ("x" * 500, "x" * 79 + "…"),
        (" ", "an unnamed program"),
        (None, "an unnamed program"),
    ],
)
async def test_a_programs_name_is_text_and_nothing_else(http: Callers, name: str | None, shown: str) -> None:
    page = (await http.send("GET", link(device_name=name))).body.decode()

    (quoted,) = re.findall(r"<q>(.*?)</q>", page, re.DOTALL)
    assert unescape(quoted) == shown
    assert not re.search('[<>"]', quoted)


BAD_LINKS = {
    "no port": {"callback_port": None},
    "a low port": {"callback_port": "1023"},
    "a high port": {"callback_port": "65536"},
    "another host": {"callback_port": "80@evil.example"},
    "another host behind a port": {"callback_port": "54321.evil.example"},
    "digits of another script": {"callback_port": "٥٤٣٢١"},
    "no state": {"state": None},
    "a state with a line end": {"state": "a\r\nset-cookie: x"},
    "a long state": {"state": "x" * 513},
    "no method": {"code_challenge_method": None},
    "the method plain": {"code_challenge_method": "plain"},
    "no challenge": {"code_challenge": None},
    "a short challenge": {"code_challenge": CHALLENGE[:-1]},
    "a challenge in base64": {"code_challenge": "+" + CHALLENGE[1:]},
    "unknown scopes": {"scopes": "root,<b>"},
    "too many scopes": {"scopes": ",".join(f"s{n}" for n in range(21))},
}


@pytest.mark.parametrize("changes", BAD_LINKS.values(), ids=BAD_LINKS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_link_that_is_not_understood_is_a_page_and_no_redirect(
    http: Callers, method: str, changes: Mapping[str, str | None]
) -> None:
    body = urlencode({"decision": "deny"}).encode() if method == "POST" else None
    answer = await http.send(method, link(**changes), body)

    assert (answer.status, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "location" not in answer.headers
    assert b"This login link cannot be used: " in answer.body
    assert b"<form" not in answer.body and b"<b>" not in answer.body


@pytest.mark.parametrize(
    ("scopes", "ours"),
    [
        ("tunnel:connect", {Scope.TUNNEL_CONNECT}),
        (None, set(login._CHAT)),
        ("unknown,grafana-api:read", set(login._READ)),
        (" grafana-api:write , grafana-api:delete", set(login._WRITE)),
    ],
)
def test_wire_scopes_mean_ours(scopes: str | None, ours: set[Scope]) -> None:
    query = {name: value for name, value in (LINK | {"scopes": scopes}).items() if value is not None}
    wish = login.review(Request("GET", PAGE, {}, query, {}, b"", "id", "0" * 32, 0.0)).wish

    assert set(wish.scopes) == ours and len(wish.scopes) == len(ours)
    assert Scope.ADMIN not in ours and Scope.CREDENTIALS_WRITE not in ours


@given(st.dictionaries(st.sampled_from(list(LINK)), st.text(), max_size=6), st.binary(max_size=50))
def test_no_link_and_no_form_makes_it_raise_anything_else(changes: dict[str, str], body: bytes) -> None:
    request = Request("POST", PAGE, {}, LINK | changes, {}, body, "id", "0" * 32, 0.0)
    for decode, operation in ((login.review, ReviewLogin), (login.decide, DecideLogin)):
        try:
            assert isinstance(decode(request), operation)
        except BadRequest as error:
            assert error.detail


# -- the choice ------------------------------------------------------------------------------------------------------


async def test_a_person_allows_it_and_the_program_gets_its_own_credential(http: Callers) -> None:
    said = callback(await choose(http, "allow", f" {http.credential} "))
    assert said == {
        "code": said["code"],
        "state": STATE,
        "endpoint": "http://assistant.example.com:8080",
        "instanceEndpoint": "http://assistant.example.com:8080",
        "tenant": "default",
        "email": "admin",
        "device": "laptop",
    }
    status, body = await post(http, "exchange", code=said["code"], code_verifier=VERIFIER)
    data = body["data"]
    assert (status, body["status"]) == (200, "success")
    assert data == {
        "token": data["token"],
        "tenant": "default",
        "email": "admin",
        "expires_at": "2023-11-14T23:13:20Z",
        "api_endpoint": "http://127.0.0.1:8080",
        "refresh_token": data["refresh_token"],
        "refresh_expires_at": "2023-12-14T22:13:20Z",
    }
    assert (data["token"][:4], data["refresh_token"][:4]) == ("gat_", "gar_")
    principal = await http.house.authenticator.prove(data["token"])
    assert principal.scopes == {*login._CHAT, Scope.TUNNEL_CONNECT}


async def test_a_renewal_rotates_and_a_used_one_ends_the_login(http: Callers) -> None:
    said = callback(await choose(http, "allow", http.credential))
    first = (await post(http, "exchange", code=said["code"], code_verifier=VERIFIER))[1]["data"]
    http.clock.move(3400)
    status, body = await post(http, "refresh", refresh_token=first["refresh_token"])
    second = body["data"]
    assert (status, set(second)) == (200, set(first) - {"api_endpoint"})
    assert second["expires_at"] == "2023-11-15T00:10:00Z"
    assert await post(http, "refresh", refresh_token=first["refresh_token"]) == (200, body)
    http.clock.move(11)
    ended = {"status": "error", "message": "This login has ended; log in again."}
    status, body = await post(http, "refresh", refresh_token=first["refresh_token"])
    assert (status, body) == (401, ended | {"error": ended["message"]})
    assert (await post(http, "refresh", refresh_token=second["refresh_token"]))[0] == 401
    assert (await http.send("GET", f"{BASE}/search", credential=second["token"])).status == 401


async def test_what_renews_a_login_opens_no_door(http: Callers) -> None:
    said = callback(await choose(http, "allow", http.credential))
    data = (await post(http, "exchange", code=said["code"], code_verifier=VERIFIER))[1]["data"]

    answers = [await http.send("GET", f"{BASE}/search", credential=data[name]) for name in ("token", "refresh_token")]
    assert [answer.status for answer in answers] == [403, 401]


@pytest.mark.parametrize(
    "body",
    [
        {"code_verifier": VERIFIER + "x"},
        {"code": "x"},
        {"code": ""},
    ],
)
async def test_a_code_is_for_one_program_and_once(http: Callers, body: dict[str, str]) -> None:
    said = callback(await choose(http, "allow", http.credential))
    right = {"code": said["code"], "code_verifier": VERIFIER}

    assert (await post(http, "exchange", **(right | body)))[0] == 401
    statuses = [(await post(http, "exchange", **right))[0] for _ in range(2)]
    assert statuses == ([401, 401] if "code_verifier" in body else [200, 401])


async def test_a_code_is_good_for_five_minutes(http: Callers) -> None:
    said = callback(await choose(http, "allow", http.credential))
    http.clock.move(300)

    assert (await post(http, "exchange", code=said["code"], code_verifier=VERIFIER))[0] == 401


@pytest.mark.parametrize("credential", ["", "wrong"])
async def test_denied_is_denied_whatever_was_typed(http: Callers, credential: str) -> None:
    said = callback(await choose(http, "deny", credential))

    assert said == {"state": STATE, "error": "access_denied"}


async def test_a_wrong_credential_is_told_on_the_page_which_can_be_tried_again(http: Callers) -> None:
    answer = await choose(http, "allow", "wrong")

    assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert b'<p class="fault">This credential is missing, unknown, expired or revoked' in answer.body
    assert b"<form" in answer.body and b"wrong" not in answer.body


async def test_a_credential_that_may_nothing_of_it_is_told_so(http: Callers) -> None:
    poor = (await http.house.mint.create("poor", ADMIN.project, scopes=(Scope.METRICS_READ,))).text
    answer = await choose(http, "allow", poor)

    assert (answer.status, b"may do nothing of what is asked for" in answer.body) == (403, True)


@pytest.mark.parametrize("form", [b"", b"decision=maybe", b"\xff", b"a=1&" * 50])
async def test_another_form_is_refused_on_a_page(http: Callers, form: bytes) -> None:
    answer = await http.send("POST", link(), form)

    assert (answer.status, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "location" not in answer.headers


async def test_guessing_is_limited_by_address_and_told_on_the_page(tmp_path: Path) -> None:
    async with callers(tmp_path, per_ip_rpm=2) as http:
        answers = [await choose(http, "allow", f"guess {n}") for n in range(3)]
        status, _ = await post(http, "exchange", code="x", code_verifier="y")

    assert [answer.status for answer in answers] == [401, 401, 429]
    assert (answers[2].headers["content-type"], answers[2].headers["retry-after"]) == ("text/html; charset=utf-8", "30")
    assert b'<p class="fault">Rate limit exceeded' in answers[2].body
    assert status == 429


async def test_the_address_is_that_of_the_configuration_if_it_has_one(tmp_path: Path) -> None:
    async with callers(tmp_path, public_url="https://grafana.example.com/sub") as http:
        said = callback(await choose(http, "allow", http.credential))
        data = (await post(http, "exchange", code=said["code"], code_verifier=VERIFIER))[1]["data"]

    assert said["endpoint"] == said["instanceEndpoint"] == "https://grafana.example.com/sub"
    assert data["api_endpoint"] == "https://grafana.example.com/sub"


@pytest.mark.parametrize(("path", "body"), [("exchange", {"code": "x"}), ("refresh", {}), ("refresh", [])])
async def test_a_body_of_another_shape_is_refused(http: Callers, path: str, body: Any) -> None:
    status, answer = await http.call("POST", f"/api/cli/v1/auth/{path}", body)

    assert (status, answer["status"]) == (400, "error")


def test_a_refusal_of_any_other_path_stays_as_it_is() -> None:
    request = Request("GET", "/a/else", {}, {}, {}, b"", "id", "0" * 32, 0.0)
    reply = login.as_page(login.Reply(404, b"{}"), BadRequest("x"), request)

    assert reply == login.Reply(404, b"{}")
    assert login.as_page(reply, BadRequest("x"), None) is reply


def test_the_wish_is_the_links(http: Callers) -> None:
    request = Request("GET", PAGE, {}, LINK, {}, b"", "id", "0" * 32, 0.0)

    assert login.review(request) == ReviewLogin(LoginWish(CHALLENGE, "laptop", (*login._CHAT, Scope.TUNNEL_CONNECT)))
