"""What a run makes of odd tool calls, of endless ones, and of answers that come too late, over real sockets: R37 to R39
of the reliability plan, streamed and at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.names import RunId
from dragoman.core.operations import CancelRun
from dragoman.models.openai_chat import OpenAIChatOptions
from dragoman.runtime.budgets import Budget
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import ARGUMENTS_BYTES_MAX, Arguments
from dragoman.tools.registry import Registry
from tests.models.trails import CALLS, answer, call, calling, frames, piece, trial, whole
from tests.parts import ADMIN
from tests.runtime.scene import within
from tests.upstream import SSE_HEAD, Upstream, reply, serving

pytestmark = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "at-once"])

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving() as serving_upstream:
        yield serving_upstream


class Counting(Registry):
    """One tool, `count`, that checks its arguments as any other does and notes each effect."""

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[tuple[str, Arguments]] = []
        self.register(ToolSpec("count", "Counts.", SCHEMA, repeat=Repeat.ONCE), self._count)

    async def _count(self, arguments: Arguments, context: CallContext) -> str:
        self.effects.append((context.key, arguments))
        return "counted"


# -- R37: calls that are odd ---------------------------------------------------------------------------------------

TEN_MEGABYTES = 10 * 1000 * 1000


def fragments(text: str, chars: int) -> Iterator[bytes]:
    """A call whose arguments come piece by piece."""
    for at in range(0, len(text), chars):
        part = {"index": 0, "function": {"arguments": text[at : at + chars]}}
        if not at:
            part = call("c1", "count", text[:chars])
        yield frames({"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]})


NESTED = '{"n":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("{", "The arguments are not valid JSON: input data was truncated."),
        ("count to three", "The arguments are not valid JSON: JSON is malformed: invalid character (byte 0)."),
        ('{"n": 1,}', "The arguments are not valid JSON: JSON is malformed: trailing comma in object (byte 8)."),
        ("{'n': 1}", "The arguments are not valid JSON: JSON is malformed: object keys must be strings (byte 1)."),
        ("[1]", "The arguments must be a JSON object, not an array."),
        ('"[1]"', "The arguments must be a JSON object, not an array."),
        ('{"n": "1"}', 'The arguments do not fit: n: "1" is not of type "integer". It takes: n.'),
        ("", 'The arguments do not fit: "n" is a required property. It takes: n.'),
        (NESTED, None),
    ],
)
async def test_arguments_that_cannot_be_used_are_an_error_the_model_hears_of(
    upstream: Upstream, arguments: str, sentence: str | None, stream: bool
) -> None:
    upstream.script(calling(call("c1", "count", arguments), stream=stream), then="keep")
    upstream.script(answer("sorry", stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools}) as t:
        trail = await t.trail(stream=stream)
    assert [told for told in trail if told.startswith("tool_")] == ["tool_started", "tool_returned bad_arguments"]
    assert trail[-2:] == ["reply_finished sorry", "run_completed"]
    assert tools.effects == []
    again = upstream.requests[1].json()["messages"]
    assert isinstance(json.loads(again[-2]["tool_calls"][0]["function"]["arguments"]), dict)
    assert again[-1]["tool_call_id"] == "c1"
    if sentence is not None:
        assert again[-1]["content"] == f"{sentence} Correct them and call count again."


@pytest.mark.parametrize("arguments", ['{"n": 1}', '"{\\"n\\": 1}"', {"n": 1}])
async def test_repaired_are_an_object_that_was_encoded_twice_and_one_that_was_not_encoded(
    upstream: Upstream, arguments: Any, stream: bool
) -> None:
    """…and nothing else: see the sentences above."""
    upstream.script(calling(call("c1", "count", arguments), stream=stream), then="keep")
    upstream.script(answer("one", stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools}) as t:
        assert (await t.trail(stream=stream))[-1] == "run_completed"
    assert tools.effects == [("r1:c1", {"n": 1})]
    sent = upstream.requests[1].json()["messages"][-2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"n": 1}


@pytest.mark.parametrize("chars", [1_000, 1_000_000])
async def test_arguments_of_ten_megabytes_are_an_error_the_model_hears_of(
    upstream: Upstream, chars: int, stream: bool
) -> None:
    text = '{"n":"' + "x" * TEN_MEGABYTES + '"}'
    if stream:
        upstream.script_from([SSE_HEAD, *fragments(text, chars), frames(CALLS, b"[DONE]")])
    else:
        upstream.script(reply(200, whole(None, [call("c1", "count", text)], "tool_calls")))
    upstream.script(answer("sorry", stream=stream))
    tools = Counting()
    async with trial(upstream, scene={"tools": tools}) as t:
        trail = await t.trail(stream=stream)
        events = await t.scene.events()
    assert "tool_returned bad_arguments" in trail
    assert trail[-2:] == ["reply_finished sorry", "run_completed"]
    assert tools.effects == []
    (replied,) = (event for event in events if isinstance(event, ev.ReplyFinished) and event.calls)
    assert len(replied.calls[0].arguments) == ARGUMENTS_BYTES_MAX + 1
    assert len(upstream.requests[1].body) < 2000
    result = upstream.requests[1].json()["messages"][-1]["content"]
    assert result == ("The arguments are 262,145 bytes; at most 262,144 are taken. Correct them and call count again.")


async def test_a_frame_of_ten_megabytes_is_too_long(upstream: Upstream, stream: bool) -> None:
    """It is over the bound of a line, and nothing is left then that could be answered. Also where no stream was asked
    for."""
    upstream.script_from([SSE_HEAD, *fragments('{"n":"' + "x" * TEN_MEGABYTES + '"}', TEN_MEGABYTES)])
    async with trial(upstream) as t:
        assert (await t.trail(stream=stream))[-1] == "run_failed upstream_too_long"


def test_what_the_model_reads_of_arguments_is_what_the_tools_take(stream: bool) -> None:
    assert OpenAIChatOptions(url="", name="").arguments_chars_max == ARGUMENTS_BYTES_MAX


async def test_of_a_thousand_calls_thirty_two_are_run(upstream: Upstream, stream: bool) -> None:
    many = [call(f"c{at}", "count", f'{{"n":{at}}}', at) for at in range(1000)]
    upstream.script(calling(*many, stream=stream), then="keep")
    upstream.script(answer("so far", stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools}) as t:
        assert (await t.trail(stream=stream))[-2:] == ["reply_finished so far", "run_completed"]
    assert sorted(arguments["n"] for _, arguments in tools.effects) == list(range(32))
    asked, *results = upstream.requests[1].json()["messages"][-33:]
    assert [each["id"] for each in asked["tool_calls"]] == [f"c{at}" for at in range(32)]
    assert [each["tool_call_id"] for each in results] == [f"c{at}" for at in range(32)]


async def test_calls_under_one_id_are_told_apart_within_a_reply_and_a_run(upstream: Upstream, stream: bool) -> None:
    for first in (0, 2):
        twins = [call("c1", "count", f'{{"n":{first + at}}}', at) for at in range(2)]
        upstream.script(calling(*twins, stream=stream), then="keep")
    upstream.script(answer("four", stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools}) as t:
        assert (await t.trail(stream=stream))[-1] == "run_completed"
    assert len({key for key, _ in tools.effects}) == 4
    assert [arguments["n"] for _, arguments in tools.effects] == [0, 1, 2, 3]
    messages = upstream.requests[2].json()["messages"]
    asked = [each["id"] for message in messages for each in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert (asked, len(set(asked))) == (answered, 4)


async def test_a_tool_nobody_has_is_an_error_the_model_hears_of(upstream: Upstream, stream: bool) -> None:
    upstream.script(calling(call("c1", "cuont", "{}"), call("c2", "n" * 5000, "{}", 1), stream=stream), then="keep")
    upstream.script(answer("sorry", stream=stream), then="keep")
    async with trial(upstream, scene={"tools": Counting()}) as t:
        trail = await t.trail(stream=stream)
    assert trail.count("tool_returned unknown_tool") == 2
    assert trail[-1] == "run_completed"
    results = [each["content"] for each in upstream.requests[1].json()["messages"][-2:]]
    assert results[0] == "There is no tool 'cuont'. The closest names are: count."
    assert len(results[1]) < 300


# -- R38: calls without end ----------------------------------------------------------------------------------------


async def test_an_endless_loop_of_calls_ends_at_the_step_limit_with_all_of_it_on_the_tape(
    upstream: Upstream, stream: bool
) -> None:
    for step in range(30):
        upstream.script(calling(call("c1", "count", f'{{"n":{step}}}'), stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools, "budget": Budget()}) as t:
        trail = await t.trail(stream=stream)
    assert trail[-1] == "run_failed step_limit"
    assert (trail.count("reply_started"), trail.count("tool_returned"), len(tools.effects)) == (25, 24, 24)
    assert len(upstream.requests) == 25


async def test_the_same_call_again_and_again_is_broken_off(upstream: Upstream, stream: bool) -> None:
    for _ in range(50):
        upstream.script(calling(call("c1", "count", '{"n":1}'), stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools, "budget": Budget()}) as t:
        trail = await t.trail(stream=stream)
    assert trail[-1] == "run_failed repeated_call"
    assert (len(tools.effects), len(upstream.requests)) == (5, 6)


async def test_the_same_call_fifty_times_in_one_reply_has_no_effect(upstream: Upstream, stream: bool) -> None:
    many = [call(f"c{at}", "count", '{"n":1}', at) for at in range(50)]
    upstream.script(calling(*many, stream=stream), then="keep")
    tools = Counting()
    async with trial(upstream, scene={"tools": tools, "budget": Budget()}) as t:
        assert (await t.trail(stream=stream))[-1] == "run_failed repeated_call"
    assert tools.effects == []


# -- R39: answers that come too late -------------------------------------------------------------------------------

CLOSED_S = 1.0
"""Promise G11: so long after a cancel the model's socket is closed at the latest."""


@pytest.mark.parametrize("begun", ["not at all", "with its head", "with half an answer"])
async def test_a_cancel_closes_the_socket_and_what_comes_later_is_dropped(
    upstream: Upstream, begun: str, stream: bool
) -> None:
    half = SSE_HEAD + frames(piece("hello")) if stream else reply(200, whole("hello"))[:-5]
    head = half[: half.index(b"\r\n\r\n") + 4]
    spoken = {"not at all": b"", "with its head": head, "with half an answer": half}[begun]
    cancelled = asyncio.Event()
    upstream.script(spoken, cancelled, answer("too late", stream=stream), then="keep")
    async with trial(upstream) as t:
        await t.scene.start(deltas=stream)
        seen = await upstream.request()
        async with asyncio.timeout(5):
            while seen.bytes_sent < len(spoken) or t.scene.runs.live == 0:
                await asyncio.sleep(0)
            while stream and begun == "with half an answer" and "text_added hello" not in await t.told():
                await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await within(t.scene.runs.cancel(ADMIN, CancelRun(RunId("r1"))))
        async with asyncio.timeout(CLOSED_S):
            await seen.peer_closed.wait()
        assert asyncio.get_running_loop().time() - began < CLOSED_S
        cancelled.set()
        await t.scene.settled()
        shown = ["text_added hello"] if stream and begun == "with half an answer" else []
        # A reply that showed nothing has left nothing on the tape: its beginning rides with its first text.
        trail = await t.told()
        assert [told for told in trail if told not in ("reply_started", "cancel_asked")] == [
            "run_claimed",
            *shown,
            "run_cancelled",
        ]
    assert t.counters.replies_abandoned == 1
    assert upstream.connections == set()


async def test_a_cancel_between_two_attempts_asks_no_third_time(upstream: Upstream, stream: bool) -> None:
    upstream.script(reply(503, b""), then="keep")
    paused = asyncio.Event()

    async def pause(_: float) -> None:
        paused.set()
        await asyncio.Event().wait()

    async with trial(upstream) as t:
        t.pauses.hook = pause
        await t.scene.start(deltas=stream)
        await within(paused.wait())
        await within(t.scene.runs.cancel(ADMIN, CancelRun(RunId("r1"))))
        await t.scene.settled()
        assert (await t.told())[-1] == "run_cancelled"
    assert len(upstream.requests) == 1


async def test_the_next_run_gets_its_own_answer_and_not_that_of_the_cancelled_one(
    upstream: Upstream, stream: bool
) -> None:
    cancelled = asyncio.Event()
    upstream.script(cancelled, answer("an answer to the first", stream=stream), then="keep")
    upstream.script(answer("an answer to the second", stream=stream), then="keep")
    async with trial(upstream) as t:
        await t.scene.start("first", deltas=stream)
        await upstream.request()
        await within(t.scene.runs.cancel(ADMIN, CancelRun(RunId("r1"))))
        cancelled.set()
        second = await t.scene.start("second", deltas=stream)
        assert (await t.scene.outcome(second)).text == "an answer to the second"
    assert upstream.counts["connections"] == 2
