"""Open streams are looked at again, and closed once their readers are let in no longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.access.credentials import Again, Standing
from dragoman.core.admission import IssueStreamTicket
from dragoman.core.errors import DragomanError, NotFound, Unavailable
from dragoman.core.names import ConversationId, Principal, ProjectId, Scope
from dragoman.core.operations import FollowRun, UpdateConversation
from dragoman.edge.watching import AT_ONCE, LOOK_EVERY_S, LOST, PAUSE_S, Reading, Watch
from tests.edge.toy import TOY
from tests.parts import ADMIN, Gate, ScriptedReplies, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Stream

TALK = "/toy/talks/t"
EVENTS = f"{TALK}/events"
T = ConversationId("t")
GONE = f"failed {LOST}\n".encode()


class Caller:
    """Somebody with a credential that a test can change."""

    def __init__(self, s: Stage, text: str, credential_id: str) -> None:
        self._s = s
        self.client = Client(s.house.app, headers={"authorization": f"Bearer {text}"})
        self.id = credential_id
        self.text = text

    @classmethod
    async def of(cls, s: Stage, *scopes: Scope, **more: Any) -> "Caller":
        wanted = scopes or (Scope.CHAT_RUN, Scope.CHAT_READ)
        minted = await s.house.mint.create("reader", ADMIN.project, scopes=wanted, **more)
        return cls(s, minted.text, minted.credential.id)

    async def change(self, **fields: Any) -> None:
        credential = await self._s.house.access.credential(self.id)
        await self._s.house.access.put_credential(replace(credential, **fields))

    async def ticket(self) -> str:
        principal = await self._s.house.authenticator.prove(self.text)
        return (await self._s.house.desk.answer(principal, IssueStreamTicket(T))).text


@asynccontextmanager
async def listening(s: Stage, client: Client, target: str = EVENTS) -> AsyncIterator[Stream]:
    """A stream that has said all there is, and waits."""
    async with client.stream("GET", target) as stream:
        await stream.until(b"run_claimed")
        yield stream


@asynccontextmanager
async def talking(stage: SetUp) -> AsyncIterator[tuple[Stage, Caller]]:
    """A conversation of the caller's whose turn does not end."""
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(dialects=(TOY,), model=model) as s:
        caller = await Caller.of(s)
        await caller.client.request("POST", TALK, body=b'{"mode":"accept"}')
        yield s, caller
        model.gate.open()


async def test_a_reader_whose_credential_is_revoked_is_sent_away_and_the_others_stay(stage: SetUp) -> None:
    async with talking(stage) as (s, caller):
        async with listening(s, caller.client) as mine, listening(s, s.client()) as admins:
            await s.house.watch.look()
            assert len(s.house.watch) == 2
            await s.house.mint.revoke(caller.id)
            await s.house.watch.look()
            assert await mine.rest() == GONE
            s.model.gate.open()
            assert b"run_completed" in await admins.rest()
        assert len(s.house.watch) == 0


async def test_a_reader_whose_time_has_run_out_is_sent_away(stage: SetUp) -> None:
    async with talking(stage) as (s, caller):
        await caller.change(expires_at=s.clock.now() + 100)
        async with listening(s, caller.client) as stream:
            s.clock.at += 100
            await s.house.watch.look()  # clocks differ: it is not over yet
            assert len(s.house.watch) == 1
            s.clock.at += 61
            await s.house.watch.look()
            assert await stream.rest() == GONE


async def test_a_text_that_was_rotated_away_is_good_for_its_overlap(stage: SetUp) -> None:
    async with talking(stage) as (s, caller), listening(s, caller.client) as stream:
        await s.house.mint.rotate(caller.id, overlap_s=100)
        await s.house.watch.look()
        assert len(s.house.watch) == 1
        await s.house.mint.rotate(caller.id, overlap_s=0)
        await s.house.watch.look()
        assert await stream.rest() == GONE


async def test_a_ticket_is_over_when_it_is_over(stage: SetUp) -> None:
    async with talking(stage) as (s, caller):
        async with listening(s, s.anonymous(), f"{EVENTS}?ticket={await caller.ticket()}") as stream:
            s.clock.at += 599
            await s.house.watch.look()
            assert len(s.house.watch) == 1
            s.clock.at += 1
            await s.house.watch.look()
            assert await stream.rest() == GONE


@pytest.mark.parametrize("change", [{"revoked_at": 1.0}, {"subject": "another"}, {"expires_at": 1.0}])
async def test_a_ticket_ends_with_its_credential(stage: SetUp, change: dict[str, Any]) -> None:
    async with talking(stage) as (s, caller):
        async with listening(s, s.anonymous(), f"{EVENTS}?ticket={await caller.ticket()}") as stream:
            await s.house.watch.look()
            assert len(s.house.watch) == 1
            await caller.change(**change)
            await s.house.watch.look()
            assert await stream.rest() == GONE


async def test_a_reader_that_loses_the_scope_is_sent_away(stage: SetUp) -> None:
    async with talking(stage) as (s, caller), listening(s, caller.client) as stream:
        await caller.change(scopes=(Scope.CHAT_READ, Scope.TOOLS_USE))
        await s.house.watch.look()
        assert len(s.house.watch) == 1  # what the route asks for is still there
        await caller.change(scopes=(Scope.TOOLS_USE,))
        await s.house.watch.look()
        assert await stream.rest() == b"failed This credential lacks the scope chat:read.\n"


async def test_an_admin_who_is_one_no_longer_does_not_see_the_conversations_of_others(stage: SetUp) -> None:
    async with talking(stage) as (s, caller):
        former = await Caller.of(s, Scope.ADMIN)
        async with listening(s, former.client) as stream:
            await former.change(scopes=(Scope.CHAT_READ,))
            await s.house.watch.look()
            assert await stream.rest() == b"failed There is no conversation t.\n"
        async with listening(s, caller.client):
            await caller.change(scopes=(Scope.CHAT_READ,))
            await s.house.watch.look()
            await s.house.watch.look()
            assert len(s.house.watch) == 1


async def test_a_reader_whose_project_is_deleted_is_sent_away(stage: SetUp) -> None:
    async with talking(stage) as (s, caller), listening(s, caller.client) as stream:
        s.store._kept.credentials.clear()  # as another process deletes a project: no reader is woken here
        await s.house.watch.look()
        assert await stream.rest() == GONE


async def test_a_server_looks_by_itself(stage: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman.edge.watching.LOOK_EVERY_S", 0.01)
    async with talking(stage) as (s, caller), listening(s, caller.client) as stream:
        await s.house.mint.revoke(caller.id)
        assert await stream.rest() == GONE


async def test_an_answer_may_be_read_to_its_end_unless_the_credential_is_revoked(stage: SetUp) -> None:
    async with talking(stage) as (s, caller):
        await caller.change(expires_at=s.clock.now() + 100)
        async with (
            caller.client.stream("POST", "/toy/talks/u", body=b'{"mode":"stream"}') as one,
            caller.client.stream("POST", "/toy/talks/v", body=b'{"mode":"stream"}') as other,
        ):
            await one.until(b"run_claimed")
            await other.until(b"run_claimed")
            s.clock.at += 1000
            await s.house.watch.look()
            s.model.gate.release()
            s.model.gate.release()
            s.model.gate.release()
            assert len(s.house.watch) == 1
            await s.house.mint.revoke(caller.id)
            await s.house.watch.look()
            assert (await one.rest()).endswith(GONE)
            assert (await other.rest()).endswith(GONE)


async def test_who_reads_a_run_of_a_shared_conversation_hears_no_more_once_it_is_not(stage: SetUp) -> None:
    """The wire follows runs of private conversations: Grafana's tasks/resubscribe."""
    async with talking(stage) as (s, caller):
        other = await Caller.of(s)
        reader = await s.house.authenticator.prove(other.text)
        owner = await s.house.authenticator.prove(caller.text)
        await s.house.desk.answer(owner, UpdateConversation(T, shared=True, private=True))
        run = (await s.store.get(ADMIN.project, T)).live_run
        following = await s.house.desk.answer(reader, FollowRun(run, private=True))
        read = s.house.desk.reader(following.started, after=following.after, reader=reader)
        assert await read.batch()
        await s.house.desk.answer(owner, UpdateConversation(T, shared=False, private=True))
        s.model.gate.open()
        with pytest.raises(NotFound):
            while True:
                await read.batch()


# -- the watch itself --------------------------------------------------------------------------------------------------


class FakeStream:
    def __init__(self) -> None:
        self.error: DragomanError | None = None

    def send_away(self, error: DragomanError) -> None:
        self.error = error


WHO = Principal(ProjectId("p"), "k", "n", frozenset({Scope.CHAT_READ}))


class Credentials:
    """Says of everybody what a test wants, and counts how often it is asked."""

    def __init__(self, *answers: Again | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def again(self, standing: Standing) -> Again:
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def watch_of(credentials: Credentials) -> tuple[Watch, list[float]]:
    slept: list[float] = []

    async def check(principal: Principal, conversation: ConversationId) -> None:
        raise AssertionError("nobody's rights have changed")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            raise asyncio.CancelledError

    return Watch(credentials, check, sleep=sleep), slept  # type: ignore[arg-type] all of it that is used


def enter(watch: Watch, digest: bytes) -> FakeStream:
    stream = FakeStream()
    watch.add(stream, Standing(digest, "k"), Reading(WHO, (Scope.CHAT_READ,), T))
    return stream


async def test_ten_thousand_readers_with_one_credential_cost_one_look_up() -> None:
    credentials = Credentials(Again(WHO))
    watch, slept = watch_of(credentials)
    streams = [enter(watch, b"one") for _ in range(10_000)]
    await watch.look()
    assert (credentials.asked, slept) == (1, [])
    assert not any(stream.error for stream in streams)


async def test_many_credentials_are_looked_at_with_pauses() -> None:
    credentials = Credentials(Again(WHO))
    watch, slept = watch_of(credentials)
    for number in range(2 * AT_ONCE + 1):
        enter(watch, b"%d" % number)
    await watch.look()
    assert (credentials.asked, slept) == (2 * AT_ONCE + 1, [PAUSE_S, PAUSE_S])
    assert 10_000 / AT_ONCE * PAUSE_S + LOOK_EVERY_S < 60


async def test_while_the_store_is_away_nobody_is_sent_away_and_the_next_look_tries_again() -> None:
    credentials = Credentials(Unavailable("away"), RuntimeError("a fault of ours"), Again(None))
    watch, slept = watch_of(credentials)
    stream = enter(watch, b"one")
    with pytest.raises(asyncio.CancelledError):
        await watch.keep_looking()
    assert slept == [LOOK_EVERY_S] * 4
    assert str(stream.error) == LOST
