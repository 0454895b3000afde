"""A history in which all is well, and for each invariant one in which it is not: the checker must see it."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.events import Entry, dump_event
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import RunView, Started
from dragoman.core.workflows import Staging
from dragoman.dialects.grip.encode import Stream
from tests.crash.checker import INVARIANTS, Evidence, check
from tests.crash.history import History, Record
from tests.crash.homes import Dump, TapeDump
from tests.crash.ledgers import Bill, Effect
from tests.crash.scripts import ASKED, LOCAL, Script, answer_to, hash_of

TALK = Script("a.1", "canaryamber", (("count_once", "count_again"),), words=2)
SECOND = Script("a.2", "canaryamber", words=2)
OTHER = Script("b.1", "canarybirch", words=2)
LENDING = Script("b.2", "canarybirch", ((LOCAL,),), words=2)
CAREFUL = Script("a.3", "canaryamber", ((ASKED,),), words=2)
T0 = 1_000_000.0


class Story:
    """What a trial left behind, to be changed before it is checked. It is in order as it is made."""

    def __init__(self) -> None:
        self.history = History()
        self.tapes: dict[tuple[str, str], list[Entry]] = {}
        self.live: dict[tuple[str, str], str] = {}
        self.runs: dict[str, RunView] = {}
        self.effects: list[Effect] = []
        self.bills: list[Bill] = []
        self.leftovers: list[str] = []
        self.lease_s = 0.0
        self.turn(TALK, "r1", "amber", "talk", mode="streaming")
        self.turn(SECOND, "r2", "amber", "talk", mode="blocking")
        self.turn(OTHER, "r3", "birch", "talk", mode="blocking")
        self.follow("a/reader1", "r1", [(0, 4), (4, 99)])

    def turn(self, script: Script, run: str, project: str, conversation: str, *, mode: str) -> None:
        """A turn that was said, answered, and heard."""
        number = self.history.invoke(
            "append",
            who=script.token[0],
            project=project,
            conversation=conversation,
            token=script.token,
            mode=mode,
            text=script.message(),
        )
        tape = self.tapes.setdefault(
            (project, conversation),
            [Entry(1, RunId(""), T0, ev.ConversationCreated(ProjectId(project), ConversationId(conversation)))],
        )
        first = len(tape) + 1
        usage = Usage()
        for event in self._events(script, run):
            tape.append(Entry(len(tape) + 1, RunId(run), T0 + len(tape), event))
            if isinstance(event, ev.ReplyFinished):
                usage += event.usage
        tape.append(Entry(len(tape) + 1, RunId(run), T0 + len(tape), ev.RunCompleted(usage)))
        self.runs[run] = RunView(RunId(run), ConversationId(conversation), Tape(1), "completed", 1, first, T0, T0 + 99)
        self.history.add("ok", "append", number, run=run, status=200)
        entries = [entry for entry in tape if entry.run == run]
        if mode == "streaming":
            encoder = Stream()
            body = encoder.opened(Started(ConversationId(conversation), Tape(1), RunId(run), first, created=False))
            body += b": ping\n\n" + b"".join(map(encoder.entry, entries[1:]))
        else:
            body = b'{"response":"%s"}' % script.text(script.replies).encode()
        for part in (body[:50], body[50:]):
            self.history.add("heard", "append", number, text=part.decode("latin-1"))
        for call, entry in [(e.event.call, e) for e in entries if isinstance(e.event, ev.ToolStarted)]:
            hash = hash_of(call.arguments)
            self.effects.append(Effect(entry.at + 0.1, call.name, f"{run}:{call.id}", script.token, hash))

    def _events(self, script: Script, run: str) -> list[ev.Event]:
        events: list[ev.Event] = [ev.TurnReceived((said("user", script.message()),)), ev.RunClaimed(1)]
        for reply in range(1, script.replies + 1):
            text, spent = script.text(reply), Usage(10, script.completion_tokens(reply))
            calls = tuple(ToolCall(CallId(f"{run}c{reply}{at}"), *call) for at, call in enumerate(script.calls(reply)))
            events += [
                ev.ReplyStarted("assistant", "m"),
                ev.TextAdded(text[:5]),
                ev.TextAdded(text[5:]),
                ev.ReplyFinished(text, calls, spent),
                *self._approvals(calls),
                *self._answers(calls),
                *(ev.ToolStarted(call) for call in calls if call.name != LOCAL),
                *(ev.ToolReturned(call.id, answer_to(call.id) if call.name == LOCAL else "done") for call in calls),
            ]
            number = len(self.bills) + 1
            self.bills.append(Bill(number, script.token, reply, 1, T0, T0, 1, True, "", 10, spent.completion_tokens))
        return events

    def _approvals(self, calls: tuple[ToolCall, ...]) -> list[ev.Event]:
        asked = [call for call in calls if call.name == ASKED]
        return [
            *(ev.ApprovalRequested(call, "hash", T0 + 900) for call in asked),
            *(ev.ApprovalDecided(call.id, True, "a", "hash") for call in asked),
        ]

    def _answers(self, calls: tuple[ToolCall, ...]) -> list[ev.Event]:
        theirs = [call for call in calls if call.name == LOCAL]
        return [
            *(ev.ClientToolRequested(call, T0 + 900) for call in theirs),
            *(ev.ClientToolAnswered(call.id, answer_to(call.id)) for call in theirs),
        ]

    def follow(self, reader: str, run: str, connections: list[tuple[int, int]]) -> None:
        """A reader that hears, per connection, the entries after one seq up to another; then half a frame."""
        for after, last in connections:
            number = self.history.invoke("follow", who="a", project="amber", run=run, reader=reader, after=after)
            for entry in self.of(run):
                if after < entry.seq <= last:
                    self.history.add("heard", "follow", number, text=frame(entry))
            self.history.add("heard", "follow", number, text="id: 99\ndata: {")

    def of(self, run: str) -> list[Entry]:
        return [entry for tape in self.tapes.values() for entry in tape if entry.run == run]

    # -- what tests change -----------------------------------------------------------------------------------------

    def change(self, run: str, kind: type, **fields: Any) -> None:
        """Another content for the first event of that kind of a run."""
        for tape in self.tapes.values():
            for at, entry in enumerate(tape):
                if entry.run == run and isinstance(entry.event, kind):
                    tape[at] = Entry(entry.seq, entry.run, entry.at, replace(entry.event, **fields))
                    return

    def drop(self, run: str, kind: type) -> None:
        """Take the events of that kind of a run off its tape, and close the gap."""
        for key, tape in self.tapes.items():
            kept = [each for each in tape if not (each.run == run and isinstance(each.event, kind))]
            self.tapes[key] = [replace(each, seq=seq) for seq, each in enumerate(kept, start=1)]

    def add(self, run: str, event: ev.Event, *, project: str = "amber", conversation: str = "talk") -> None:
        tape = self.tapes[project, conversation]
        tape.append(Entry(len(tape) + 1, RunId(run), tape[-1].at + 1, event))

    def records(self, op: str, kind: str) -> list[int]:
        return [at for at, each in enumerate(self.history.records) if (each.op, each.kind) == (op, kind)]

    def amend(self, place: int, **fields: Any) -> None:
        self.history.records[place] = replace(self.history.records[place], **fields)

    def silent(self) -> None:
        """Forget what readers heard, where it is not the point."""
        self.history.records = [each for each in self.history.records if each.kind != "heard"]

    def found(self, *, calm: bool = True) -> list[tuple[str, str]]:
        tapes = [TapeDump(*key, self.live.get(key), tape) for key, tape in self.tapes.items()]
        evidence = Evidence(
            self.history.records,
            Dump(tapes, self.runs),
            self.effects,
            self.bills,
            self.leftovers,
            calm=calm,
            shared_lease_s=self.lease_s,
        )
        return [(each.invariant, each.text) for each in check(evidence)]


def frame(entry: Entry) -> str:
    event = dump_event(entry.event).decode()
    return f'id: {entry.seq}\ndata: {{"seq":{entry.seq},"run":"{entry.run}","at":{entry.at},"event":{event}}}\n\n'


def test_a_history_in_which_all_is_well():
    assert Story().found() == []
    story = Story()
    approved(story)
    assert story.found() == []
    story = Story()
    answered(story)
    named(story)
    assert story.found() == []


# -- each invariant broken, and the sentence that tells of it --------------------------------------------------------


def lost(story: Story) -> None:
    story.silent()
    story.tapes["birch", "talk"] = story.tapes["birch", "talk"][:1]
    del story.runs["r3"]


def said_twice(story: Story) -> None:
    story.turn(OTHER, "r4", "birch", "talk", mode="blocking")
    story.silent()
    del story.history.records[-2:]


def of_another_run(story: Story) -> None:
    story.amend(story.records("append", "ok")[2], run="r9")


def out_of_nowhere(story: Story) -> None:
    number = story.history.records[story.records("append", "invoke")[2]].id
    story.history.records = [each for each in story.history.records if each.id != number]


def out_of_order(story: Story) -> None:
    """The second turn's client had heard of it before the first was said."""
    story.amend(story.records("append", "ok")[1], at=T0 - 9)
    story.amend(story.records("append", "invoke")[1], at=T0 - 10)


def unknown_twice(story: Story) -> None:
    said_twice(story)
    ok = story.records("append", "ok")[2:]
    story.amend(ok[0], kind="info", run="")
    for at in reversed(ok[1:]):
        del story.history.records[at]


def refused_and_there(story: Story) -> None:
    story.silent()
    story.amend(story.records("append", "ok")[2], kind="fail", run="", status=429)


def gap(story: Story) -> None:
    story.silent()
    tape = story.tapes["birch", "talk"]
    tape[3:] = [replace(entry, seq=entry.seq + 1) for entry in tape[3:]]


def heard_twice(story: Story) -> None:
    story.follow("a/reader2", "r1", [(0, 4), (3, 6)])


def heard_with_a_gap(story: Story) -> None:
    story.follow("a/reader2", "r1", [(0, 4), (5, 6)])


def heard_otherwise(story: Story) -> None:
    at = story.records("follow", "heard")[4]
    story.amend(at, text=story.history.records[at].text.replace("a.1/1", "a.1/7"))


def stream_with_other_words(story: Story) -> None:
    at = story.records("append", "heard")[1]
    story.amend(at, text=story.history.records[at].text.replace("w1", "w7", 1))


def another_answer(story: Story) -> None:
    at = story.records("append", "heard")[2]
    story.amend(at, text=story.history.records[at].text.replace("a.2", "a.7"))


def heard_at_another_time(story: Story) -> None:
    at = story.records("follow", "heard")[4]
    story.amend(at, text=story.history.records[at].text.replace('"at":1000004.0', '"at":1000004.5'))


def failed_answer(story: Story) -> None:
    story.history.add("info", "append", story.history.records[0].id, run="r2", status=502)


def unknown_to_the_reader(story: Story) -> None:
    number = story.history.invoke("follow", who="a", project="amber", run="r1", reader="a/reader2")
    story.history.add("fail", "follow", number, status=404)


def two_ends(story: Story) -> None:
    story.add("r2", ev.RunCompleted(Usage(10, 4)))


def after_the_end(story: Story) -> None:
    story.add("r2", ev.ReplyStarted("assistant", "m"))


def no_end(story: Story) -> None:
    story.silent()
    story.drop("r2", ev.RunCompleted)
    story.runs["r2"] = replace(story.runs["r2"], status="running")


def listed_otherwise(story: Story) -> None:
    story.runs["r2"] = replace(story.runs["r2"], status="failed")


def failed(story: Story) -> None:
    story.silent()
    story.drop("r2", ev.RunCompleted)
    story.add("r2", ev.RunFailed("internal_error", "No.", Usage(10, 4)))
    story.runs["r2"] = replace(story.runs["r2"], status="failed")


def cancelled_by_nobody(story: Story) -> None:
    story.silent()
    story.drop("r2", ev.RunCompleted)
    story.add("r2", ev.RunCancelled("x", Usage(10, 4)))
    story.runs["r2"] = replace(story.runs["r2"], status="cancelled")


def other_version(story: Story) -> None:
    story.change("r2", ev.TurnReceived, staging=Staging("v2"))


def once_twice(story: Story) -> None:
    story.effects.append(next(effect for effect in story.effects if effect.tool == "count_once"))


def other_arguments(story: Story) -> None:
    effect = next(effect for effect in story.effects if effect.tool == "count_again")
    story.effects.append(replace(effect, args_hash="0"))


def result_without_effect(story: Story) -> None:
    story.effects = [effect for effect in story.effects if effect.tool != "count_again"]


def two_results(story: Story) -> None:
    story.silent()
    returned = next(entry.event for entry in story.of("r1") if isinstance(entry.event, ev.ToolReturned))
    end = story.tapes["amber", "talk"]
    at = next(at for at, entry in enumerate(end) if isinstance(entry.event, ev.ToolReturned))
    end.insert(at, replace(end[at], event=returned))
    story.tapes["amber", "talk"] = [replace(each, seq=seq) for seq, each in enumerate(end, start=1)]


def idempotent_given_up(story: Story) -> None:
    story.silent()
    call = next(
        entry.event.call
        for entry in story.of("r1")
        if isinstance(entry.event, ev.ToolStarted) and entry.event.call.name == "count_again"
    )
    for tape in story.tapes.values():
        for at, entry in enumerate(tape):
            if isinstance(entry.event, ev.ToolReturned) and entry.event.call_id == call.id:
                tape[at] = replace(entry, event=ev.ToolReturned(call.id, "?", is_error=True, code="outcome_unknown"))


def no_intent(story: Story) -> None:
    story.effects.append(Effect(T0, "count_once", "r2:c1", "a.2", "0"))


def effect_before_intent(story: Story) -> None:
    story.effects[0] = replace(story.effects[0], at=story.effects[0].at - 0.5)


def effect_after_end(story: Story) -> None:
    story.effects[1] = replace(story.effects[1], at=story.of("r1")[-1].at + 1)


def no_such_answer(story: Story) -> None:
    story.silent()
    story.change("r2", ev.ReplyFinished, text="a.2/1 w0 w0 w1")


def booked_otherwise(story: Story) -> None:
    story.change("r2", ev.ReplyFinished, usage=Usage(11, 5))


def sum_is_wrong(story: Story) -> None:
    story.change("r1", ev.RunCompleted, usage=Usage(1, 1))


def asked_for_nothing(story: Story) -> None:
    story.bills += [replace(story.bills[-1], number=90 + asked, asked=asked) for asked in (2, 3)]


def held(story: Story) -> None:
    story.live["amber", "talk"] = "r2"


def still_queued(story: Story) -> None:
    story.silent()
    story.drop("r2", ev.RunCompleted)
    story.runs["r2"] = replace(story.runs["r2"], status="queued")


def canary_heard(story: Story) -> None:
    at = story.records("append", "heard")[2]
    story.amend(at, text=story.history.records[at].text.replace("a.2/", "canarybirch/"))


def shown_to_others(story: Story) -> None:
    number = story.history.invoke("peek", who="b", project="birch", run="r1")
    story.history.add("heard", "peek", number, status=200, text="{}")


def canary_on_a_tape(story: Story) -> None:
    story.add("", ev.TitleGiven("canarybirch"))


def left_behind(story: Story) -> None:
    story.leftovers.append("process 7")


def tried_too_often(story: Story) -> None:
    story.silent()
    tape = story.tapes["birch", "talk"]
    more = [
        ev.TextAdded("x"),
        ev.RunClaimed(2),
        ev.TextAdded("x"),
        ev.RunClaimed(3),
        ev.TextAdded("x"),
        ev.RunClaimed(4),
    ]
    tape[3:3] = [Entry(0, RunId("r3"), T0, event) for event in more]
    story.tapes["birch", "talk"] = [replace(each, seq=seq) for seq, each in enumerate(tape, start=1)]


def given_up_too_soon(story: Story) -> None:
    failed(story)
    story.change("r2", ev.RunFailed, code="retries_exhausted")


def taken_up_late(story: Story) -> None:
    story.silent()
    now = story.history.records[0].at
    story.history.records[:0] = [Record(T0, "note", op, who="s") for op in ("kill", "start", "ready")]
    tape = story.tapes["birch", "talk"]
    tape.insert(3, Entry(0, RunId("r3"), now, ev.RunClaimed(2)))
    story.tapes["birch", "talk"] = [replace(each, seq=seq, at=T0 + 2.5) for seq, each in enumerate(tape, start=1)]
    story.effects = [each for each in story.effects if each.token != "b.1"]


def taken_over_late(story: Story) -> None:
    taken_up_late(story)
    tape = story.tapes["birch", "talk"]
    story.tapes["birch", "talk"] = [replace(each, at=T0 + 9) for each in tape]
    story.lease_s = 2.0


def server_error(story: Story) -> None:
    number = story.history.invoke("cancel", run="r1")
    story.history.add("info", "cancel", number, status=500, text="Internal server error")


def approved(story: Story) -> None:
    """A turn with a call that somebody approved, who was told so: all is well with it."""
    story.turn(CAREFUL, "r4", "amber", "talk", mode="blocking")
    number = story.history.invoke("approve", who="a", project="amber", run="r4", key="r4c10")
    story.history.add("ok", "approve", number, run="r4", status=200)


def not_approved(story: Story) -> None:
    approved(story)
    story.change("r4", ev.ApprovalDecided, approved=False)


def asked_twice(story: Story) -> None:
    approved(story)
    call = next(each.event.call for each in story.of("r4") if isinstance(each.event, ev.ApprovalRequested))
    story.add("r4", ev.ApprovalRequested(call, "hash", T0 + 900))


def approval_lost(story: Story) -> None:
    approved(story)
    story.change("r4", ev.ApprovalDecided, arguments_hash="other")


def approved_and_refused(story: Story) -> None:
    approved(story)
    story.change("r4", ev.ToolReturned, is_error=True, code="denied")


def answered(story: Story) -> None:
    """A turn with a call that its client made, whose result was taken: all is well with it."""
    story.turn(LENDING, "r4", "birch", "talk", mode="held")
    number = story.history.invoke("answer", who="b", project="birch", run="r4", key="r4c10")
    story.history.add("ok", "answer", number, run="r4", status=200)


def answer_lost(story: Story) -> None:
    answered(story)
    story.change("r4", ev.ToolReturned, content="Nobody came.", code="timeout", is_error=True)


def client_asked_twice(story: Story) -> None:
    answered(story)
    call = next(each.event.call for each in story.of("r4") if isinstance(each.event, ev.ClientToolRequested))
    story.add("r4", ev.ClientToolRequested(call, T0 + 900), project="birch")


def named(story: Story) -> None:
    number = story.history.invoke("rename", who="a", project="amber", conversation="talk", text="a name")
    story.history.add("ok", "rename", number, status=200)
    story.add("", ev.TitleGiven("a name"))


def name_lost(story: Story) -> None:
    named(story)
    story.tapes["amber", "talk"].pop()


def once_twice_approved(story: Story) -> None:
    approved(story)
    story.effects.append(story.effects[-1])


BROKEN: list[tuple[str, Callable[[Story], None], str]] = [
    ("I1", lost, "turn b.1 was acknowledged and stands 0 times"),
    ("I1", said_twice, "turn b.1 was acknowledged and stands 2 times at 2 (run r3) at 9 (run r4)"),
    ("I1", of_another_run, "turn b.1 is run r3, its client was told ['r9']"),
    ("I1", out_of_nowhere, "turn b.1 stands on a tape and nobody said it"),
    ("I1", out_of_order, "turn a.1 was said after a.2 was acknowledged, and stands before it"),
    ("I2", unknown_twice, "turn b.1 was not acknowledged and stands 2 times at 2 (run r3) at 9 (run r4)"),
    ("I2", refused_and_there, "turn b.1 was refused each time and stands at 2 (run r3)"),
    ("I3", gap, "birch/talk: entry 4 is missing, 5 follows"),
    ("I4", heard_twice, "a/reader2 of run r1 heard id: 4 (4), expected entry 5"),
    ("I4", heard_with_a_gap, "a/reader2 of run r1 connected behind 5 and had heard up to 4"),
    ("I4", heard_otherwise, "a/reader1 of run r1: entry 5 was heard as "),
    ("I1", unknown_to_the_reader, "run r1 was acknowledged, and follow said that there is no such run"),
    ("I4", heard_at_another_time, "a/reader1 of run r1: entry 5 was heard as "),
    ("I4", failed_answer, "run r2 was answered with 502; its tape says run_completed"),
    ("I4", stream_with_other_words, "the stream of turn a.1 differs from its tape at byte "),
    ("I4", another_answer, "turn a.2 was answered 'a.7/1 w0 w1 canaryamber'; its tape says 'a.2/1 w0 w1 canaryamber'"),
    ("I5", two_ends, "run r2 has 2 ends, at [23, 24]"),
    ("I5", after_the_end, "run r2 ended at 23, and entry 24 came after it"),
    ("I5", no_end, "run r2 never ended; its last entry is reply_finished"),
    ("I5", listed_otherwise, "run r2 is listed as failed; its tape says completed"),
    ("I5", failed, "run r2 failed: internal_error: No."),
    ("I5", cancelled_by_nobody, "run r2 was cancelled, and nobody asked for it"),
    ("I6", once_twice, "count_once took effect 2 times under r1:r1c10"),
    ("I6", other_arguments, "count_again came with 2 different arguments under r1:r1c11"),
    ("I6", result_without_effect, "call r1c11 of run r1 has a result and took no effect"),
    ("I6", two_results, "call r1c10 of run r1 has 2 results"),
    ("I6", idempotent_given_up, "call r1c11 of run r1 may be repeated, and was left as outcome_unknown"),
    ("I7", no_intent, "count_once took effect under r2:c1 without an intent"),
    ("I7", effect_before_intent, "count_once took effect 0.400 s before its intent (r1:r1c10)"),
    ("I8", effect_after_end, "count_again took effect 1.000 s after run_completed of run r1"),
    ("I9", no_such_answer, "reply 1 of run r2 is no answer the model gave: 'a.2/1 w0 w0 w1'"),
    ("I9", booked_otherwise, "reply 1 of run r2 is booked as Usage(prompt_tokens=11, completion_tokens=5), billed as "),
    ("I9", sum_is_wrong, "run r1 ended with Usage(prompt_tokens=1, completion_tokens=1); its replies add up to "),
    ("I9", asked_for_nothing, "run r3 asked the model 2 times for nothing in 1 attempts"),
    ("I10", held, "amber/talk is held by run r2"),
    ("I10", still_queued, "run r2 is still queued"),
    ("I11", canary_heard, "a of amber heard of birch (append a.2)"),
    ("I11", shown_to_others, "b of birch was shown run r1 of another project"),
    ("I11", canary_on_a_tape, "canarybirch stands on a tape of amber: talk entry 24"),
    ("I12", left_behind, "process 7"),
    ("I13", not_approved, "call r4c10 of run r4 began at "),
    ("I13", asked_twice, "call r4c10 of run r4 was asked about 2 times"),
    ("I13", approval_lost, "call r4c10 of run r4 was approved with a 200, which stands on no tape"),
    ("I13", approved_and_refused, "call r4c10 of run r4 was approved with a 200, and refused to the model"),
    ("I13", answer_lost, "call r4c10 of run r4 was answered with a 200; its result is "),
    ("I13", client_asked_twice, "the client of run r4 was asked 2 times to make call r4c10"),
    ("I13", name_lost, "the name 'a name' was acknowledged and stands 0 times"),
    ("I6", once_twice_approved, "count_asked took effect 2 times under r4:r4c10"),
    ("G8", tried_too_often, "run r3 was tried 4 times"),
    ("G8", given_up_too_soon, "run r2 was given up after 1 tries (1 claims)"),
    ("G8", taken_up_late, "run r3 was taken up 2.5 s after the server was ready (entry 4)"),
    ("G8", taken_over_late, "run r3 was taken over 9.0 s after its owner was lost (entry 4)"),
    ("W1", other_version, "run r2 is answered by v2, its conversation began with "),
    ("G14", server_error, "1 answers of 500: Internal server error"),
]


@pytest.mark.parametrize(("invariant", "broken", "sentence"), BROKEN, ids=[each[1].__name__ for each in BROKEN])
def test_what_is_broken_is_seen(invariant: str, broken: Callable[[Story], None], sentence: str):
    story = Story()
    broken(story)
    found = story.found()
    assert any(name == invariant and text.startswith(sentence) for name, text in found), found


def test_every_invariant_was_broken_once():
    assert {name for name, _, _ in BROKEN} == {name for name, _ in INVARIANTS}


def test_attempts_that_died_while_a_run_waited_are_not_counted():
    story = Story()
    approved(story)
    tape = story.tapes["amber", "talk"]
    asked = next(at for at, each in enumerate(tape) if isinstance(each.event, ev.ApprovalRequested))
    for epoch in range(2, 7):
        tape.insert(asked + 1, Entry(0, RunId("r4"), tape[asked].at, ev.RunClaimed(epoch)))
    story.tapes["amber", "talk"] = [replace(each, seq=seq) for seq, each in enumerate(tape, start=1)]
    story.silent()
    assert story.found() == []


# -- what is no violation --------------------------------------------------------------------------------------------


def test_who_got_no_answer_may_have_been_heard_or_not():
    story = Story()
    story.silent()
    story.amend(story.records("append", "ok")[2], kind="info", run="")
    assert story.found() == []
    story.tapes["birch", "talk"] = story.tapes["birch", "talk"][:1]
    del story.runs["r3"]
    assert story.found() == []


def test_a_stream_may_break_off_anywhere_and_end_with_the_error_of_a_server_that_stops():
    whole = Story()
    at = whole.records("append", "heard")[1]
    text = whole.history.records[at].text
    error = 'event: error\ndata: {"detail": "Agent execution failed"}\n\n'
    for cut in range(len(text)):
        whole.amend(at, text=text[:cut])
        assert whole.found() == []
    frames = text.split("\n\n")
    tools = next(number for number, each in enumerate(frames) if "tool_start" in each and "count_again" in each)
    ended = ['event: tool_end\ndata: {"tool": "count_once"}', 'event: tool_end\ndata: {"tool": "count_again"}']
    for heard in ([*frames[:2], ""], [*frames[: tools + 1], *ended, ""]):
        whole.amend(at, text="\n\n".join(heard) + error)
        assert whole.found() == []


def test_runs_may_be_under_way_when_there_was_no_calm():
    story = Story()
    no_end(story)
    story.live["amber", "talk"] = "r2"
    assert story.found(calm=False) == []


def test_an_attempt_that_died_was_billed_for_nothing():
    story = Story()
    story.silent()
    tape = story.tapes["birch", "talk"]
    lost_reply = [ev.ReplyStarted("assistant", "m"), ev.TextAdded("b"), ev.RunClaimed(2), ev.AttemptReset(4)]
    tape[3:3] = [Entry(0, RunId("r3"), T0, event) for event in lost_reply]
    story.tapes["birch", "talk"] = [replace(each, seq=seq) for seq, each in enumerate(tape, start=1)]
    story.bills.append(replace(story.bills[-1], number=99, asked=2, whole=False))
    assert story.found() == []


def test_a_server_that_froze_on_its_way_to_an_effect_has_it_when_it_wakes_up():
    story = Story()
    effect_after_end(story)
    effect = story.effects[1]
    intent = next(entry for entry in story.of("r1") if isinstance(entry.event, ev.ToolStarted) and entry.seq == 9)
    story.history.records[:0] = [
        Record(intent.at + 0.1, "note", "freeze", who="s"),
        Record(effect.at - 0.1, "note", "thaw", who="s"),
    ]
    assert story.found() == []
    story.amend(0, at=intent.at - 1)
    assert [name for name, _ in story.found()] == ["I8"]


def test_a_cancel_that_was_asked_for_and_a_fault_of_the_upstream_are_good_ends():
    story = Story()
    cancelled_by_nobody(story)
    story.history.invoke("cancel", run="r2")
    assert story.found() == []
    script = replace(SECOND, fault="cut")
    story = Story()
    failed(story)
    story.change("r2", ev.TurnReceived, messages=(said("user", script.message()),))
    story.change("r2", ev.RunFailed, code="upstream_truncated")
    assert story.found() == []
