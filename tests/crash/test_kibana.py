"""The harness's clients of Elastic's wire, and what the checker makes of their turns."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import Message, Usage, said
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import RunView
from dragoman.dialects.elastic.frames import Chunks
from dragoman.dialects.elastic.messages import WireMessage, core_messages
from tests.crash.checker import check
from tests.crash.clients import Saying
from tests.crash.evidence import Evidence, Violation
from tests.crash.history import History
from tests.crash.homes import Dump, TapeDump
from tests.crash.kibana import KibanaClient, Thread, as_sent, before_last, draw_acting, essence, plain, told
from tests.crash.ledgers import Bill
from tests.crash.scripts import ACTION, Script, again, title_of

CALL = {"name": "look", "arguments": '{"a":1}', "trigger": "assistant"}
TALK = [
    told("user", "one"),
    told("assistant", "", function_call=CALL),
    told("user", "{}", name="look"),
    told("assistant", "1", function_call={"name": "", "arguments": "", "trigger": "assistant"}),
    told("user", "two"),
    told("assistant", "2"),
]
SCRIPT = Script("c1.1", "canaryamber", ((ACTION,),), words=2)


def test_what_must_come_back_of_messages() -> None:
    assert essence(TALK)[:4] == [
        ("user", "one", "", ""),
        ("assistant", "", "look", '{"a":1}'),
        ("user", "{}", "look", ""),
        ("assistant", "1", "", ""),
    ]
    assert essence(plain(TALK)) == [essence(TALK)[at] for at in (0, 3, 4, 5)]
    assert before_last(TALK) == TALK[:4] and before_last([]) == []


def test_some_turns_are_for_the_client_to_act_on() -> None:
    drawn = [draw_acting(random.Random(seed), "t", "c") for seed in range(40)]
    assert 0 < sum(script.acts for script in drawn) < 40


# -- documents -------------------------------------------------------------------------------------------------------


class World:
    def __init__(self) -> None:
        self.seed = "s"
        self.history = History()
        self.gave_up = asyncio.Event()


async def looked(document: Any, *, over: str = "run_completed", id: str = "", before: Sequence[Any] = ()) -> list[str]:
    """What a client finds wrong with a document after a turn."""
    found: list[str] = []
    world: Any = World()
    client = KibanaClient(world, "c1", "amber", ["slot"], violated=lambda name, text: found.append(f"{name} {text}"))

    async def given(_: str) -> Any:
        return document

    setattr(client, "_document", given)  # noqa: B010 there is no server to ask
    thread = Thread()
    thread.id, thread.messages = id, list(before)
    turn: Any = Saying.__new__(Saying)
    turn.named = "id"
    await client._look(thread, SCRIPT, turn, [*before, told("user", SCRIPT.message())], over)
    return found


def document_of(*messages: Any, title: str = title_of(SCRIPT.token)) -> Any:
    return {"conversation": {"title": title}, "messages": list(messages)}


QUESTION = told("user", SCRIPT.message())
ANSWER = told("assistant", SCRIPT.text(2))
OPENED = (
    told("assistant", "", function_call={"name": "context", "trigger": "assistant"}),
    told("user", "{}", name="context"),
)


async def test_a_document_that_is_right_is_not_complained_of() -> None:
    assert await looked(document_of(QUESTION, *OPENED, ANSWER)) == []
    assert await looked(document_of(*TALK), over="run_failed", id="id", before=TALK) == []
    assert await looked(document_of(*TALK, QUESTION, *OPENED, ANSWER, title="x"), id="id", before=TALK) == []


def test_calls_that_a_client_never_heard_of_may_stand_between_what_it_sent() -> None:
    found, sent = essence((QUESTION, *OPENED, ANSWER)), essence((QUESTION, ANSWER))
    assert as_sent(found, sent) == 4 and as_sent(found, found) == 4 and as_sent(found, sent[:1]) == 1
    assert as_sent(found, essence((ANSWER,))) == as_sent(found, [*sent, *sent]) == -1
    assert as_sent(sent, found) == -1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "it is not there"),
        (document_of(*OPENED, ANSWER), "what was sent is not kept"),
        (document_of(QUESTION, *OPENED), "its answer is not the last message"),
        (document_of(QUESTION, OPENED[0], ANSWER), "calls and results do not match"),
        (document_of(QUESTION, *OPENED, *OPENED, ANSWER), "calls and results do not match"),
        (document_of(QUESTION, *OPENED, ANSWER, title="New conversation"), "the title is"),
    ],
)
async def test_a_document_that_is_not_whole_is_found(document: Any, said: str) -> None:
    assert any(said in text for text in await looked(document))


async def test_a_turn_that_failed_and_changed_the_document_is_found() -> None:
    (text,) = await looked(document_of(*TALK, QUESTION), over="run_failed", id="id", before=TALK)
    assert "did not complete" in text


# -- the checker -----------------------------------------------------------------------------------------------------


def story(*, heard: bytes = b"", kept: bool = True) -> list[Violation]:
    """A turn in two parts, as its client and the tape have it."""
    history, bills = History(), list[Bill]()
    runs: dict[str, RunView] = {}
    entries = [Entry(1, RunId(""), 1.0, ev.ConversationCreated(ProjectId("amber"), ConversationId("id")))]
    result = [*plain([QUESTION]), told("assistant", SCRIPT.text(1), function_call={**CALL, "name": ACTION})]
    result.append(told("user", "{}", name=ACTION))
    second: tuple[Message, ...] = core_messages(msgs(result))
    parts = [("r1", SCRIPT.token, (said("user", SCRIPT.message()),)), ("r2", again(SCRIPT.token), second)]
    for number, (run, token, messages) in enumerate(parts, start=1):
        asked = history.invoke("append", who="c1", project="amber", token=token, mode="elastic", text=SCRIPT.message())
        history.add("ok", "append", asked, run=run, status=200, conversation="id")
        usage = Usage(10, SCRIPT.completion_tokens(number))
        calls = messages[-1].calls
        end = ev.RunNeedsClient(calls, usage) if number == 1 else ev.RunCompleted(usage)
        events = [
            ev.TurnReceived(messages),
            ev.RunClaimed(1),
            ev.ReplyStarted("a", "m"),
            ev.TextAdded(SCRIPT.text(number)),
            ev.ReplyFinished(SCRIPT.text(number), (), usage),
            end,
        ]
        theirs = [Entry(len(entries) + at, RunId(run), float(at), event) for at, event in enumerate(events, start=1)]
        if number == 1 or kept:
            entries += theirs
            status = "needs_client" if number == 1 else "completed"
            runs[run] = RunView(RunId(run), ConversationId("id"), Tape(1), status, 1, theirs[0].seq, 1.0, 9.0)
            bills.append(Bill(number, SCRIPT.token, number, 1, 1.0, 1.0, 1, True, "", 10, usage.completion_tokens))
        encoder = Chunks()
        body = heard or b"".join(encoder.entry(entry) for entry in theirs[1:])
        history.add("heard", "append", asked, text=body.decode("latin-1"))
    dump = Dump([TapeDump("amber", "id", None, entries)], runs)
    return check(Evidence(history.records, dump, (), bills))


def msgs(sent: Sequence[Any]) -> Any:
    return msgspec.convert(sent, list[WireMessage])


def test_a_turn_of_two_parts_that_went_well_is_not_complained_of() -> None:
    assert story() == []


def test_its_second_part_is_missed() -> None:
    assert any(each.invariant == "I1" and again(SCRIPT.token) in each.text for each in story(kept=False))


@pytest.mark.parametrize("heard", [b'data: {"model":"other"}\n\n', b"data: [DONE]\n\n"])
def test_a_stream_that_is_not_what_stands_on_the_tape_is_found(heard: bytes) -> None:
    assert any(each.invariant == "I4" for each in story(heard=heard))
