"""The checker: evidence -> violations. Pure. Each invariant is one function, named as in the contract.

I1 acknowledged appends stand exactly once, in order · I2 others once or not at all, refused ones not at all ·
I3 no gap · I4 what readers heard is what stands on the tape · I5 one end for each run, nothing after it, and it is a
good one · I6 effects by their repeat rule · I7 no effect without an intent · I8 none after the end · I9 tokens add up ·
I10 no conversation is held by a run that is over · I11 nothing of another project · I12 nothing left behind ·
I13 nothing begun that had to be approved and was not; what was brought is kept · W1 hand-overs are whole ·
G8 at most three tries, and taken up in time · G14 no answer of 5xx but 502 and 503.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from dragoman.core import events as ev
from dragoman.core.events import Entry, dump_event
from dragoman.core.messages import Usage
from tests.crash.approvals import approvals_count
from tests.crash.brought import answers_kept, names_kept
from tests.crash.casts import refused_count, word_goes_round
from tests.crash.evidence import Evidence, Reading, RunTape, Turn, Violation
from tests.crash.hearing import readers_hear_the_tape
from tests.crash.history import Record
from tests.crash.homes import PROJECTS
from tests.crash.ledgers import Effect
from tests.crash.scripts import ASKED, OPENING, hash_of

__all__ = ["Evidence", "Violation", "check"]

CLOCKS_S = 0.05
"""Between the store's clock and the ledgers': one machine, so only what lies between reading the clock and the act."""
UNDER_WAY_S = 0.25
"""A request for an effect may have been under way when the run was cancelled."""
AWAKE_S = 1.0
"""So soon after it woke up a server has sent what it was about to send when it froze."""
ALONE_S, REPLICAS_S = 2.0, 5.0
ONCE = ("count_once", ASKED)
TRIES_MAX = 3
CLAIMS_MAX = 30


def check(evidence: Evidence) -> list[Violation]:
    reading = Reading(evidence)
    found: list[Violation] = []
    for name, invariant in INVARIANTS:
        found += [Violation(name, text) for text in invariant(reading)]
    return found


# -- what was said ---------------------------------------------------------------------------------------------------


def acknowledged_once(reading: Reading) -> Iterator[str]:
    for token, turn in reading.turns.items():
        places = reading.places.get(token, [])
        if turn.acknowledged and len(places) != 1:
            yield f"turn {token} was acknowledged and stands {len(places)} times{_where(places)}"
        for tape, entry in places:
            if (tape.project, tape.conversation) != (turn.project, turn.conversation or tape.conversation):
                yield f"turn {token} of {turn.conversation} stands in {tape.project}/{tape.conversation}"
            if turn.runs and entry.run not in turn.runs:
                yield f"turn {token} is run {entry.run}, its client was told {sorted(turn.runs)}"
        if len(turn.runs) > 1:
            yield f"the client of turn {token} was told of several runs: {sorted(turn.runs)}"
    for record in reading.evidence.history:
        begun = reading.operations.get(record.id)
        if (
            record.status == 404
            and begun is not None
            and begun.op in ("follow", "cancel")
            and begun.run in reading.runs
        ):
            yield f"run {begun.run} was acknowledged, and {begun.op} said that there is no such run"
    for token in reading.places.keys() - reading.turns.keys():
        yield f"turn {token} stands on a tape and nobody said it"
    yield from _in_order(reading)


def _in_order(reading: Reading) -> Iterator[str]:
    """Whoever heard of one turn before saying the next finds them in that order."""
    by_conversation: dict[tuple[str, str], list[tuple[int, Turn]]] = defaultdict(list)
    for token, places in reading.places.items():
        turn = reading.turns.get(token)
        if turn is not None and len(places) == 1:
            by_conversation[turn.project, turn.conversation].append((places[0][1].seq, turn))
    for placed in by_conversation.values():
        placed.sort(key=lambda each: each[0])
        latest: Turn | None = None
        for _, turn in placed:
            if latest is not None and turn.acknowledged_at is not None and turn.acknowledged_at < latest.invoked_at:
                yield f"turn {latest.token} was said after {turn.token} was acknowledged, and stands before it"
            if latest is None or turn.invoked_at > latest.invoked_at:
                latest = turn


def others_at_most_once(reading: Reading) -> Iterator[str]:
    for token, turn in reading.turns.items():
        places = reading.places.get(token, [])
        if turn.acknowledged:
            continue
        if len(places) > 1:
            yield f"turn {token} was not acknowledged and stands {len(places)} times{_where(places)}"
        if places and not turn.open_ends and _all_ended(reading, token):
            yield f"turn {token} was refused each time and stands{_where(places)}"


def _all_ended(reading: Reading, token: str) -> bool:
    """Every try has an outcome in the history."""
    tries = {number for number, record in reading.operations.items() if record.op == "append" and record.token == token}
    return tries <= reading.refused.keys()


def _where(places: list[tuple[object, Entry]]) -> str:
    return "".join(f" at {entry.seq} (run {entry.run})" for _, entry in places)


# -- tapes -----------------------------------------------------------------------------------------------------------


def no_gap(reading: Reading) -> Iterator[str]:
    for tape in reading.evidence.dump.tapes:
        for expected, entry in enumerate(tape.entries, start=1):
            if entry.seq != expected:
                yield f"{tape.project}/{tape.conversation}: entry {expected} is missing, {entry.seq} follows"
                break


# -- ends ------------------------------------------------------------------------------------------------------------


def one_end(reading: Reading) -> Iterator[str]:
    for run in reading.runs.values():
        if len(run.ends) > 1:
            yield f"run {run.id} has {len(run.ends)} ends, at {[entry.seq for entry in run.ends]}"
        if run.ends and run.entries[-1] != run.ends[-1]:
            yield f"run {run.id} ended at {run.ends[0].seq}, and entry {run.entries[-1].seq} came after it"
        if not run.ends and reading.evidence.calm:
            yield f"run {run.id} never ended; its last entry is {ev.kind_of(run.entries[-1].event)}"
        if run.received is None or run.entries[0] != run.received:
            yield f"run {run.id} does not begin with what was said"
        yield from _view_agrees(reading, run)
        yield from _ended_well(run, cancelled=run.id in reading.cancelled)
    for id in reading.evidence.dump.runs.keys() - reading.runs.keys():
        yield f"run {id} is listed and is on no tape"


def _view_agrees(reading: Reading, run: RunTape) -> Iterator[str]:
    view = reading.evidence.dump.runs.get(run.id)
    status = ev.kind_of(run.ends[0].event).removeprefix("run_") if run.ends else None
    if view is None:
        yield f"run {run.id} is on a tape and is not listed"
    elif status is not None and view.status != status:
        yield f"run {run.id} is listed as {view.status}; its tape says {status}"
    elif status is None and view.status not in ("queued", "running"):
        yield f"run {run.id} is listed as {view.status}; its tape says nothing of an end"


def _ended_well(run: RunTape, *, cancelled: bool) -> Iterator[str]:
    """Faults of ours may cost tries and time; they must not make a run end otherwise than it would have."""
    end = run.ends[0].event if run.ends else None
    script = run.script
    if isinstance(end, ev.RunFailed):
        if end.code == "retries_exhausted" or (script is not None and script.fault and end.code.startswith("upstream")):
            return
        yield f"run {run.id} failed: {end.code}: {end.detail}"
    elif isinstance(end, ev.RunCancelled) and not cancelled:
        yield f"run {run.id} was cancelled, and nobody asked for it"
    elif isinstance(end, ev.RunCompleted) and script is not None:
        replies = [entry.event for entry in run.of(ev.ReplyFinished)]
        if run.replied + len(replies) != script.replies:
            yield f"run {run.id} has {len(replies)} replies, its script {script.replies - run.replied}"


def no_lock_without_a_run(reading: Reading) -> Iterator[str]:
    if not reading.evidence.calm:
        return
    for tape in reading.evidence.dump.tapes:
        if tape.live_run is not None:
            yield f"{tape.project}/{tape.conversation} is held by run {tape.live_run}"
    for view in reading.evidence.dump.runs.values():
        if view.status in ("queued", "running"):
            yield f"run {view.id} is still {view.status}"


def recovered_in_time(reading: Reading) -> Iterator[str]:
    """A store of one server: within 2 s of its being ready. A shared one: within the lease and 5 s of what befell the
    run's owner."""
    lease_s = reading.evidence.shared_lease_s
    if lease_s:
        for run, claim, after_s in reading.takeovers():
            if after_s > lease_s + REPLICAS_S:
                yield f"run {run.id} was taken over {after_s:.1f} s after its owner was lost (entry {claim.seq})"
        return
    notes = [each for each in reading.evidence.history if each.op in ("kill", "start", "ready")]
    for run, claim, _ in reading.takeovers():
        last = next(each for each in reversed(notes) if each.at <= claim.at)
        if last.op == "ready" and claim.at > last.at + ALONE_S:
            yield f"run {run.id} was taken up {claim.at - last.at:.1f} s after the server was ready (entry {claim.seq})"


def few_tries(reading: Reading) -> Iterator[str]:
    for run in reading.runs.values():
        if run.tries > TRIES_MAX:
            yield f"run {run.id} was tried {run.tries} times"
        end = run.ends[0].event if run.ends else None
        exhausted = isinstance(end, ev.RunFailed) and end.code == "retries_exhausted"
        if exhausted and run.tries < TRIES_MAX and run.claims <= CLAIMS_MAX:
            yield f"run {run.id} was given up after {run.tries} tries ({run.claims} claims)"


# -- effects ---------------------------------------------------------------------------------------------------------


def _by_key(reading: Reading) -> dict[str, list[Effect]]:
    effects: dict[str, list[Effect]] = defaultdict(list)
    for effect in reading.evidence.effects:
        effects[effect.key].append(effect)
    return effects


def effects_by_their_rule(reading: Reading) -> Iterator[str]:
    effects = _by_key(reading)
    for key, each in effects.items():
        tools = {effect.tool for effect in each}
        if len(tools) > 1:
            yield f"key {key} came from {sorted(tools)}"
        if not tools.isdisjoint(ONCE) and len(each) > 1:
            yield f"{each[0].tool} took effect {len(each)} times under {key}"
        if len({effect.args_hash for effect in each}) > 1:
            yield f"{each[0].tool} came with {len(each)} different arguments under {key}"
    for run in reading.runs.values():
        theirs = {entry.event.call.id for entry in run.of(ev.ClientToolRequested)}
        for call_id, results in run.results.items():
            if len(results) > 1:
                yield f"call {call_id} of run {run.id} has {len(results)} results"
            if call_id in theirs or call_id in run.transfers:
                continue
            key = f"{run.id}:{call_id}"
            if not results[0].is_error and key not in effects and run.calls[call_id][1].name != OPENING:
                yield f"call {call_id} of run {run.id} has a result and took no effect"
            if results[0].code == "outcome_unknown" and run.calls[call_id][1].name not in ONCE:
                yield f"call {call_id} of run {run.id} may be repeated, and was left as outcome_unknown"


def no_effect_without_intent(reading: Reading) -> Iterator[str]:
    for effect in reading.evidence.effects:
        run = reading.runs.get(effect.run)
        intent = run.calls.get(effect.call_id) if run is not None else None
        if intent is None:
            yield f"{effect.tool} took effect under {effect.key} without an intent"
        elif effect.at < intent[0] - CLOCKS_S:
            yield f"{effect.tool} took effect {intent[0] - effect.at:.3f} s before its intent ({effect.key})"
        elif effect.args_hash != hash_of(intent[1].arguments) or effect.tool != intent[1].name:
            yield f"{effect.tool} took another effect than was intended ({effect.key})"


def no_effect_after_the_end(reading: Reading) -> Iterator[str]:
    """But for a server that froze between the commit of an intent and its request: it sends it when it wakes up, and no
    fence of ours reaches the one who gets it. The rules of repeats hold for it like for any other (I6)."""
    notes = [each for each in reading.evidence.history if each.op in ("freeze", "thaw")]
    frozen = list(zip(notes[::2], notes[1::2], strict=False))
    for effect in reading.evidence.effects:
        run = reading.runs.get(effect.run)
        end = run.ends[0] if run is not None and run.ends else None
        if run is None or end is None or effect.at <= end.at + UNDER_WAY_S:
            continue
        intended_at = [each.at for each in run.of(ev.ToolStarted) if each.event.call.id == effect.call_id]
        if any(
            freeze.at - UNDER_WAY_S < at < freeze.at + CLOCKS_S and 0 < effect.at - thaw.at < AWAKE_S
            for freeze, thaw in frozen
            for at in intended_at
        ):
            continue
        yield f"{effect.tool} took effect {effect.at - end.at:.3f} s after {ev.kind_of(end.event)} of run {effect.run}"


# -- tokens ----------------------------------------------------------------------------------------------------------


def tokens_add_up(reading: Reading) -> Iterator[str]:
    bills = defaultdict(list)
    for bill in reading.evidence.bills:
        bills[bill.token].append(bill)
    for run in reading.runs.values():
        if run.script is None:
            continue
        script, used, total = run.script, set[int](), Usage()
        mine = [bill for bill in bills[script.token] if not script.acts or (bill.reply > 1) == (run.replied > 0)]
        for reply, entry in enumerate(run.of(ev.ReplyFinished), start=run.replied + 1):
            event = entry.event
            if not isinstance(event, ev.ReplyFinished):
                continue
            total += event.usage
            paid = [bill for bill in mine if bill.reply == reply and bill.whole]
            said = event.text or event.internal
            paid = [bill for bill in paid if script.text(reply, bill.asked) == said]
            match = next((b for b in paid if event.usage == Usage(b.prompt_tokens, b.completion_tokens)), None)
            if not paid:
                yield f"reply {reply} of run {run.id} is no answer the model gave: {said[:120]!r}"
            elif match is None:
                yield f"reply {reply} of run {run.id} is booked as {event.usage}, billed as {paid}"
            else:
                used.add(match.number)
        end = run.ends[0].event if run.ends else None
        if end is not None and getattr(end, "usage", total) != total:
            yield f"run {run.id} ended with {getattr(end, 'usage', None)}; its replies add up to {total}"
        faults = sum(1 for bill in mine if bill.fault)
        cancelled = int(isinstance(end, ev.RunCancelled))
        lost = len(mine) - len(used) - faults
        ends = run.claims - 1 + cancelled + int(isinstance(end, ev.RunFailed))
        if lost > ends * (1 + refused_count(run)):
            yield f"run {run.id} asked the model {lost} times for nothing in {run.claims} attempts"


# -- others ----------------------------------------------------------------------------------------------------------


def nothing_of_others(reading: Reading) -> Iterator[str]:
    canaries = {project: f"canary{project}" for project in PROJECTS}
    for number, records in reading.heard.items():
        begun = reading.operations[number]
        body = "".join(record.text for record in records)
        for project, canary in canaries.items():
            if project != begun.project and canary in body:
                yield f"{begun.who} of {begun.project} heard of {project} ({begun.op} {begun.run or begun.token})"
        if begun.op == "peek" and records[0].status == 200:
            yield f"{begun.who} of {begun.project} was shown run {begun.run} of another project"
    for tape in reading.evidence.dump.tapes:
        for entry in tape.entries:
            body = dump_event(entry.event).decode()
            for project, canary in canaries.items():
                if project != tape.project and canary in body:
                    yield f"{canary} stands on a tape of {tape.project}: {tape.conversation} entry {entry.seq}"


def nothing_left_behind(reading: Reading) -> Iterator[str]:
    yield from reading.evidence.leftovers


def no_server_errors(reading: Reading) -> Iterator[str]:
    counts = Counter(
        (record.status, record.text[:200])
        for record in reading.evidence.history
        if record.status >= 500 and record.status not in (502, 503) and not _tells_of_an_end(reading, record)
    )
    for (status, text), count in counts.items():
        yield f"{count} answers of {status}: {text}"


def _tells_of_an_end(reading: Reading, record: Record) -> bool:
    """Rowboat's wire says 500 of turns that failed (rowboat spec 3.5)."""
    begun, run = reading.operations.get(record.id), reading.runs.get(record.run)
    end = run.ends[0].event if run is not None and run.ends else None
    return begun is not None and begun.mode == "rowboat" and isinstance(end, ev.RunFailed | ev.RunCancelled)


INVARIANTS: tuple[tuple[str, Callable[[Reading], Iterator[str]]], ...] = (
    ("I1", acknowledged_once),
    ("I2", others_at_most_once),
    ("I3", no_gap),
    ("I4", readers_hear_the_tape),
    ("I5", one_end),
    ("I6", effects_by_their_rule),
    ("I7", no_effect_without_intent),
    ("I8", no_effect_after_the_end),
    ("I9", tokens_add_up),
    ("I10", no_lock_without_a_run),
    ("I11", nothing_of_others),
    ("I12", nothing_left_behind),
    ("I13", approvals_count),
    ("I13", answers_kept),
    ("I13", names_kept),
    ("W1", word_goes_round),
    ("G8", few_tries),
    ("G8", recovered_in_time),
    ("G14", no_server_errors),
)
