"""I4: what readers heard, over all their connections, is what stands on the tape. Part of the checker, and pure."""

from collections import defaultdict
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.events import dump_event
from dragoman.core.operations import Started
from dragoman.dialects.elastic.frames import Chunks
from dragoman.dialects.grip.encode import Stream
from dragoman.dialects.rowboat.stream import Stream as Turns
from dragoman.edge.following import told as as_told
from tests.crash.evidence import Reading, RunTape
from tests.crash.rowboat import messages_of

CHUNKS_END = b"data: [DONE]"
CHUNKS_ERROR = b'data: {"error"'


class _Framed(Struct):
    seq: int
    run: str
    at: float
    event: msgspec.Raw


def readers_hear_the_tape(reading: Reading) -> Iterator[str]:
    followed: dict[tuple[str, str], list[tuple[int, bytes]]] = defaultdict(list)
    for number, records in reading.heard.items():
        begun = reading.operations[number]
        body = b"".join(record.text.encode("latin-1") for record in records)
        if begun.op == "follow":
            followed[begun.reader, begun.run] += [(begun.after, frame) for frame in _frames(body)]
        elif begun.op == "append":
            yield from _answer(reading, begun.token, begun.mode, body)
    for (reader, run), frames in followed.items():
        yield from _follower(reading, reader, run, frames)
    for record in reading.evidence.history:
        run = reading.runs.get(record.run)
        if record.op == "append" and record.status == 502 and run is not None and run.ends:
            if not isinstance(run.ends[0].event, ev.RunFailed | ev.RunCancelled):
                yield f"run {record.run} was answered with 502; its tape says {ev.kind_of(run.ends[0].event)}"


def _frames(body: bytes) -> list[bytes]:
    """Whole frames that are neither comments nor advice. What comes behind the last blank line is torn."""
    whole, _, _ = body.rpartition(b"\n\n")
    return [frame for frame in whole.split(b"\n\n") if frame.startswith(b"id: ")]


def _follower(reading: Reading, reader: str, run: str, frames: list[tuple[int, bytes]]) -> Iterator[str]:
    """A reader's frames over all its connections are the run's first entries, each once, byte for byte as
    whoever may read the run is told them."""
    tape = reading.runs.get(run)
    if tape is None:
        yield f"{reader} heard of run {run}, which is on no tape"
        return
    cursor = 0
    entries = iter(tape.entries)
    for after, frame in frames:
        id_line, _, data = frame.partition(b"\ndata: ")
        told = msgspec.json.decode(data, type=_Framed)
        entry = next(entries, None)
        if after > cursor:
            yield f"{reader} of run {run} connected behind {after} and had heard up to {cursor}"
            return
        if entry is None or (told.seq, told.run) != (entry.seq, run) or id_line != b"id: %d" % entry.seq:
            expected = "nothing more" if entry is None else f"entry {entry.seq}"
            yield f"{reader} of run {run} heard {id_line.decode()} ({told.seq}), expected {expected}"
            return
        if bytes(told.event) != dump_event(as_told(entry.event)) or told.at != entry.at:
            yield f"{reader} of run {run}: entry {entry.seq} was heard as {data[:200]!r}"
            return
        cursor = entry.seq


def _answer(reading: Reading, token: str, mode: str, body: bytes) -> Iterator[str]:
    places = reading.places.get(token, [])
    if len(places) != 1 or not body or mode == "held":
        return  # said elsewhere, or not told more than the run
    run = reading.runs[places[0][1].run]
    if mode == "streaming":
        yield from _stream(run, token, body)
        return
    if mode == "elastic":
        yield from _chunks(run, token, body)
        return
    if mode.startswith("rowboat"):
        yield from _messages(run, token, body, streamed=mode == "rowboat-stream")
        return
    finished = [entry.event for entry in run.of(ev.ReplyFinished)]
    said = msgspec.json.decode(body).get("response")
    last = finished[-1].text if finished else None
    if said != last:
        yield f"turn {token} was answered {said!r}; its tape says {last!r}"


def _stream(run: RunTape, token: str, body: bytes) -> Iterator[str]:
    """A stream's frames are what its encoder makes of the tape. It may stop anywhere, or with its wire's error."""
    encoder = Stream()
    started = Started(run.tape.conversation, 0, run.id, run.entries[0].seq, created=False)
    expected = encoder.opened(started) + b"".join(encoder.entry(entry) for entry in run.entries[1:])
    heard = b"".join(part + b"\n\n" for part in body.split(b"\n\n") if part and not part.startswith(b":"))
    if not body.endswith(b"\n\n"):
        heard = heard[:-2]
    if any(expected.startswith(each) for each in _without_error(heard)):
        return
    same = next((at for at, (a, b) in enumerate(zip(heard, expected, strict=False)) if a != b), len(expected))
    yield f"the stream of turn {token} differs from its tape at byte {same}: …{heard[max(same - 60, 0) : same + 60]!r}"


def _chunks(run: RunTape, token: str, body: bytes) -> Iterator[str]:
    """A stream of Elastic's, likewise. Its wire says an error where it ends early, and has a last frame."""
    encoder = Chunks()
    expected = b"".join(encoder.entry(entry) for entry in run.entries[1:])
    heard = [frame for frame in body.split(b"\n\n")[:-1] if not frame.startswith(b":")]
    while heard and (heard[-1] == CHUNKS_END or heard[-1].startswith(CHUNKS_ERROR)):
        heard.pop()
    said = [frame for frame in expected.split(b"\n\n") if not frame.startswith(CHUNKS_ERROR)]
    if heard != said[: len(heard)]:
        yield f"the stream of turn {token} differs from its tape: {heard[:20]}, expected {said[:20]}"
    elif body.endswith(CHUNKS_END + b"\n\n") and CHUNKS_ERROR not in body and body != expected:
        yield f"the stream of turn {token} ended and was not whole"


def _messages(run: RunTape, token: str, body: bytes, *, streamed: bool) -> Iterator[str]:
    """Rowboat's, whole messages: a stream has the first of those that its encoder makes of the tape; an answer that is
    whole has all of them."""
    encoder = Turns()
    frames = messages_of(b"".join(encoder.entry(entry) for entry in run.entries[1:]))
    expected = [frame["data"] for frame in frames if frame["type"] == "message"]
    if not streamed:
        said = msgspec.json.decode(body)["turn"]["output"]
        if said != expected:
            yield f"turn {token} was answered {said}; its tape says {expected}"
        return
    heard = messages_of(body)
    messages = [frame["data"] for frame in heard if frame["type"] == "message"]
    if messages != expected[: len(messages)]:
        yield f"the stream of turn {token} differs from its tape: {messages}, expected {expected}"
    done = next((frame for frame in heard if frame["type"] == "done"), None)
    if done is not None and (done["turn"]["output"] != expected or messages != expected or heard[-1] is not done):
        yield f"the stream of turn {token} ended and was not whole: {messages}, expected {expected}"


def _without_error(heard: bytes) -> Iterator[bytes]:
    """What was heard; then without the error that ends a stream whose server stops, and the tools' ends before it."""
    yield heard
    frames = heard.split(b"\n\n")[:-1]
    if frames and frames[-1].startswith(b"event: error\n"):
        frames.pop()
        yield b"\n\n".join([*frames, b""])
        while frames and frames[-1].startswith(b"event: tool_end\n"):
            frames.pop()
            yield b"\n\n".join([*frames, b""])
