"""The harness's clients of Rowboat's wire, the workflow that answers them, and how the checker sees their turns."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import RunView
from dragoman.core.workflow_checks import check as check_workflow
from dragoman.core.workflow_checks import errors
from dragoman.core.workflows import Handing, Staging
from dragoman.dialects.rowboat.stream import Stream
from dragoman.dialects.rowboat.workflow_json import compile_workflow
from tests.crash.checker import check
from tests.crash.evidence import Evidence
from tests.crash.history import History
from tests.crash.homes import Dump, TapeDump
from tests.crash.ledgers import Bill
from tests.crash.outside import RELAY
from tests.crash.relay import Publisher, draw_relay, relay
from tests.crash.rowboat import answer_of, faults_of
from tests.crash.scripts import HAND, NOBODY, TRANSFER, Script

SCRIPT = Script("c1.1", "canaryamber", ((f"{HAND}Scout",), (), (f"{HAND}{NOBODY}",)), words=2)
RUN = RunId("r1")


def test_the_workflow_can_be_published_and_its_agents_are_known_to_the_model():
    compiled = compile_workflow(json.dumps(relay()).encode())
    assert not errors(check_workflow(compiled))
    assert all(RELAY in member.agent.instructions for member in compiled.members)
    front = compiled.members[0]
    assert (front.agents, front.pipelines) == (("Scout", "Clerk"), ("Line",))
    assert {tool.spec.name: tool.spec.repeat.value for tool in compiled.tools}["count_once"] == "once"


def test_scripts_have_hand_overs_of_every_kind():
    drawn = [draw_relay(random.Random(seed), "t", "c") for seed in range(60)]
    asked = {call for script in drawn for step in script.steps for call in step if call.startswith(HAND)}
    assert asked == {f"{HAND}{name}" for name in ("Scout", "Line", "Clerk", NOBODY)}
    assert SCRIPT.calls(1) == [(TRANSFER, '{"assistant":"Scout"}')] and SCRIPT.calls(2) == []


# -- the checker -----------------------------------------------------------------------------------------------------


def call_of(id: str, to: str) -> ToolCall:
    return ToolCall(CallId(id), TRANSFER, f'{{"assistant": "{to}"}}')


def told(to: str) -> str:
    return f'{{"assistant": "{to}"}}'


def turn() -> list[ev.Event]:
    """As a tape has it where all is well."""
    usage = [Usage(10, SCRIPT.completion_tokens(reply)) for reply in range(1, 5)]
    return [
        ev.TurnReceived((said("user", SCRIPT.message()),), staging=Staging("v1")),
        ev.RunClaimed(1),
        ev.ReplyStarted("Front", "m"),
        ev.ReplyFinished(SCRIPT.text(1), (call_of("a", "Scout"),), usage[0]),
        ev.ToolReturned(CallId("a"), told("Scout")),
        ev.HandedOver("Front", "Scout", Handing.CALLED),
        ev.ReplyStarted("Scout", "m"),
        ev.ReplyFinished("", (), usage[1], internal=SCRIPT.text(2)),
        ev.CallAdded(call_of("b", "Front")),
        ev.ToolReturned(CallId("b"), told("Front")),
        ev.HandedOver("Scout", "Front", Handing.RETURNED),
        ev.ReplyStarted("Front", "m"),
        ev.ReplyFinished(SCRIPT.text(3), (call_of("c", NOBODY),), usage[2]),
        ev.ToolReturned(CallId("c"), "No.", True, code="not_handed_over"),
        ev.ReplyStarted("Front", "m"),
        ev.ReplyFinished(SCRIPT.text(4), (), usage[3]),
        ev.RunCompleted(sum(usage, Usage())),
    ]


def found(events: Sequence[ev.Event], *, heard: bytes | None = None, mode: str = "rowboat-stream") -> list[str]:
    """What the checker says of the turn; by default its client heard what stands there."""
    first = ev.ConversationCreated(ProjectId("amber"), ConversationId("id"), workflow="v1")
    entries = [Entry(1, RunId(""), 1.0, first)]
    entries += [Entry(at, RUN, float(at), event) for at, event in enumerate(events, start=2)]
    history = History()
    asked = history.invoke("append", who="c1", project="amber", token=SCRIPT.token, mode=mode, text=SCRIPT.message())
    history.add("ok", "append", asked, run=RUN, status=200)
    body = stream_of(entries) if heard is None else heard
    history.add("heard", "append", asked, text=body.decode("latin-1"))
    bills = [
        Bill(reply, SCRIPT.token, reply, 1, 1.0, 1.0, 1, True, "", 10, SCRIPT.completion_tokens(reply))
        for reply in range(1, 5)
    ]
    runs = {RUN: RunView(RUN, ConversationId("id"), Tape(1), "completed", 1, 2, 1.0, 9.0)}
    dump = Dump([TapeDump("amber", "id", None, entries)], runs)
    return [f"{each.invariant} {each.text}" for each in check(Evidence(history.records, dump, (), bills))]


def stream_of(entries: Sequence[Entry]) -> bytes:
    encoder = Stream()
    return b"".join(encoder.entry(entry) for entry in entries)


def heard_of(events: Sequence[ev.Event]) -> bytes:
    return stream_of([Entry(at, RUN, float(at), event) for at, event in enumerate(events, start=2)])


def without(*places: int) -> Callable[[list[ev.Event]], list[ev.Event]]:
    return lambda events: [event for at, event in enumerate(events) if at not in places]


def changed(place: int, **fields: Any) -> Callable[[list[ev.Event]], list[ev.Event]]:
    return lambda events: [*events[:place], replace(events[place], **fields), *events[place + 1 :]]


def test_a_turn_that_went_well_is_not_complained_of():
    assert found(turn()) == []
    body = json.dumps({"turn": answer_of("rowboat-stream", heard_of(turn()))["turn"]}).encode()
    assert found(turn(), heard=body, mode="rowboat") == []
    assert found(turn(), heard=heard_of(turn())[:-40]) == []  # it broke off


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (without(5), "transfer a of run r1 was granted at 6 and nobody has the word"),
        (without(4, 9), "transfer a of run r1 has 0 results"),
        (without(4), "run r1 has 2 hand-overs and 1 pairs"),
        (changed(5, to_agent="Clerk"), 'transfer a of run r1 says {"assistant": "Scout"}, and went to Clerk'),
        (changed(6, agent="Front"), "Front speaks at 8 of run r1, and Scout has the word"),
        (changed(10, from_agent="Clerk"), "Clerk hands over at 12 of run r1, and Scout has the word"),
        (changed(15, text="", internal=SCRIPT.text(4)), "run r1 completed without a last word for the user"),
        (changed(0, staging=Staging("v2")), "run r1 is answered by v2, its conversation began with v1"),
    ],
)
def test_half_a_hand_over_is_found(broken: Callable[[list[ev.Event]], list[ev.Event]], sentence: str):
    assert any(text.startswith(f"W1 {sentence}") for text in found(broken(turn())))


def test_what_was_heard_and_does_not_stand_on_the_tape_is_found():
    other = heard_of(changed(15, text="c1.1/4 else")(turn()))
    assert any(text.startswith("I4 the stream of turn c1.1 differs") for text in found(turn(), heard=other))
    twice = heard_of(turn()) * 2
    assert any(text.startswith("I4") for text in found(turn(), heard=twice))
    body = json.dumps({"turn": {"output": []}}).encode()
    assert any(text.startswith("I4 turn c1.1 was answered []") for text in found(turn(), heard=body, mode="rowboat"))


# -- what a client looks at ------------------------------------------------------------------------------------------


def output() -> list[dict[str, Any]]:
    whole = answer_of("rowboat-stream", heard_of(turn()))
    assert whole is not None
    return msgspec.convert(whole["turn"]["output"], list[dict[str, Any]])


def test_an_answer_that_is_whole_is_not_complained_of():
    assert faults_of(output(), SCRIPT) == []
    assert answer_of("rowboat-stream", heard_of(turn()[:-1])) is None
    assert answer_of("rowboat-stream", heard_of([*turn()[:-1], ev.RunFailed("x", "No.")])) == {}


def test_an_answer_that_is_not_whole_is_found():
    right = output()
    assert "does not end with a text for the user" in faults_of(right[:2], SCRIPT)[0]
    assert "does not end with a text for the user: {}" in faults_of([], SCRIPT)[0]
    assert "ends with another text" in faults_of([*right[:-1], {**right[-1], "content": "else"}], SCRIPT)[0]
    alone = [each for each in right if each["role"] != "tool"]
    assert any("has calls" in fault for fault in faults_of(alone, SCRIPT))
    half = [{**each, "content": "{}"} if each["role"] == "tool" else each for each in right]
    assert sum("half a hand-over" in fault for fault in faults_of(half, SCRIPT)) == 2


class Kept:
    """Versions as a store has them."""

    def __init__(self, *numbers: int, live: str) -> None:
        self.workflows = self
        self._lines = [Line(f"v{number}", number) for number in numbers]
        self._live = live

    async def versions(self, project: str) -> Any:
        return tuple(self._lines)

    async def version(self, project: str, id: str) -> Any:
        return next((line for line in self._lines if line.id == id), None)

    async def live(self, project: str) -> str:
        return self._live


class Line:
    def __init__(self, id: str, number: int) -> None:
        self.id, self.number, self.source = id, number, "{}"
        self.workflow = compile_workflow(json.dumps(relay()).encode())


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (Kept(1, 2, live="v2"), ""),
        (Kept(1, live="v1"), "version v2 of amber was taken in and stands 0 times"),
        (Kept(1, 2, 2, live="v2"), "versions of amber are numbered [1, 2, 2]"),
        (Kept(1, 2, live="v1"), "v1 of amber is published, v2 was published last"),
        (Kept(1, 2, live="v9"), "v9 of amber is published and is not there"),
    ],
)
async def test_a_version_that_was_lost_is_found(kept: Any, sentence: str):
    said: list[str] = []
    publisher = Publisher("amber", lambda name, text: said.append(text))
    publisher.taken = ["v2"]
    await publisher.look(kept)
    assert sentence in said if sentence else said == []
