"""Tools that a person's own program lends: who gets them, for how long, and which call is handed out."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core.agents import NO_ARGUMENTS, ToolSpec
from dragoman.core.errors import BadRequest
from dragoman.core.messages import ToolCall, said
from dragoman.core.names import CallId, ConversationId, Principal, ProjectId, RunId, Scope
from dragoman.core.operations import StartTurn
from dragoman.core.records import Record, Records
from dragoman.core.tunnel import TOOLSET, LendTools, PollTunnel
from dragoman.core.waits import ListWaitingCalls, WaitingCall, WaitingCalls
from dragoman.runtime.tunnels import CONNECTED_S, LOOKED_S, SEEN_EVERY_S, TOOLS_BYTES_MAX, TOOLS_MAX, Tunnels
from dragoman.stores.memory import MemoryStore
from tests.support import FixedClock

PROJECT = ProjectId("default")
ME = Principal(PROJECT, "one", "one", frozenset({Scope.TUNNEL_CONNECT}), subject="me")
ME_AGAIN = replace(ME, credential_id="two")
OTHER = Principal(PROJECT, "three", "three", frozenset({Scope.TUNNEL_CONNECT}))
READ = ToolSpec("filesystem_read_file", "Read a file.", NO_ARGUMENTS, held_s=120.0)
TURN = StartTurn(ConversationId("c"), (said("user", "Read it."),), managed=True)


class Desk:
    """Stands for what runs wait for."""

    def __init__(self) -> None:
        self.calls: list[WaitingCall] = []
        self.asked: list[ListWaitingCalls] = []

    async def waiting(self, principal: Principal, operation: ListWaitingCalls) -> WaitingCalls:
        self.asked.append(operation)
        return WaitingCalls(tuple(self.calls))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def records(clock: FixedClock) -> AsyncGenerator[Records]:
    store = MemoryStore(clock)
    yield store.records
    await store.close()


@pytest.fixture
def tunnels(records: Records, desk: Desk, clock: FixedClock) -> Tunnels:
    return Tunnels(records, desk.waiting, clock)


def waiting(number: int, *, expires_at: float, claimed_by: str = "") -> WaitingCall:
    call = ToolCall(CallId(f"c{number}"), READ.name, "{}")
    return WaitingCall(RunId("r"), ConversationId("c"), call, TOOLSET, 0.0, expires_at, claimed_by)


async def lent(tunnels: Tunnels, principal: Principal) -> list[str]:
    return [tool.name for tool in (await tunnels.prepare(principal, TURN)).client_tools]


async def test_a_tunnel_is_asked_for_its_tools_until_those_of_its_hash_are_known(tunnels: Tunnels) -> None:
    assert (await tunnels.poll(ME, PollTunnel("h1"))).send_tools
    assert (await tunnels.lend(ME, LendTools((READ,), "h1"))).count == 1
    assert not (await tunnels.poll(ME, PollTunnel("h1"))).send_tools
    assert (await tunnels.poll(ME, PollTunnel("h2"))).send_tools


async def test_lent_tools_go_with_the_turns_of_their_owner_and_of_nobody_else(tunnels: Tunnels) -> None:
    await tunnels.lend(ME, LendTools((READ,), "h"))
    (tool,) = (await tunnels.prepare(ME_AGAIN, TURN)).client_tools
    assert tool == replace(READ, toolset=TOOLSET)
    assert await lent(tunnels, OTHER) == []


async def test_a_tool_that_the_turn_brings_comes_before_a_lent_one_of_its_name(tunnels: Tunnels) -> None:
    await tunnels.lend(ME, LendTools((READ, replace(READ, name="filesystem_grep")), "h"))
    own = replace(READ, toolset="client")
    prepared = await tunnels.prepare(ME, replace(TURN, client_tools=(own,)))
    assert [(tool.name, tool.toolset) for tool in prepared.client_tools] == [
        ("filesystem_read_file", "client"),
        ("filesystem_grep", TOOLSET),
    ]


async def test_a_tunnel_that_polls_stays_connected_and_one_that_does_not_is_forgotten(
    tunnels: Tunnels, clock: FixedClock
) -> None:
    await tunnels.lend(ME, LendTools((READ,), "h"))
    for _ in range(20):
        clock.move(5.0)
        await tunnels.poll(ME, PollTunnel("h"))
    assert await lent(tunnels, ME) == [READ.name]
    clock.move(SEEN_EVERY_S + CONNECTED_S + 1)
    assert await lent(tunnels, ME) == []


async def test_polls_are_seldom_written_down(tunnels: Tunnels, records: Records, clock: FixedClock) -> None:
    await tunnels.lend(ME, LendTools((READ,), "h"))
    for _ in range(12):
        clock.move(5.0)
        await tunnels.poll(ME, PollTunnel("h"))
    record = await records.get(PROJECT, "tunnel", "me")
    assert record is not None
    assert record.version == 1 + 6


async def test_another_process_sees_the_tools_soon(
    records: Records, desk: Desk, tunnels: Tunnels, clock: FixedClock
) -> None:
    elsewhere = Tunnels(records, desk.waiting, clock)
    assert await lent(elsewhere, ME) == []
    await tunnels.lend(ME, LendTools((READ,), "h"))
    clock.move(LOOKED_S)
    assert await lent(elsewhere, ME) == [READ.name]


async def test_the_oldest_call_that_nobody_took_up_and_that_still_has_time_is_handed_out(
    tunnels: Tunnels, desk: Desk, clock: FixedClock
) -> None:
    await tunnels.lend(ME, LendTools((READ,), "h"))
    assert (await tunnels.poll(ME, PollTunnel("h"))).call is None
    soon = clock.now() + 60
    desk.calls = [
        waiting(1, expires_at=clock.now() - 1),
        waiting(2, expires_at=soon, claimed_by="somebody"),
        waiting(3, expires_at=soon),
        waiting(4, expires_at=soon),
    ]
    work = await tunnels.poll(ME, PollTunnel("h"))
    assert work.call == desk.calls[2]
    assert desk.asked[-1].toolset == TOOLSET


@pytest.mark.parametrize(
    ("tools", "said_of_it"),
    [
        ([replace(READ, name=f"a_{n}") for n in range(TOOLS_MAX + 1)], "at most 64 tools"),
        ([READ, READ], "two tools called filesystem_read_file"),
        ([replace(READ, description="x" * TOOLS_BYTES_MAX)], "at most 262,144 are kept"),
    ],
)
async def test_what_cannot_be_lent_is_refused_with_a_reason(
    tunnels: Tunnels, tools: list[Any], said_of_it: str
) -> None:
    with pytest.raises(BadRequest, match=said_of_it):
        await tunnels.lend(ME, LendTools(tuple(tools), "h"))
    assert (await tunnels.poll(ME, PollTunnel("h"))).send_tools


async def test_a_tunnel_that_comes_second_in_saying_that_it_is_open_goes_on(
    records: Records, desk: Desk, tunnels: Tunnels, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tunnels.lend(ME, LendTools((READ,), "h"))
    clock.move(SEEN_EVERY_S)
    read, second = records.get, Tunnels(records, desk.waiting, clock)
    overtaken = False

    async def overtake(project: ProjectId, kind: str, record_id: str) -> Record | None:
        """Between this read and the write that follows, the other tunnel of this owner writes."""
        nonlocal overtaken
        found = await read(project, kind, record_id)
        if not overtaken:
            overtaken = True
            await second.poll(ME, PollTunnel("h"))
        return found

    monkeypatch.setattr(records, "get", overtake)
    assert not (await tunnels.poll(ME_AGAIN, PollTunnel("h"))).send_tools
    record = await read(PROJECT, "tunnel", "me")
    assert record is not None
    assert record.version == 2
