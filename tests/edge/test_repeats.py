"""The same request twice: one turn, one answer (promise G2, plans R52 and R53)."""

import asyncio
import json
from typing import Any

import pytest

from dragoman.core.errors import BackendFailed, StillRunning, Unavailable
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, Scope
from dragoman.core.operations import Mark, Started, StartTurn
from dragoman.edge.repeats import Repeats
from dragoman.runtime.ports import KEY_KEPT_S, LEASE_S
from dragoman.wire.dialect import Reply, Request, Route
from tests.parts import ADMIN, Gate, ScriptedReplies, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Response

WAIT_S = 5.0
CHAT, STREAM = "/api/v1/chat", "/api/v1/chat/stream"
BODY = b'{"message":"how is it?","session_key":"k"}'
TWICE = {"x-stainless-retry-count": "1"}


def key(text: str = "abc") -> dict[str, str]:
    return {"idempotency-key": text}


async def post(s: Stage, path: str = CHAT, body: bytes = BODY, **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await s.client().request("POST", path, body=body, headers=names)


async def keyed(s: Stage, text: str = "abc", path: str = CHAT, body: bytes = BODY) -> Response:
    return await s.client().request("POST", path, body=body, headers=key(text))


async def turns(s: Stage) -> int:
    """How many were accepted."""
    return len(await s.store.runs(ADMIN.project, limit=1000))


def gated(*script: Any) -> ScriptedReplies:
    model = ScriptedReplies(*(script or (text_reply("It is ", "fine."),)))
    model.gate = Gate()
    return model


def replayed(answer: Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


def detail(answer: Response) -> str:
    return json.loads(answer.body)["detail"]


# -- R52: a key --------------------------------------------------------------------------------------------------------


async def test_the_same_request_again_gets_the_same_answer_and_begins_nothing(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    async with stage(model=model) as s:
        first = await keyed(s)
        again = [await keyed(s) for _ in range(3)]
        assert await turns(s) == 1
    assert (first.status, replayed(first)) == (200, False)
    for answer in again:
        assert (answer.status, answer.body, replayed(answer)) == (first.status, first.body, True)
        assert answer.headers["x-run-id"] == first.headers["x-run-id"]
        assert answer.headers["content-type"] == first.headers["content-type"]
    assert len(model.prompts) == 1


async def test_of_fifty_at_once_one_begins_a_turn_and_no_two_answers_differ(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as s:
        asked = [asyncio.create_task(keyed(s)) for _ in range(50)]
        while sum(task.done() for task in asked) < 49:
            await asyncio.sleep(0)
        model.gate.open()  # type: ignore[union-attr] it was set
        answers = await asyncio.wait_for(asyncio.gather(*asked), WAIT_S)
        assert await turns(s) == 1
        after = await keyed(s)
    assert sorted(answer.status for answer in answers) == [200] + [409] * 49
    assert {answer.body for answer in answers if answer.status == 200} == {after.body}
    assert len({answer.headers["x-run-id"] for answer in answers}) == 1
    assert len(model.prompts) == 1


async def test_a_repeat_while_the_first_is_at_work_is_told_when_to_come_back(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as s:
        first = asyncio.create_task(keyed(s))
        while await turns(s) < 1:
            await asyncio.sleep(0)
        early = await keyed(s)
        model.gate.open()  # type: ignore[union-attr] it was set
        await first
        late = await keyed(s)
    assert (early.status, early.headers["retry-after"], early.headers["x-should-retry"]) == (409, "1", "true")
    assert detail(early) == "The first request with this key is still being answered; ask again in a moment."
    assert not replayed(early) and early.headers["x-run-id"] == late.headers["x-run-id"]
    assert (late.status, replayed(late)) == (200, True)


@pytest.mark.parametrize("body", [b'{"message":"and now?","session_key":"k"}', BODY.replace(b'"k"', b'"l"')])
async def test_a_key_that_comes_with_another_request_is_refused(stage: SetUp, body: bytes) -> None:
    async with stage() as s:
        first = await keyed(s)
        other = await keyed(s, body=body)
        again = await keyed(s)
        assert await turns(s) == 1
    assert (other.status, other.headers["x-should-retry"], replayed(other)) == (422, "false", False)
    assert set(json.loads(other.body)) == {"detail"} and detail(other)
    assert (again.status, again.body) == (200, first.body)


async def test_a_key_with_another_request_is_refused_also_while_the_first_is_at_work(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=BODY, headers=key()) as first:
        await first.until(b"event: start")
        other = await keyed(s, path=STREAM, body=b'{"message":"and now?","session_key":"k"}')
        model.gate.open()  # type: ignore[union-attr] it was set
        await first.rest()
    assert other.status == 422


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        ("abc", '"abc"', 1),
        ('"abc"', "abc", 1),
        ('"a\\"b"', 'a"b', 1),
        ("a" * 255, '"' + "a" * 255 + '"', 1),
        ("abc", "abd", 2),
        ("abc", "ABC", 2),
        ("abc", "abc;v=1", 2),
        ("abc", '"abc";v=1', 1),
    ],
)
async def test_a_key_is_the_same_with_and_without_quotes(stage: SetUp, first: str, second: str, count: int) -> None:
    async with stage() as s:
        assert [(await keyed(s, each)).status for each in (first, second)] == [200, 200]
        assert await turns(s) == count


@pytest.mark.parametrize("text", ["", '""', "a" * 256, '"' + "a" * 256 + '"', '"abc', "a b", "clé"])
@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_what_is_no_key_is_refused_before_anything_is_begun(stage: SetUp, path: str, text: str) -> None:
    async with stage() as s:
        answer = await keyed(s, text, path)
        assert await turns(s) == 0
    assert answer.status == 400
    assert detail(answer).startswith("Idempotency-Key must be 1 to 255 visible ASCII characters")


async def test_a_key_means_nothing_where_no_turn_is_begun(stage: SetUp) -> None:
    async with stage() as s:
        answers = [
            await s.client().request(method, path, body=body, headers=key(""))
            for method, path, body in (
                ("GET", "/api/v1/sessions", b""),
                ("POST", "/api/v1/tools/look/execute", b'{"parameters":{}}'),
                ("POST", "/api/runs/none/cancel", b""),
            )
        ]
        ran = sum(s.tools.effects.values())
    assert [answer.status for answer in answers] == [200, 200, 404]
    assert ran == 1


async def test_a_key_belongs_to_one_credential_and_one_path(stage: SetUp) -> None:
    async with stage() as s:
        minted = await s.house.mint.create("other", ADMIN.project, scopes=(Scope.CHAT_RUN,))
        other = key() | {"authorization": f"Bearer {minted.text}"}
        answers = [
            await keyed(s),
            await s.client().request("POST", CHAT, body=BODY, headers=other),
            await keyed(s, path=STREAM),
        ]
        assert await turns(s) == 3
    assert [(answer.status, replayed(answer)) for answer in answers] == [(200, False)] * 3


@pytest.mark.parametrize(("later_s", "count"), [(KEY_KEPT_S - 1, 1), (KEY_KEPT_S + 1, 2)])
async def test_a_key_is_known_for_a_day(stage: SetUp, later_s: float, count: int) -> None:
    async with stage() as s:
        await keyed(s)
        s.clock.move(later_s)
        again = await keyed(s)
        assert await turns(s) == count
    assert (again.status, replayed(again)) == (200, count == 1)


async def test_a_conversation_that_was_named_by_the_server_is_the_first_ones(stage: SetUp) -> None:
    body = b'{"message":"how is it?"}'
    async with stage() as s:
        blocking = [json.loads((await keyed(s, body=body)).body)["session_key"] for _ in range(2)]
        streams = [(await keyed(s, path=STREAM, body=body)).body for _ in range(2)]
        assert await turns(s) == 2
    assert blocking[0] == blocking[1]
    assert streams[0] == streams[1]


async def test_a_repeated_stream_joins_the_run_from_its_beginning(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as s:
        async with s.client().stream("POST", STREAM, body=BODY, headers=key()) as first:
            model.gate.release()  # type: ignore[union-attr] it was set
            await first.until(b'"It is "')
            async with s.client().stream("POST", STREAM, body=BODY, headers=key()) as second:
                await second.until(b'"It is "')
                assert not second.ended
                model.gate.open()  # type: ignore[union-attr] it was set
                await asyncio.gather(first.rest(), second.rest())
        third = await keyed(s, path=STREAM)
        assert await turns(s) == 1
    assert first.body == second.body == third.body
    assert [replayed(answer) for answer in (first, second, third)] == [False, True, True]
    assert len({answer.headers["x-run-id"] for answer in (first, second, third)}) == 1


async def test_a_failure_is_the_answer_too_and_its_repeat_is_not_worth_while(stage: SetUp) -> None:
    model = ScriptedReplies([BackendFailed("It failed.")])
    async with stage(model=model) as s:
        answers = [await keyed(s) for _ in range(2)]
        unkeyed = await post(s)
    assert [(answer.status, answer.headers.get("x-should-retry")) for answer in answers] == [(502, "false")] * 2
    assert [replayed(answer) for answer in answers] == [False, True]
    assert (unkeyed.status, unkeyed.headers.get("x-should-retry")) == (502, None)
    assert len(model.prompts) == 2


async def test_after_a_crash_the_repeat_finds_what_became_of_the_turn(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as dying:
        lost = asyncio.create_task(keyed(dying))
        while await turns(dying) < 1:
            await asyncio.sleep(0)
        lost.cancel()
    dying.clock.move(LEASE_S + 1)
    async with stage(store=dying.store, clock=dying.clock) as s:
        s.credential = dying.credential
        await asyncio.wait_for(s.house.runs[0].settled(), WAIT_S)
        answers = [await keyed(s) for _ in range(2)]
        assert await turns(s) == 1
    assert [(answer.status, replayed(answer)) for answer in answers] == [(200, True)] * 2
    assert json.loads(answers[0].body)["response"] == "It is fine."
    assert answers[0].body == answers[1].body


async def test_a_deleted_conversation_takes_its_keys_along(stage: SetUp) -> None:
    async with stage() as s:
        await keyed(s)
        await s.client().request("DELETE", "/api/v1/sessions/k")
        again = await keyed(s)
    assert (again.status, replayed(again)) == (200, False)


class Forgetful:
    """A store that cannot keep an answer."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def keep_answer(self, *args: Any) -> None:
        raise Unavailable("The disk is full.", code="storage_full")


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(stage: SetUp) -> None:
    async with stage() as s:
        s.house.runs[0]._store = Forgetful(s.store)
        first, again = [await keyed(s) for _ in range(2)]
        assert await turns(s) == 1
    assert (first.status, again.status, first.body == again.body) == (200, 200, True)
    assert (replayed(first), replayed(again)) == (False, True)


# -- what is kept, and where -------------------------------------------------------------------------------------------

REQUEST = Request("POST", "/x", {}, {}, {}, b"", "abcdef012345", "0" * 32, 1_700_000_000.0)
MARK = Mark("f" * 64, "a" * 64)


def numbered() -> Route[Any]:
    """Answers a started turn, each time in other words."""
    numbers = iter(range(10))

    def accept(started: Started, request: Request) -> Reply:
        return Reply(201, b"%d\xff" % next(numbers), "application/x-toy", (("location", f"/{started.run}"),))

    return Route("POST", "/x", lambda request: turn(), accept=accept)


def turn(**settings: Any) -> StartTurn:
    return StartTurn(ConversationId("k"), (said("user", "hi"),), **settings)


async def begun(s: Stage, mark: Mark = MARK, **settings: Any) -> Started:
    return await s.house.desk.answer(ADMIN, turn(**settings), mark)


async def answered(s: Stage, route: Route[Any], started: Started, mark: Mark = MARK) -> Reply:
    principal: Principal = ADMIN
    return await Repeats(s.house.desk).reply(route, REQUEST, principal, started, mark)


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_the_whole_reply_is_kept_as_it_was_given(stage: SetUp, ephemeral: bool) -> None:
    async with stage() as s:
        route = numbered()
        first = await begun(s, ephemeral=ephemeral)
        given = await answered(s, route, first)
        again = await begun(s, ephemeral=ephemeral)
        assert await answered(s, route, again) == given
        assert await turns(s) == (0 if ephemeral else 1)
    assert given == Reply(201, b"0\xff", "application/x-toy", (("location", f"/{first.run}"),))
    assert (again.run, again.replayed, again.ephemeral) == (first.run, True, ephemeral)


async def test_of_two_that_answer_at_once_both_give_what_was_kept_first(stage: SetUp) -> None:
    async with stage() as s:
        route = numbered()
        first = await begun(s)
        again = await begun(s)
        replies = [await answered(s, route, again), await answered(s, route, first)]
    assert replies[0] == replies[1]


async def test_without_a_key_nothing_is_kept(stage: SetUp) -> None:
    async with stage() as s:
        route = numbered()
        mark = Mark("f" * 64)
        first = await begun(s, mark)
        await answered(s, route, first, mark)
        again = await begun(s, Mark("f" * 64, window_s=10.0))
        reply = await answered(s, route, again, Mark("f" * 64, window_s=10.0))
    assert (again.replayed, reply.body) == (True, b"1\xff")


async def test_an_answer_that_another_version_packed_is_made_anew(stage: SetUp) -> None:
    async with stage() as s:
        first = await begun(s)
        await s.house.desk.keep_answer(ADMIN, first, MARK.key, b"\x93what is this")
        assert (await answered(s, numbered(), await begun(s))).status == 201


async def test_a_repeat_of_a_turn_that_is_at_work_is_not_waited_for(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as s:
        await begun(s)
        route = Route[Any]("POST", "/x", lambda request: turn(), collect=lambda outcome, request: Reply(200))
        with pytest.raises(StillRunning):
            await answered(s, route, await begun(s))
        model.gate.open()  # type: ignore[union-attr] it was set


async def test_a_route_that_cannot_answer_is_a_fault_of_ours(stage: SetUp) -> None:
    async with stage() as s:
        with pytest.raises(RuntimeError, match="POST /x has no way to answer"):
            await answered(s, Route("POST", "/x", lambda request: turn()), await begun(s))


# -- R53: a client library's own retry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_a_librarys_retry_of_a_lost_answer_is_the_same_turn(stage: SetUp, path: str) -> None:
    async with stage() as s:
        answers = [
            await s.client().request("POST", path, body=BODY, headers={"x-stainless-retry-count": str(count)})
            for count in range(3)
        ]
        assert await turns(s) == 1
        metrics = (await s.anonymous().request("GET", "/metrics")).body
    assert [(answer.status, replayed(answer)) for answer in answers] == [(200, False), (200, True), (200, True)]
    assert len({answer.body for answer in answers}) == 1
    assert b"dragoman_repeats_in_window_total 2.0" in metrics and b"dragoman_repeats_by_key_total 0.0" in metrics


async def test_a_librarys_retry_of_a_turn_that_is_at_work_waits_with_it(stage: SetUp) -> None:
    model = gated()
    async with stage(model=model) as s:
        first = asyncio.create_task(s.client().request("POST", CHAT, body=BODY))
        while await turns(s) < 1:
            await asyncio.sleep(0)
        second = asyncio.create_task(s.client().request("POST", CHAT, body=BODY, headers=TWICE))
        while s.house.desk._counters.repeats_in_window < 1:
            await asyncio.sleep(0)
        model.gate.open()  # type: ignore[union-attr] it was set
        answers = await asyncio.wait_for(asyncio.gather(first, second), WAIT_S)
        assert await turns(s) == 1
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body


@pytest.mark.parametrize(
    ("headers", "body", "later_s", "count"),
    [
        (TWICE, BODY, 0.0, 1),
        (TWICE, BODY, 9.0, 1),
        (TWICE, BODY, 11.0, 2),
        (TWICE, BODY + b" ", 0.0, 2),
        ({"x-stainless-retry-count": "0"}, BODY, 0.0, 2),
        ({"x-stainless-retry-count": "x"}, BODY, 0.0, 2),
        ({}, BODY, 0.0, 2),
    ],
)
async def test_saying_the_same_thing_twice_is_no_retry(
    stage: SetUp, headers: dict[str, str], body: bytes, later_s: float, count: int
) -> None:
    async with stage() as s:
        await s.client().request("POST", CHAT, body=BODY)
        s.clock.move(later_s)
        again = await s.client().request("POST", CHAT, body=body, headers=headers)
        assert await turns(s) == count
    assert (again.status, replayed(again)) == (200, count == 1)


async def test_a_librarys_retry_of_a_failed_turn_is_a_new_try_and_only_one(stage: SetUp) -> None:
    """The library was told of the failure: that is why it tries again."""

    class Mended(ScriptedReplies):
        async def reply(self, prompt: Any, *, stream: bool) -> Any:
            self.prompts.append(prompt)
            if len(self.prompts) == 1:
                raise BackendFailed("It failed.")
            for piece in text_reply("It is ", "fine."):
                yield piece

    async with stage(model=Mended()) as s:
        answers = [
            await s.client().request("POST", CHAT, body=BODY, headers={"x-stainless-retry-count": str(count)})
            for count in range(3)
        ]
        assert await turns(s) == 2
    assert [(answer.status, replayed(answer)) for answer in answers] == [(502, False), (200, False), (200, True)]


async def test_repeats_under_a_key_are_counted(stage: SetUp) -> None:
    async with stage() as s:
        for _ in range(3):
            await keyed(s)
        metrics = (await s.anonymous().request("GET", "/metrics")).body
    assert b"dragoman_repeats_by_key_total 2.0" in metrics and b"dragoman_repeats_in_window_total 0.0" in metrics
