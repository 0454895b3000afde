"""The load generator, a process of its own: `python -m bench.load` takes jobs on stdin, one JSON line each.

N callers on N keep-alive connections, each asking again as soon as it has its answer, until the time is up; then what
is under way is waited for. Requests are bytes made beforehand, into which only a number is put. Every answer is
checked: its status, and that each of its words arrived. For each job it prints `ready` when connections are open and
warmed, waits for a line, runs, and prints the outcome.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop
from msgspec import Struct

WORD = b"word"
"""How each word of the upstream's answers begins."""
ERROR_EXCERPT_BYTES = 300
ANSWER_WAIT_S = 60.0
"""An answer that takes longer has hung, and the job fails."""


class Job(Struct, frozen=True, kw_only=True):
    """What to ask and for how long. In `body`, `@id@` becomes a number of nine digits that no other request of this job
    has, and `@caller@` the caller's, of three.

    `seconds` = how long callers keep asking; `each` = how often each asks, when that is not 0. `words` = the words an
    answer must hold. `delta` = what each frame of text holds once; "" if the answer is not streamed.
    """

    url: str
    path: str
    headers: dict[str, str]
    body: str
    callers: int
    words: int
    seconds: float = 0.0
    each: int = 0
    delta: str = ""
    warm: int = 0
    stagger_s: float = 0.0
    """Callers begin spread over so much time, so that paced streams do not all speak in the same instant."""


class Spread(Struct, frozen=True):
    """How long something took, in ms."""

    p50: float = 0.0
    p99: float = 0.0


class Outcome(Struct, frozen=True):
    """`frames` = frames of text that arrived; `gap` = between two of them in one stream."""

    responses: int
    frames: int
    errors: int
    first_error: str
    wall_s: float
    cpu_s: float
    latency: Spread
    first_frame: Spread
    gap: Spread


def spread(seconds: Sequence[float]) -> Spread:
    ordered = sorted(seconds)
    if not ordered:
        return Spread()
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 for share in (0.5, 0.99)]
    return Spread(at[0], at[1])


class Answer:
    """Reads one answer after another from a connection's bytes, however the network cuts them."""

    def __init__(self, delta: bytes, on_frame: Callable[[int], None]) -> None:
        self._delta = delta
        self._on_frame = on_frame
        self._tail_bytes = max(len(delta), len(WORD)) - 1
        self._parser: Any = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        self.complete = False
        self.words = 0
        self.frames = 0
        self.beginning = b""
        self._tail = b""

    @property
    def status(self) -> int:
        return self._parser.get_status_code()

    def feed(self, data: bytes) -> bool:
        """True once the answer is whole."""
        self._parser.feed_data(data)
        return self.complete

    def on_body(self, body: bytes) -> None:
        if len(self.beginning) < ERROR_EXCERPT_BYTES:
            self.beginning += body[:ERROR_EXCERPT_BYTES]
        text = self._tail + body
        # What began in the tail counts now; what lay in it whole was counted before.
        self.words += text.count(WORD, max(0, len(self._tail) - len(WORD) + 1))
        if self._delta:
            frames = text.count(self._delta, max(0, len(self._tail) - len(self._delta) + 1))
            if frames:
                self.frames += frames
                self._on_frame(frames)
        self._tail = text[-self._tail_bytes :]

    def on_message_complete(self) -> None:
        self.complete = True


class Tally:
    """What all callers of a job saw."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.first_frames: list[float] = []
        self.gaps: list[float] = []
        self.frames = 0
        self.errors = 0
        self.first_error = ""

    def fault(self, sentence: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or sentence


class Caller(asyncio.Protocol):
    """One caller: asks, waits for the whole answer, asks again."""

    def __init__(self, request: Callable[[int], bytes], job: Job, numbers: "Numbers") -> None:
        self._request = request
        self._job = job
        self._numbers = numbers
        self._loop = asyncio.get_running_loop()
        self._answer = Answer(job.delta.encode(), self._framed)
        self._transport: asyncio.Transport | None = None
        self._tally = Tally()
        self._left = 0
        self._deadline = 0.0
        self._asked_at = 0.0
        self._framed_at = 0.0
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            self._tally.fault(f"the connection was closed before the answer was whole: {exc or 'end of stream'}")
            self._done.set_result(None)

    async def run(self, tally: Tally, *, seconds: float, each: int, after_s: float = 0.0) -> None:
        """Ask until `seconds` are over, or `each` times."""
        self._tally = tally
        self._done = self._loop.create_future()
        self._left = each
        self._deadline = time.perf_counter() + seconds
        self._loop.call_later(after_s, self._ask) if after_s else self._ask()
        await self._done
        self._done = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _ask(self) -> None:
        if self._transport is None:
            return
        self._answer.begin()
        self._framed_at = 0.0
        self._asked_at = time.perf_counter()
        self._transport.write(self._request(self._numbers.take()))

    def _framed(self, frames: int) -> None:
        now = time.perf_counter()
        if self._framed_at:
            self._tally.gaps.append(now - self._framed_at)
        else:
            self._tally.first_frames.append(now - self._asked_at)
        self._framed_at = now

    def data_received(self, data: bytes) -> None:
        try:
            if not self._answer.feed(data):
                return
        except httptools.HttpParserError as error:
            self._tally.fault(f"not an HTTP answer: {error}")
            self.close()
            return
        now = time.perf_counter()
        answer, tally = self._answer, self._tally
        tally.latencies.append(now - self._asked_at)
        tally.frames += answer.frames
        if answer.status != 200 or answer.words != self._job.words:
            excerpt = answer.beginning.decode(errors="replace")
            tally.fault(f"status {answer.status}, {answer.words} words and not {self._job.words}: {excerpt}")
        self._left -= 1
        if self._left == 0 or (self._left < 0 and now >= self._deadline):
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
        else:
            self._ask()


class Numbers:
    """No two requests of a job carry the same number."""

    def __init__(self) -> None:
        self._next = 0

    def take(self) -> int:
        self._next += 1
        return self._next


def request_maker(job: Job, caller: int) -> Callable[[int], bytes]:
    """A caller's requests: bytes made once, but for the number."""
    host = urlsplit(job.url).netloc
    body = job.body.replace("@caller@", f"{caller:03d}").encode()
    parts = body.split(b"@id@")
    length = len(body) + (len(parts) - 1) * (9 - len(b"@id@"))
    headers = {"host": host, "content-type": "application/json", "content-length": str(length), **job.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    parts[0] = f"POST {job.path} HTTP/1.1\r\n{head}\r\n".encode() + parts[0]

    def request(number: int) -> bytes:
        return (b"%09d" % number).join(parts)

    return request


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{url} does not name a host and a port")
    return parts.hostname, parts.port


async def run(job: Job, wait_for_go: Callable[[], object]) -> Outcome:
    """Open and warm the connections, wait, and carry the job out."""
    loop = asyncio.get_running_loop()
    host, port = _address(job.url)
    numbers = Numbers()
    callers: list[Caller] = []
    for number in range(job.callers):
        request = request_maker(job, number)
        _, caller = await loop.create_connection(lambda request=request: Caller(request, job, numbers), host, port)
        callers.append(caller)
    tally = Tally()
    if job.warm:
        await _all(callers, tally, seconds=0, each=job.warm)
    if not tally.errors:
        tally = Tally()
    wait_for_go()
    began, cpu_began = time.perf_counter(), time.process_time()
    await _all(callers, tally, seconds=job.seconds, each=job.each, stagger_s=job.stagger_s)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    for caller in callers:
        caller.close()
    return Outcome(
        len(tally.latencies),
        tally.frames,
        tally.errors,
        tally.first_error,
        wall_s,
        cpu_s,
        spread(tally.latencies),
        spread(tally.first_frames),
        spread(tally.gaps),
    )


async def _all(callers: Sequence[Caller], tally: Tally, *, seconds: float, each: int, stagger_s: float = 0.0) -> None:
    try:
        async with asyncio.timeout(seconds + ANSWER_WAIT_S + each), asyncio.TaskGroup() as group:
            for number, caller in enumerate(callers):
                after_s = stagger_s * number / len(callers)
                group.create_task(caller.run(tally, seconds=seconds, each=each, after_s=after_s))
    except TimeoutError:
        tally.fault(f"an answer did not end within {ANSWER_WAIT_S:g} s")


def _wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    for line in iter(sys.stdin.readline, ""):
        job = msgspec.json.decode(line, type=Job)
        outcome = uvloop.run(run(job, _wait_for_go))
        print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    main()
