"""Wherever a reader was cut off: each event comes once, and the messages are those of the view."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.core.transcript import Transcript
from dragoman.dialects.grafana.events import ChatStream
from dragoman.dialects.grafana.messages import turn_messages
from tests.dialects.grafana.asking import request
from tests.dialects.grafana.reading import Chat
from tests.histories import histories


@st.composite
def tapes(draw: st.DrawFn) -> tuple[Entry, ...]:
    """A tape of several turns, one after the other, with notes between."""
    entries: list[Entry] = []

    def put(event: ev.Event, run: str, at: float = 1_700_000_000.0) -> None:
        entries.append(Entry(len(entries) + 1, RunId(run), at, event))

    for number in range(draw(st.integers(1, 3))):
        run = f"run-{number}"
        put(ev.TurnReceived(tuple(said("user", text) for text in draw(st.lists(st.text(max_size=5), max_size=3)))), run)
        history = draw(histories())
        shift = len(entries) - history.started.seq
        for entry in history.entries:
            event = entry.event
            if isinstance(event, ev.AttemptReset):
                event = ev.AttemptReset(event.from_seq + shift)
            put(event, run, entry.at)
        if draw(st.booleans()):
            put(ev.TitleGiven("title"), "")
    return tuple(entries)


def at_work(entries: Sequence[Entry], seq: int) -> int:
    """Where a reader begins that has all up to `seq`: before the turn at work there, else right behind."""
    begun = 0
    for entry in entries[:seq]:
        if isinstance(entry.event, ev.TurnReceived):
            begun = entry.seq
        elif isinstance(entry.event, ev.RunEnd):
            begun = 0
    return begun - 1 if begun else seq


def read(entries: Sequence[Entry], cursor: str, *, head: int, batches: Iterator[int]) -> Iterator[bytes]:
    """What one connection sends, write by write."""
    stream = ChatStream(request(headers={"last-event-id": cursor}))
    seq, _, part = cursor.partition(".")
    begin = at_work(entries, int(seq or 0) - bool(part))
    yield stream.opened(Started(ConversationId("chat"), Tape(1), RunId(""), begin, created=False, head=head))
    left = list(entries[begin:])
    while left:
        size = next(batches)
        for entry in left[:size]:
            yield stream.entry(entry)
        del left[:size]
        yield stream.held()


def shown(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thoughts left out: those of a reply that was broken off are shown as they come and kept nowhere."""
    found: list[dict[str, Any]] = []
    for message in messages:
        content = [part for part in message["content"] if part["type"] != "thinking"]
        if not message["hidden"] and content:
            found.append({name: value for name, value in message.items() if name != "chatId"} | {"content": content})
    return found


def viewed(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    names: Any = {}
    turns = Transcript(entries).turns()
    return shown([json.loads(msgspec.json.encode(message)) for turn in turns for message in turn_messages(turn, names)])


batch_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def cycle(sizes: Sequence[int]) -> Iterator[int]:
    while True:
        yield from sizes


@given(entries=tapes(), sizes=batch_sizes, data=st.data())
def test_a_reader_that_is_cut_off_again_and_again_misses_nothing_and_hears_nothing_twice(
    entries: tuple[Entry, ...], sizes: list[int], data: st.DataObject
) -> None:
    chat, cursor, cuts = Chat(), "", data.draw(st.integers(0, 3))
    head = data.draw(st.integers(0, len(entries)))
    for connection in range(cuts + 1):
        sent = b"".join(read(entries, cursor, head=head, batches=cycle(sizes)))
        frames = sent.split(b"\n\n")[:-1]
        keep = data.draw(st.integers(0, len(frames))) if connection < cuts else len(frames)
        chat.read(b"".join(frame + b"\n\n" for frame in frames[:keep]))
        cursor = chat.ids[-1] if chat.ids else ""
    assert len(set(chat.ids)) == len(chat.ids)
    assert chat.ids == sorted(chat.ids, key=order)
    assert shown(list(chat.messages.values())) == viewed(entries)
    assert chat.running == []


def order(frame_id: str) -> tuple[int, float]:
    seq, _, part = frame_id.partition(".")
    return int(seq), float(part or "inf")


@given(entries=tapes(), sizes=batch_sizes)
def test_a_reader_of_the_past_is_told_of_one_execution(entries: tuple[Entry, ...], sizes: list[int]) -> None:
    chat = Chat().read(b"".join(read(entries, "", head=len(entries), batches=cycle(sizes))))
    last = max(entry.run for entry in entries)
    assert (chat.ended, chat.running) == ([last], [])
    executions = [kind for _, kind, _ in chat.frames if kind.startswith("AGENT_EXECUTION_")]
    assert (len(executions), executions[0]) == (2, "AGENT_EXECUTION_STARTED")
    assert shown(list(chat.messages.values())) == viewed(entries)


@given(entries=tapes(), sizes=batch_sizes)
def test_what_a_reader_was_told_does_not_hang_on_how_much_came_at_once(
    entries: tuple[Entry, ...], sizes: list[int]
) -> None:
    apart = Chat().read(b"".join(read(entries, "", head=0, batches=cycle([1]))))
    together = Chat().read(b"".join(read(entries, "", head=0, batches=cycle(sizes))))
    assert shown(list(apart.messages.values())) == shown(list(together.messages.values()))
    assert apart.ended == together.ended
    assert set(together.ids) <= set(apart.ids)
