"""The door: who may pass, how often, and what the answer says of the limits that were met."""

import random
from typing import Any

import pytest

from dragoman.access.credentials import Authenticator
from dragoman.access.minting import Mint
from dragoman.access.pepper import Pepper
from dragoman.access.projects import PROJECT_ID_CHARS_MAX
from dragoman.access.rate_limit import KEYS_MAX
from dragoman.core.errors import LimitReached, NotAllowed, NotAuthenticated
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.operations import ReadStatus
from dragoman.edge.authenticate import PROJECT_KEY_CHARS_MAX, Door, Limits, Passed, Ticket
from dragoman.edge.house import HOUSE
from dragoman.edge.limits import networks
from dragoman.wire.dialect import Reply, Route
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PROJECT = ProjectId("default")
READ = Route("GET", "/x", lambda request: ReadStatus(), answer=lambda r, q: Reply(200), scopes=(Scope.CHAT_READ,))
ANYBODY = Route("GET", "/y", lambda request: ReadStatus(), answer=lambda r, q: Reply(200))

UNLIMITED: dict[str, int] = {
    "per_address_rpm": 0,
    "per_credential_rpm": 0,
    "per_project_rpm": 0,
    "body_bytes_max": 1000,
    "readers_per_conversation": 1,
}


class Entrance:
    """A door with one credential behind it."""

    def __init__(self, *, trusted: tuple[str, ...] = (), **limits: int) -> None:
        self.clock = FixedClock(1000.0)
        self.access = MemoryAccess("default")
        pepper = Pepper("p1", b"k" * 32)
        self.mint = Mint(self.access, pepper, self.clock, random.Random(1).randbytes)
        self.door = Door(
            Authenticator(self.access, pepper, self.clock),
            Limits(**(UNLIMITED | limits)),
            self.clock,
            trusted_proxies=networks(trusted),
        )

    def admit(self, peer: str, forwarded: str = "", *, counted: bool = True) -> Passed:
        passed = Passed()
        headers = {"x-forwarded-for": forwarded} if forwarded else {}
        self.door.admit_address(peer, headers, passed, counted=counted)
        return passed

    def count(self, principal: Principal, passed: Passed | None = None, *, counted: bool = True) -> Passed:
        passed = passed or Passed()
        self.door.count_principal(principal, passed, counted=counted)
        return passed


def principal(name: str = "c", *, rpm: int | None = None, project: str = "default") -> Principal:
    return Principal(ProjectId(project), name, name, frozenset({Scope.CHAT_READ}), rpm)


def limited(entrance: Entrance, ask: Any) -> LimitReached:
    with pytest.raises(LimitReached) as refused:
        ask()
    return refused.value


def said(passed: Passed) -> tuple[int, int, int]:
    """Limit, remaining, reset."""
    names = [name for name, _ in passed.headers()]
    assert names == [b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"]
    limit, remaining, reset = (int(value) for _, value in passed.headers())
    return limit, remaining, reset


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_each_address_has_a_budget_of_its_own_that_fills_up_again() -> None:
    entrance = Entrance(per_address_rpm=2)
    assert [said(entrance.admit("198.51.100.1")) for _ in range(2)] == [(2, 1, 30), (2, 0, 60)]
    refused = limited(entrance, lambda: entrance.admit("198.51.100.1"))
    assert (refused.detail, refused.limit, refused.retry_after_s) == ("Rate limit exceeded", "per_ip_rpm", 30.0)
    assert said(entrance.admit("198.51.100.2")) == (2, 1, 30)
    entrance.clock.move(30.0)
    assert said(entrance.admit("198.51.100.1")) == (2, 0, 60)


def test_a_refused_request_still_says_how_the_limit_stands_and_costs_nothing() -> None:
    entrance = Entrance(per_address_rpm=1)
    entrance.admit("198.51.100.1")
    entrance.clock.move(20.5)
    passed = Passed()
    for _ in range(3):
        with pytest.raises(LimitReached) as refused:
            entrance.door.admit_address("198.51.100.1", {}, passed)
        assert (said(passed), refused.value.retry_after_s) == ((1, 0, 40), 39.5)


def test_without_a_limit_nothing_is_said_of_one() -> None:
    assert Entrance().admit("198.51.100.1").headers() == []


def test_a_trusted_proxy_passes_on_who_asks() -> None:
    entrance = Entrance(trusted=("10.0.0.1",), per_address_rpm=1)
    entrance.admit("10.0.0.1", "198.51.100.1")
    entrance.admit("10.0.0.1", "198.51.100.2")
    limited(entrance, lambda: entrance.admit("10.0.0.1", "forged, 198.51.100.1"))


# -- credentials -------------------------------------------------------------------------------------------------------


async def test_a_credential_opens_the_door_and_is_known_from_then_on() -> None:
    entrance = Entrance()
    minted = await entrance.mint.create("ci", PROJECT, scopes=(Scope.CHAT_READ,))
    headers = {"authorization": f"Bearer {minted.text}"}
    for _ in range(2):
        passed = Passed()
        proven = await entrance.door.admit_principal(HOUSE, READ, headers, passed)
        assert passed.principal is proven
        assert (proven.project, proven.credential_id) == (PROJECT, minted.credential.id)
    assert entrance.access.reads == 1


async def test_a_credential_that_lacks_the_scope_is_told_which() -> None:
    entrance = Entrance()
    minted = await entrance.mint.create("ci", PROJECT, scopes=(Scope.CHAT_RUN,))
    headers = {"authorization": f"Bearer {minted.text}"}
    with pytest.raises(NotAllowed, match=r"This credential lacks the scope chat:read\."):
        await entrance.door.admit_principal(HOUSE, READ, headers, Passed())
    assert await entrance.door.admit_principal(HOUSE, ANYBODY, headers, Passed())


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer  ", "Basic eDp5", "Bearer wrong", "Bearer \xe9\xff", "Bearer " + "x" * 100_000],
)
async def test_what_proves_nobody_is_refused(authorization: str | None) -> None:
    entrance = Entrance()
    headers = {} if authorization is None else {"authorization": authorization}
    passed = Passed()
    with pytest.raises(NotAuthenticated):
        await entrance.door.admit_principal(HOUSE, READ, headers, passed)
    assert (passed.principal, entrance.access.reads) == (None, 0)


def headers_with(text: str | None) -> dict[str, str]:
    return {} if text is None else {"authorization": text}


async def test_a_ticket_is_asked_for_only_where_no_credential_was_sent() -> None:
    entrance = Entrance()
    asked: list[tuple[str, str]] = []

    async def prove_ticket(text: str, *, conversation: str) -> Principal:
        asked.append((text, conversation))
        return principal("by ticket")

    entrance.door._authenticator.prove_ticket = prove_ticket
    minted = await entrance.mint.create("ci", PROJECT, scopes=(Scope.CHAT_READ,))
    ticket = Ticket("t1", "k")
    admitted = [
        await entrance.door.admit_principal(HOUSE, READ, headers_with(text), Passed(), ticket)
        for text in (None, "Basic eDp5", f"Bearer {minted.text}")
    ]
    assert [each.name for each in admitted] == ["by ticket", "by ticket", "ci"]
    assert asked == [("t1", "k")] * 2
    with pytest.raises(NotAuthenticated):
        await entrance.door.admit_principal(HOUSE, READ, headers_with("Bearer wrong"), Passed(), ticket)
    assert len(asked) == 2


async def test_a_route_may_demand_several_scopes_and_all_of_them() -> None:
    route = Route(
        "GET", "/x", READ.decode, answer=READ.answer, scopes=(Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS)
    )
    entrance = Entrance()
    for scopes, lacks in (
        ((Scope.GRAFANA_CHATS_ACCESS,), "plugins.app:access"),
        ((Scope.PLUGINS_APP_ACCESS,), "grafana-assistant-app.chats:access"),
    ):
        minted = await entrance.mint.create("one", PROJECT, scopes=scopes)
        with pytest.raises(NotAllowed, match=f"lacks the scope {lacks}"):
            await entrance.door.admit_principal(HOUSE, route, headers_with(f"Bearer {minted.text}"), Passed())
    minted = await entrance.mint.create("both", PROJECT, scopes=route.scopes)
    assert await entrance.door.admit_principal(HOUSE, route, headers_with(f"Bearer {minted.text}"), Passed())


def test_a_credential_has_the_configured_budget_or_its_own() -> None:
    entrance = Entrance(per_credential_rpm=1)
    entrance.count(principal("a"))
    refused = limited(entrance, lambda: entrance.count(principal("a")))
    assert (refused.limit, refused.retry_after_s) == ("per_credential_rpm", 60.0)
    assert said(entrance.count(principal("b"))) == (1, 0, 60)
    assert [said(entrance.count(principal("own", rpm=2)))[1] for _ in range(2)] == [1, 0]
    limited(entrance, lambda: entrance.count(principal("own", rpm=2)))
    assert [entrance.count(principal("free", rpm=0)).headers() for _ in range(5)] == [[]] * 5


def test_a_project_has_a_budget_for_all_its_credentials() -> None:
    entrance = Entrance(per_project_rpm=2)
    entrance.count(principal("a"))
    entrance.count(principal("b"))
    refused = limited(entrance, lambda: entrance.count(principal("c")))
    assert refused.limit == "per_project_rpm"
    assert said(entrance.count(principal("d", project="other"))) == (2, 1, 30)


def test_who_names_a_project_uses_up_a_budget_that_is_not_its_callers() -> None:
    entrance = Entrance(per_project_rpm=2)
    passed = Passed()
    for _ in range(2):
        entrance.door.admit_project("default", passed)
    assert said(passed) == (2, 0, 60)
    refused = limited(entrance, lambda: entrance.door.admit_project("default", Passed()))
    assert (refused.limit, refused.retry_after_s) == ("per_project_rpm", 30.0)
    entrance.door.admit_project("other", Passed())
    limited(entrance, lambda: entrance.door.admit_project("default", Passed(), principal(project="other")))
    entrance.door.admit_project("default", Passed(), principal())
    assert said(entrance.count(principal())) == (2, 1, 30)
    entrance.clock.move(30.0)
    entrance.door.admit_project("default", Passed())


def test_names_that_no_project_can_have_share_one_budget_and_no_name_has_none() -> None:
    entrance = Entrance(per_project_rpm=1)
    entrance.door.admit_project("x" * PROJECT_KEY_CHARS_MAX, Passed())
    entrance.door.admit_project("x" * (PROJECT_KEY_CHARS_MAX + 1), Passed())
    limited(entrance, lambda: entrance.door.admit_project("y" * (PROJECT_KEY_CHARS_MAX + 1), Passed()))
    for _ in range(3):
        entrance.door.admit_project("", Passed())
        Entrance().door.admit_project("default", Passed())
    assert PROJECT_KEY_CHARS_MAX == PROJECT_ID_CHARS_MAX


def test_however_many_projects_are_named_no_more_than_so_many_are_remembered() -> None:
    entrance = Entrance(per_project_rpm=1)
    for number in range(KEYS_MAX + 1000):
        entrance.door.admit_project(str(number), Passed())
    assert len(entrance.door._named_projects) <= KEYS_MAX


def test_the_answer_tells_of_the_limit_that_is_nearest() -> None:
    entrance = Entrance(per_address_rpm=10, per_credential_rpm=5, per_project_rpm=20)
    passed = entrance.admit("198.51.100.1")
    assert said(passed) == (10, 9, 6)
    assert said(entrance.count(principal(), passed)) == (5, 4, 12)
    for _ in range(7):
        entrance.admit("198.51.100.1")
    passed = entrance.admit("198.51.100.1")
    assert said(entrance.count(principal(), passed)) == (10, 1, 54)


def test_the_limit_that_refuses_is_the_one_that_is_told() -> None:
    entrance = Entrance(per_address_rpm=1, per_credential_rpm=2)
    entrance.count(principal())
    entrance.count(principal())
    entrance.clock.move(10.0)
    passed = entrance.admit("198.51.100.1")
    assert said(passed) == (1, 0, 60)
    refused = limited(entrance, lambda: entrance.count(principal(), passed))
    assert refused.limit == "per_credential_rpm"
    assert said(passed) == (2, 0, 50)


def test_what_does_not_count_has_an_allowance_of_its_own_and_an_end():
    entrance = Entrance(per_address_rpm=60, per_credential_rpm=1)
    for _ in range(600):
        assert entrance.admit("198.51.100.1", counted=False).headers() == []
    with pytest.raises(LimitReached) as refused:
        entrance.admit("198.51.100.1", counted=False)
    assert refused.value.limit == "per_ip_rpm"
    entrance.admit("198.51.100.1")  # what counts is not touched by it
    entrance.admit("198.51.100.2", counted=False)
    for _ in range(120):  # under the least there is nothing a program that polls could do
        entrance.count(principal(), counted=False)
    with pytest.raises(LimitReached):
        entrance.count(principal(), counted=False)
    entrance.count(principal())
    entrance.clock.at += 1
    entrance.count(principal(), counted=False)


def test_what_does_not_count_is_not_limited_where_nothing_is():
    entrance = Entrance()
    for _ in range(1000):
        entrance.admit("198.51.100.1", counted=False)
        entrance.count(principal(), counted=False)
    free = Entrance(per_credential_rpm=1)
    for _ in range(1000):
        free.count(principal(rpm=0), counted=False)


# -- sessions of visitors ----------------------------------------------------------------------------------------------


async def test_routes_for_sessions_let_no_credential_in_and_where_nobody_keeps_any_nobody() -> None:
    entrance = Entrance()
    minted = await entrance.mint.create("c", PROJECT, scopes=(Scope.ADMIN,))
    visitors = Route("GET", "/z", lambda request: ReadStatus(), answer=lambda r, q: Reply(200), session=True)
    headers = {"authorization": f"Bearer {minted.text}"}

    assert await entrance.door.admit_principal(HOUSE, READ, headers, Passed())
    passed = Passed()
    with pytest.raises(NotAuthenticated, match="session"):
        await entrance.door.admit_principal(HOUSE, visitors, headers, passed)
    assert passed.principal is None
