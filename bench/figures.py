"""What can be said of one server without a race: start, memory, size, command line, and long conversations."""

import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from bench import measure
from bench.rounds import WORDS, Meter, Sample, Say
from bench.targets import HISTORY_TOKENS, ROOT, Process, Target, start_dragoman, start_floor

QUIET_S = 1.0
"""After its last request, before a server counts as idle."""
CHECK_CHATS = 20

START_S_MAX = 1.0
IDLE_MIB_MAX = 90.0
CORE_MB_MAX = 60.0
DISTRIBUTIONS_MAX = 25.0
HELP_CPU_S_MAX = 0.2
HELP_WALL_S_MAX = 0.3
LONG_RATIO_MAX = 1.1

CONVERSATIONS = 4
WINDOW_TURNS = 50
WINDOW_TURNS_FULL = 25
"""Turns of each conversation in one measurement; fewer where a turn costs more."""
TURNS = 1000
FULL_TURNS = 250
"""By then the default budget for history is full: 24,000 tokens of 4 characters, some 440 characters a turn."""


class Figure(Struct, frozen=True):
    """One measured thing with all its values; `budget` is the most its median may be, 0 = none set."""

    key: str
    title: str
    unit: str
    values: tuple[float, ...]
    budget: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.values)


# -- start and memory ------------------------------------------------------------------------------------------------


def start(upstream: str, scratch: Path, meter: Meter, *, rounds: int, say: Say) -> list[Figure]:
    """Process start to the last byte of the first answer; on a new home, on one that was there, and for the relay."""
    homes: tuple[tuple[str, str, Callable[[int], Target]], ...] = (
        ("start-new", "start to first answer, new home", lambda n: start_dragoman(upstream, scratch, f"start-{n}")),
        ("start", "start to first answer, old home", lambda n: start_dragoman(upstream, scratch, f"start-{n}")),
        ("start-relay", "start to first answer, relay", lambda n: start_floor(upstream, scratch, "start-relay")),
    )
    start_dragoman(upstream, scratch, "start-0").stop()  # whatever bytecode was not there is now
    took: dict[str, list[float]] = {key: [] for key, _, _ in homes}
    memory: dict[str, list[float]] = {"rss": [], "rss-relay": []}
    for number in range(1, rounds + 1):
        for key, title, begin in homes:
            target = begin(number)
            try:
                first = _first_answer(target, meter)
                took[key].append(target.listening_s + first.wall_s)
                if key != "start-new":
                    time.sleep(QUIET_S)
                    memory["rss" if key == "start" else "rss-relay"].append(measure.rss_mib(target.pid))
            finally:
                target.stop()
            say(f"round {number}/{rounds}  {title:<44} {took[key][-1]:.3f} s")
    figures = [
        Figure(key, title, "s", tuple(took[key]), 0.0 if key == "start-relay" else START_S_MAX)
        for key, title, _ in homes
    ]
    return [
        *figures,
        Figure("rss", "resident, idle after its first answer", "MiB", tuple(memory["rss"]), IDLE_MIB_MAX),
        Figure("rss-relay", "resident, idle, relay", "MiB", tuple(memory["rss-relay"])),
    ]


def _first_answer(target: Target, meter: Meter) -> Sample:
    return meter.sample(
        target, target.job(WORDS, series=meter.series(), callers=1, streamed=False, each=1), words=WORDS
    )


def asks_per_chat(upstream: Process, target: Target, meter: Meter) -> float:
    """How often a server asks its LLM for one chat."""
    before = _chats(upstream)
    job = target.job(WORDS, series=meter.series(), callers=1, streamed=False, each=CHECK_CHATS)
    meter.sample(target, job, words=WORDS)
    return (_chats(upstream) - before) / CHECK_CHATS


def _chats(upstream: Process) -> int:
    with urllib.request.urlopen(f"{upstream.url}/_stats", timeout=5) as answer:
        counts = msgspec.json.decode(answer.read(), type=dict[str, int])
    return counts["chats"]


# -- size and command line -------------------------------------------------------------------------------------------


def size() -> tuple[list[Figure], measure.Installed]:
    """The core install: what the lock names, in this environment, and ourselves."""
    core = measure.installed(ROOT / "requirements" / "core.txt", ROOT / "src" / "dragoman")
    figures = [
        Figure("size", "core install, on disk", "MB", (core.megabytes,), CORE_MB_MAX),
        Figure("distributions", "distributions in it", "", (float(len(core.sizes)),), DISTRIBUTIONS_MAX),
    ]
    return figures, core


def help_text(*, rounds: int, say: Say) -> list[Figure]:
    """`dragoman --help`, and an interpreter that does nothing, for what of it is Python's own."""
    script = Path(sys.executable).with_name("dragoman")
    typed = [str(script)] if script.exists() else [sys.executable, "-m", "dragoman"]
    commands = (("help", [*typed, "--help"]), ("python", [sys.executable, "-c", "pass"]))
    spent: dict[str, list[tuple[float, float]]] = {key: [] for key, _ in commands}
    for _ in range(rounds + 1):
        for key, command in commands:
            spent[key].append(_spent(command))
    warm = {
        key: values[1:] for key, values in spent.items()
    }  # the first one compiled modules and filled the page cache
    say(f"dragoman --help: {statistics.median(cpu for cpu, _ in warm['help']):.3f} s CPU")
    return [
        Figure("help-cpu", "dragoman --help, CPU", "s", tuple(cpu for cpu, _ in warm["help"]), HELP_CPU_S_MAX),
        Figure("help-wall", "dragoman --help, wall", "s", tuple(wall for _, wall in warm["help"]), HELP_WALL_S_MAX),
        Figure("python-cpu", "an empty Python, CPU", "s", tuple(cpu for cpu, _ in warm["python"])),
    ]


def _spent(command: Sequence[str]) -> tuple[float, float]:
    """CPU and wall seconds of a command and its children."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, wall_s


# -- long conversations ----------------------------------------------------------------------------------------------


class Thread:
    """Some conversations of a server that grow turn by turn, all by the same number."""

    def __init__(self, meter: Meter, target: Target) -> None:
        self._meter = meter
        self._target = target
        self._series = meter.series()
        self.turns = 0

    def grow(self, turns: int) -> Sample:
        """So many turns more of each."""
        job = self._target.job(
            WORDS, series=self._series, callers=CONVERSATIONS, streamed=False, session="c@caller@", each=turns
        )
        self.turns += turns
        return self._meter.sample(self._target, job, words=WORDS)


def turns(upstream: str, scratch: Path, meter: Meter, *, rounds: int, say: Say) -> list[Figure]:
    """What turn 1000 costs against turn 1: first with no history in the prompt, so that both turns ask the very same
    and only the tape differs; then with the default budget, against the turns where it had just filled up."""
    found: list[Figure] = []
    for name, compare in (("turns", _no_history), ("turns-full", _full_history)):
        target = start_dragoman(upstream, scratch, name, history_tokens=0 if compare is _no_history else HISTORY_TOKENS)
        try:
            say(f"{name}: growing {CONVERSATIONS} conversations to {TURNS} turns")
            long = Thread(meter, target)
            long.grow(TURNS - 1)
            found += compare(target, meter, long, rounds, say)
        finally:
            target.stop()
    return found


def _no_history(target: Target, meter: Meter, long: Thread, rounds: int, say: Say) -> list[Figure]:
    def first() -> Sample:
        job = target.job(WORDS, series=meter.series(), callers=CONVERSATIONS, streamed=False, each=WINDOW_TURNS)
        return meter.sample(target, job, words=WORDS)

    def second() -> Sample:
        new = Thread(meter, target)
        new.grow(1)
        return new.grow(WINDOW_TURNS)

    firsts, seconds, lates = _windows((first, second, lambda: long.grow(WINDOW_TURNS)), 2 * rounds, say)
    return [
        *_compared("turns", "turn 1000 to 1, no history in prompt", firsts, lates),
        Figure(
            "turns-second", f"turn 1000 to 2-{WINDOW_TURNS + 1}, no history in prompt, CPU", "x", _times(seconds, lates)
        ),
        Figure("turns-early", "CPU of turn 1", "ms", _costs(firsts)),
        Figure("turns-late", "CPU of turn 1000", "ms", _costs(lates)),
    ]


def _full_history(target: Target, meter: Meter, long: Thread, rounds: int, say: Say) -> list[Figure]:
    young = Thread(meter, target)
    young.grow(FULL_TURNS - 1)
    earlies, lates = _windows(
        (lambda: young.grow(WINDOW_TURNS_FULL), lambda: long.grow(WINDOW_TURNS_FULL)), rounds, say
    )
    return [
        *_compared("turns-full", f"turn 1000 to {FULL_TURNS}, full history", earlies, lates),
        Figure("turns-full-early", f"CPU of turn {FULL_TURNS}, full history", "ms", _costs(earlies)),
        Figure("turns-full-late", "CPU of turn 1000, full history", "ms", _costs(lates)),
    ]


def _windows(windows: Sequence[Callable[[], Sample]], rounds: int, say: Say) -> list[list[Sample]]:
    """Each window measured in turns, so many rounds; the samples by window."""
    samples: list[list[Sample]] = [[] for _ in windows]
    for number in range(1, rounds + 1):
        for window, taken in zip(windows, samples, strict=True):
            taken.append(window())
        costs = ", ".join(f"{taken[-1].cpu_ms('request'):.3f}" for taken in samples)
        say(f"round {number}/{rounds}  turns, early to late: {costs} ms CPU")
    return samples


def _compared(key: str, title: str, earlies: Sequence[Sample], lates: Sequence[Sample]) -> list[Figure]:
    waits = [late.latency.p50 / early.latency.p50 for early, late in zip(earlies, lates, strict=True)]
    return [
        Figure(key, f"{title}, CPU", "x", _times(earlies, lates), LONG_RATIO_MAX),
        Figure(f"{key}-wall", f"{title}, wall p50", "x", tuple(waits), LONG_RATIO_MAX),
    ]


def _times(earlies: Sequence[Sample], lates: Sequence[Sample]) -> tuple[float, ...]:
    return tuple(late / early for early, late in zip(_costs(earlies), _costs(lates), strict=True))


def _costs(samples: Sequence[Sample]) -> tuple[float, ...]:
    return tuple(sample.cpu_ms("request") for sample in samples)
