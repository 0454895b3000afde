"""Attacks by visitors: on each other's chats, on other projects, on the rest of the server, and on their sessions."""

import logging
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.access import jwt
from dragoman.access.widget_sessions import SESSION_S
from dragoman.core.errors import NotAuthenticated
from dragoman.core.names import Scope
from dragoman.edge.house import HOUSE
from tests.dialects.rowboat.visiting import OTHERS, OURS, ROWBOAT, THEIRS, Visit, credential_of, visit
from tests.streaming_client import Client

NOT_FOUND = (404, {"error": "Chat not found"})
NO_SESSION = (403, {"error": "Invalid session token"})
NO_USER = (403, {"error": "Invalid jwt"})
NO_BEARER = (400, {"error": "Authorization header must be a Bearer token"})
OF_A_CHAT = (("GET", ""), ("GET", "/messages"), ("POST", "/close"), ("POST", "/turn"))
CLIENT = {"x-client-id": "ours-client"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Visit]:
    async with visit(tmp_path) as found:
        yield found


def coded(value: object) -> str:
    return urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def claims_of(session: str) -> dict[str, Any]:
    body = session.split(".")[1]
    return msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)))


async def answer_to(site: Visit, session: str) -> tuple[int, Any]:
    return await site.call("GET", "/chats", session=session)


# -- chats of others ---------------------------------------------------------------------------------------------------


async def test_a_guest_neither_reads_nor_continues_nor_closes_anothers_chat(site: Visit) -> None:
    ana, ben = await site.guest(), await site.guest()
    chat = await site.chat(ana)
    assert (await site.say(ana, chat, "my secret"))[0] == 200

    for method, end in OF_A_CHAT:
        assert await site.call(method, f"/chats/{chat}{end}", {"message": "hi"}, session=ben) == NOT_FOUND
    assert await site.call("GET", "/chats", session=ben) == (200, {"chats": []})
    assert await site.call("GET", f"/chats?previous={'0' * 24}", session=ben) == (200, {"chats": []})
    assert len(site.model.prompts) == 1
    assert "closed" not in (await site.call("GET", f"/chats/{chat}", session=ana))[1]


async def test_a_session_of_one_project_opens_nothing_of_another(site: Visit) -> None:
    """Also where the user has the same id there."""
    ours = jwt.sign({"userId": "u"}, site.sites.kept[OURS].secret)
    theirs = jwt.sign({"userId": "u"}, site.sites.kept[THEIRS].secret)
    _, opened = await site.call("POST", "/session/user", {"userDataJwt": ours}, headers=CLIENT)
    client = {"x-client-id": "their-client"}
    _, elsewhere = await site.call("POST", "/session/user", {"userDataJwt": theirs}, headers=client)
    chat = await site.chat(opened["sessionId"])
    await site.say(opened["sessionId"], chat)

    for method, end in OF_A_CHAT:
        answer = await site.call(method, f"/chats/{chat}{end}", {"message": "hi"}, session=elsewhere["sessionId"])
        assert answer == NOT_FOUND
    assert await answer_to(site, elsewhere["sessionId"]) == (200, {"chats": []})


async def test_a_key_of_one_guest_gets_nobody_anothers_answer(site: Visit) -> None:
    ana, ben = await site.guest(), await site.guest()
    anas, bens = await site.chat(ana), await site.chat(ben)
    key = {"idempotency-key": "k"}
    body = {"message": "hi"}
    first = await site.call("POST", f"/chats/{anas}/turn", body, session=ana, headers=key)
    second = await site.call("POST", f"/chats/{bens}/turn", body, session=ben, headers=key)

    assert (first[1]["chatId"], second[1]["chatId"]) == (anas, bens)
    assert await site.call("POST", f"/chats/{anas}/turn", body, session=ben, headers=key) == NOT_FOUND


async def test_a_chat_whose_id_somebody_else_took_before_is_not_theirs(site: Visit) -> None:
    """A credential of the project makes a conversation of the chat's id before the visitor's first turn."""
    session = await site.guest()
    chat = await site.chat(session)
    credential = await credential_of(site.house, Scope.CHAT_RUN)
    body = {"message": "mine", "session_key": chat}
    headers = {"content-type": "application/json"}
    assert (await site.call("POST", "/api/v1/chat", body, session=credential, headers=headers))[0] == 200

    assert await site.say(session, chat) == NOT_FOUND
    assert await site.call("GET", f"/chats/{chat}/messages", session=session) == (200, {"messages": []})


# -- the rest of the server --------------------------------------------------------------------------------------------


async def test_a_session_opens_no_other_route(site: Visit) -> None:
    caller = Client(site.app, headers={"authorization": f"Bearer {await site.guest()}"})
    wires = (*OTHERS, HOUSE, ROWBOAT)
    routes = [route for wire in wires for route in wire.routes if not route.open and not route.session]
    assert len(routes) > 100
    for route in routes:
        named = route.path.replace(":path}", "}")
        path = named.format(**{name: "x" for _, name, _, _ in string.Formatter().parse(named) if name})
        status = 403 if route in ROWBOAT.routes else 401
        assert (await caller.request(route.method, path, body=b"{}")).status == status, route
    assert not site.model.prompts


async def test_a_session_reads_no_run_of_its_own_by_another_way(site: Visit) -> None:
    session = await site.guest()
    chat = await site.chat(session)
    answer = await site.send("POST", f"/chats/{chat}/turn", {"message": "hi"}, session=session)
    run = answer.headers["x-run-id"]
    for method, path in (
        ("GET", f"/api/runs/{run}"),
        ("GET", f"/api/runs/{run}/events"),
        ("POST", f"/api/runs/{run}/cancel"),
        ("GET", "/api/server"),
        ("GET", f"/api/v1/sessions/{chat}"),
    ):
        assert (await site.send(method, path, session=session)).status == 401


async def test_a_session_is_no_credential_that_a_login_could_hand_on(site: Visit) -> None:
    session = await site.guest()
    assert site.house.authenticator.proven(session) is None
    with pytest.raises(NotAuthenticated, match="missing, unknown, expired or revoked"):
        await site.house.authenticator.prove(session)


async def test_a_credential_opens_no_chat_of_the_widgets(site: Visit) -> None:
    """Not even an admin's: it is nobody's session."""
    session = await site.guest()
    chat = await site.chat(session)
    for scopes in ((Scope.ADMIN,), (Scope.CHAT_RUN, Scope.CONVERSATIONS_READ)):
        credential = await credential_of(site.house, *scopes)
        assert await answer_to(site, credential) == NO_SESSION
        for method, end in OF_A_CHAT:
            assert await site.call(method, f"/chats/{chat}{end}", {"message": "hi"}, session=credential) == NO_SESSION


# -- sessions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "", "Basic abc", "bearer-less", "Token abc"])
async def test_a_call_without_a_bearer_token_is_a_bad_request(site: Visit, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    for method, path in (("GET", "/chats"), ("POST", "/chats"), ("POST", f"/chats/{'0' * 24}/turn")):
        assert await site.call(method, path, {}, headers=headers) == NO_BEARER


async def test_a_session_ends_after_a_day(site: Visit) -> None:
    session = await site.guest()
    site.clock.move(SESSION_S - 1)
    assert (await answer_to(site, session))[0] == 200
    site.clock.move(1)
    assert await answer_to(site, session) == NO_SESSION


async def test_a_rotated_client_id_ends_its_sessions_and_opens_none(site: Visit) -> None:
    session, elsewhere = await site.guest(), await site.guest(THEIRS)
    site.sites.rotate(OURS, "new-client")

    assert await answer_to(site, session) == NO_SESSION
    assert await site.call("POST", "/session/guest", headers=CLIENT) == (403, {"error": "Invalid client ID"})
    assert (await answer_to(site, elsewhere))[0] == 200
    site.sites.rotate(THEIRS, "ours-client")  # the id is another project's now
    assert await answer_to(site, session) == NO_SESSION


async def test_a_session_of_a_project_that_is_gone_is_none(site: Visit) -> None:
    session = await site.guest(THEIRS)
    assert (await answer_to(site, session))[0] == 200
    await site.house.access.delete_project(THEIRS)
    site.clock.move(5)
    assert await answer_to(site, session) == NO_SESSION
    client = {"x-client-id": "their-client"}
    assert await site.call("POST", "/session/guest", headers=client) == (403, {"error": "Invalid client ID"})


async def test_a_session_that_was_changed_is_none(site: Visit) -> None:
    session = await site.guest()
    head, _, mac = session.split(".")
    claims = claims_of(session)
    none = coded({"alg": "none", "typ": "JWT"})
    forged = [
        f"{head}.{coded(claims | {'userId': 'guest-2'})}.{mac}",
        f"{head}.{coded(claims | {'exp': claims['exp'] + 1})}.{mac}",
        f"{none}.{coded(claims)}.",
        f"{none}.{coded(claims)}.{mac}",
        f"{coded({'alg': 'HS512', 'typ': 'JWT'})}.{coded(claims)}.{mac}",
        f"{session}x",
        session[:-1],
        f"{session}.{mac}",
        jwt.sign(claims, site.sites.kept[OURS].secret),  # what the website itself could sign
        jwt.sign(claims, "ours-client" * 3),
        "x" * 10_000,
        "..",
        "a.b.c",
    ]
    for text in forged:
        assert await answer_to(site, text) == NO_SESSION, text
    assert (await answer_to(site, session))[0] == 200


async def test_junk_never_reaches_what_a_project_keeps(site: Visit) -> None:
    claims = claims_of(await site.guest())
    site.sites.reads.clear()
    await answer_to(site, jwt.sign(claims | {"clientId": "guessed"}, "guessed" * 5))
    assert not site.sites.reads


async def test_a_users_jwt_is_the_projects_own_and_good(site: Visit) -> None:
    secret, now = site.sites.kept[OURS].secret, site.clock.now()
    user = {"userId": "u"}
    forged: list[str] = [
        jwt.sign(user, site.sites.kept[THEIRS].secret),
        jwt.sign(user, "ours-client" * 3),
        f"{coded({'alg': 'none'})}.{coded(user)}.",
        jwt.sign(user | {"exp": now - 60}, secret),
        jwt.sign(user | {"nbf": now + 60}, secret),
        jwt.sign({}, secret),
        *[jwt.sign({"userId": wrong}, secret) for wrong in (1, None, "", "x" * 129, "a\nb", "a\0b", ["u"])],
        *[jwt.sign(user | {"userName": wrong}, secret) for wrong in (1, "x" * 201, "a\nb")],
        # What the project's webhook is sent is signed with the same secret, and says who nobody is.
        jwt.sign({"requestId": "r", "projectId": "default", "bodyHash": "0" * 64, "sub": "tool-call-1"}, secret),
        await site.guest(),
        "",
        "x",
    ]
    for token in forged:
        answer = await site.call("POST", "/session/user", {"userDataJwt": token}, headers=CLIENT)
        assert answer == NO_USER, token
    for good in ({"userId": "x" * 128}, user | {"userName": "x" * 200}, user | {"exp": now + 1}):
        body = {"userDataJwt": jwt.sign(good, secret)}
        assert (await site.call("POST", "/session/user", body, headers=CLIENT))[0] == 200


async def test_no_session_and_no_jwt_is_logged_or_told(site: Visit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    session = await site.guest()
    token = jwt.sign({"userId": "u"}, "wrong" * 7)
    refused = [
        await site.send("POST", "/session/user", {"userDataJwt": token}, headers=CLIENT),
        await site.send("GET", "/api/server", session=session),
        await site.send("GET", f"/chats/{'0' * 24}", session=session),
    ]
    told = b"".join(each.body + repr(each.headers).encode() for each in refused).decode()
    assert session not in told + caplog.text and token not in told + caplog.text
