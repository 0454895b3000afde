"""`python -m bench readers`: what readers cost that have nothing to read, that never read, and that are there when the
server stops: R20, R21 and R49 of the reliability plan at full size, on a real server and a real disk."""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from msgspec import Struct

from bench import measure
from bench.crowd import Crowd, DeafReader, allow_files, body_of, ids_of, spread_over
from bench.figures import Figure
from bench.load import spread
from bench.rounds import Say
from bench.scripted import EXIT_S_MAX, Server, pour, silence, start, tools
from bench.targets import Failed

SILENCE_S = 15.0
"""The server's own: between two signs of life."""
STALL_S = 30.0
"""The server's own: who takes nothing for so long is closed."""
READERS_PER_RUN = 100
"""The server's own default of `readers_per_conversation`."""

RSS_KIB_MAX, CPU_PERCENT_MAX, OTHERS_MS_MAX, CLOSED_S_MAX = 20.0, 5.0, 50.0, 10.0
DEAF_KIB_MAX, KERNEL_KIB_MAX, RUN_TIME_RATIO_MAX = 128.0, 132.0, 1.05
OTHERS_S, OTHERS_EVERY_S = 10.0, 0.05
ROUNDS = 3
RESUMED_MAX = 20
RUNS, READERS, LONG_TOOLS = 100, 1000, 5
SCENES = ("idle", "listeners", "deaf", "drain")


# -- idle (R20) ------------------------------------------------------------------------------------------------------


async def idle(scratch: Path, count: int, *, watch_s: float, say: Say, chats: bool = False) -> list[Figure]:
    """`count` readers of runs that say nothing, or with `chats` listeners to theirs, for `watch_s`; then a stop."""
    name = "listeners" if chats else "idle"
    async with start(scratch, name, silence(), drain_s=1.0) as server:
        runs = range(-(-count // READERS_PER_RUN))
        if chats:
            requests = [server.listen(await server.begin_chat(f"wait {number}")) for number in runs]
        else:
            requests = [server.follow(await server.begin(f"wait {number}", f"i{number}")) for number in runs]
        before_mib = measure.rss_mib(server.pid)
        crowd, began = Crowd(), time.monotonic()
        await crowd.open(server.url, spread_over(requests, count))
        say(f"{count} {name} of {len(runs)} runs, opened in {time.monotonic() - began:.1f} s")
        await asyncio.sleep(SILENCE_S + 1)  # until each has heard once, and what that takes is there
        cpu, comments = measure.cpu(server.pid).total_s, crowd.comments
        await asyncio.sleep(watch_s)
        cpu_share = (measure.cpu(server.pid).total_s - cpu) / watch_s
        heard = (crowd.comments - comments) / count
        each_kib = (measure.rss_mib(server.pid) - before_mib) * 1024 / count
        if crowd.gone or heard < 0.9 * watch_s / SILENCE_S - 1:  # a busy machine may keep the server from the clock
            raise Failed(f"{crowd.gone} readers were lost, and each heard {heard:.1f} times in {watch_s:g} s")
        say(f"idle: {each_kib:.1f} KiB each, {cpu_share:.1%} of a core, each heard {heard:.1f} times")
        others = spread(await _others(server))
        say(f"others meanwhile: p50 {others.p50:.1f} ms, p99 {others.p99:.1f} ms")
        closed_s = await _stop(server, crowd) - server.drain_s
        say(f"closed {closed_s:.1f} s after its {server.drain_s:g} s of draining")
    return [
        Figure(f"{name}-rss", f"resident per reader, {count} {name}", "KiB", (each_kib,), RSS_KIB_MAX),
        Figure(f"{name}-cpu", f"a core's share, {count} {name}", "%", (cpu_share * 100,), CPU_PERCENT_MAX),
        Figure(f"{name}-others", "other requests meanwhile, p99", "ms", (others.p99,), OTHERS_MS_MAX),
        Figure(f"{name}-closed", "all closed after the drain", "s", (closed_s,), CLOSED_S_MAX),
    ]


async def _others(server: Server) -> list[float]:
    """Seconds that chats and look-ups take, one after the other."""
    took: list[float] = []
    async with aiohttp.ClientSession(headers=server.headers) as session:
        ends = time.monotonic() + OTHERS_S
        while time.monotonic() < ends:
            for method, path, body in (
                ("GET", "/api/server", None),
                ("POST", "/api/v1/chat", {"message": "hi", "session_key": f"o{len(took)}"}),
            ):
                began = time.monotonic()
                async with session.request(method, server.url + path, json=body) as answer:
                    await answer.read()
                    if answer.status != 200:
                        raise Failed(f"{method} {path} was answered with {answer.status}")
                took.append(time.monotonic() - began)
                await asyncio.sleep(OTHERS_EVERY_S)
    return took


async def _stop(server: Server, crowd: Crowd) -> float:
    """Stop the server; seconds until all readers were closed, every one in order and told when to come back."""
    began = time.monotonic()
    server.terminate()
    async with asyncio.timeout(server.drain_s + EXIT_S_MAX):
        await crowd.all_gone.wait()
    closed_s = time.monotonic() - began
    await server.exited()
    broken = sum(not (reader.ended and reader.told_when) for reader in crowd.readers)
    if broken:
        raise Failed(f"{broken} of {len(crowd.readers)} readers were cut off without a word")
    return closed_s


# -- deaf (R21) ------------------------------------------------------------------------------------------------------


class Poured(Struct, frozen=True):
    """One run of 10 MB, alone or beside deaf readers."""

    whole_s: float
    stuck_s: float
    """From where deaf readers take nothing any more."""
    rss_mib: float
    kernel_kib: float


async def deaf(scratch: Path, count: int, *, rounds: int, say: Say) -> list[Figure]:
    """A run of 10 MB with and without `count` readers that take nothing of it; how they are closed, and resume."""
    alone: list[Poured] = []
    beside: list[Poured] = []
    closed_s = 0.0
    for number in range(1, rounds + 1):
        async with start(scratch, f"alone{number}", pour()) as server:
            alone.append(await _pour(server, await server.begin("pour", "p")))
        async with start(scratch, f"deaf{number}", pour(), readers=count + RESUMED_MAX) as server:
            run = await server.begin("pour", "p")
            readers = [DeafReader(server.url, server.follow(run)) for _ in range(count)]
            beside.append(await _pour(server, run))
            base, ours = alone[-1], beside[-1]
            say(f"round {number}/{rounds}: run {base.whole_s:.2f} s alone, {ours.whole_s:.2f} s beside {count} readers")
            say(f"{'':<11}when those are stuck: {base.stuck_s:.2f} s and {ours.stuck_s:.2f} s")
            if number == rounds:
                closed_s = await _closed(server)
                resumed = await _resumed(server, run, readers[:RESUMED_MAX])
                say(f"all closed in {closed_s:.1f} s; {resumed} came back and missed nothing")
            for reader in readers:
                reader.close()
    pairs = list(zip(alone, beside, strict=True))
    each_kib = tuple((ours.rss_mib - base.rss_mib) * 1024 / count for base, ours in pairs)
    kernel_kib = tuple(ours.kernel_kib / count for ours in beside)
    whole = tuple(ours.whole_s / base.whole_s for base, ours in pairs)
    stuck = tuple(ours.stuck_s / base.stuck_s for base, ours in pairs)
    return [
        Figure("deaf-rss", f"resident per deaf reader, {count} of them", "KiB", each_kib, DEAF_KIB_MAX),
        Figure("deaf-kernel", "in the kernel per deaf reader", "KiB", kernel_kib, KERNEL_KIB_MAX),
        Figure("deaf-run", "run time beside them, to that alone", "x", whole),
        Figure("deaf-stuck", "the same, once they take nothing", "x", stuck, RUN_TIME_RATIO_MAX),
        Figure("deaf-closed", "all closed after the run's end", "s", (closed_s,), STALL_S + 5),
    ]


async def _pour(server: Server, run: str) -> Poured:
    await server.all_ended()
    rss_mib, kernel_kib = await server.settled_mib(), server.kernel_kib()
    whole_s, stuck_s = await server.poured_s(run)
    return Poured(whole_s, stuck_s, rss_mib, kernel_kib)


async def _closed(server: Server) -> float:
    """Seconds from now until the server and its kernel have let go of all connections."""
    began = time.monotonic()
    while left := server.connections():
        if time.monotonic() - began > 2 * STALL_S:
            raise Failed(f"{left} deaf readers were not closed")
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def _resumed(server: Server, run: str, readers: Sequence[DeafReader]) -> int:
    """Let each take what came, come back for the rest, and compare with the tape. How many did."""
    wanted = await server.seqs(run)
    for reader in readers:
        came, _ = reader.what_came()
        body = body_of(came)
        seen = ids_of(body)
        rest = ids_of(await server.read(run, after=seen[-1] if seen else 0))
        if seen + rest != wanted:
            raise Failed(f"a reader saw {len(seen)} entries and then {len(rest)}, of {len(wanted)}")
    return len(readers)


# -- a stop in the midst of it (R49) ---------------------------------------------------------------------------------


async def drain(scratch: Path, *, drain_s: float, say: Say) -> list[Figure]:
    """A stop with RUNS live runs, LONG_TOOLS of them in a tool that takes long, and READERS readers."""
    async with _silent_server() as slow, start(scratch, "drain", tools(slow), drain_s=drain_s, slow=slow) as server:
        runs = [await server.begin(f"wait {number}", f"d{number}") for number in range(RUNS - LONG_TOOLS)]
        runs += [await server.begin(f"slow tool {number}", f"t{number}") for number in range(LONG_TOOLS)]
        crowd = Crowd()
        await crowd.open(server.url, [server.follow(run) for run in spread_over(runs, READERS)])
        for run in runs[-LONG_TOOLS:]:
            await server.in_tool(run)
        say(f"{len(runs)} runs, {LONG_TOOLS} of them in a tool, {READERS} readers; stopping")
        began = time.monotonic()
        closed_s = await _stop(server, crowd)
        exit_s = time.monotonic() - began
        faults = server.faults()
        say(f"readers closed after {closed_s:.1f} s, exit after {exit_s:.1f} s")
        if faults:
            raise Failed("its log has faults:\n" + "\n".join(faults))
    return [Figure("drain-exit", f"exit, with {drain_s:g} s for runs to end", "s", (exit_s,), EXIT_S_MAX)]


@asynccontextmanager
async def _silent_server() -> AsyncGenerator[str]:
    """The URL of a server that takes requests and never answers."""
    hold = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await hold.wait()
        finally:
            writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        hold.set()
        server.close()


# -- command line ----------------------------------------------------------------------------------------------------


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench readers", description="What readers cost that are idle, deaf, or there at the stop."
    )
    parser.add_argument("--n", type=int, default=10_000, help="idle readers (default 10000)")
    parser.add_argument("--watch", type=float, default=60.0, metavar="S", help="how long to watch them (default 60)")
    parser.add_argument("--deaf", type=int, default=500, metavar="N", help="readers that never read (default 500)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"runs beside them (default {ROUNDS})")
    parser.add_argument("--drain", type=float, default=25.0, metavar="S", help="time for runs to end (default 25)")
    parser.add_argument(
        "--only", default=",".join(SCENES), metavar="SCENES", help=f"of {', '.join(SCENES)}; with commas"
    )
    parser.add_argument("--scratch", type=Path, help="folder for databases; choose a disk, not memory")
    arguments = parser.parse_args(given)
    arguments.scenes = arguments.only.split(",")
    if unknown := set(arguments.scenes) - set(SCENES):
        parser.error(f"--only knows {', '.join(SCENES)}, not {', '.join(sorted(unknown))}")
    return arguments


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def _scenes(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    found: list[Figure] = []
    if "idle" in arguments.scenes:
        found += await idle(scratch, arguments.n, watch_s=arguments.watch, say=_say)
    if "listeners" in arguments.scenes:
        found += await idle(scratch, arguments.n, watch_s=arguments.watch, say=_say, chats=True)
    if "deaf" in arguments.scenes:
        found += await deaf(scratch, arguments.deaf, rounds=arguments.rounds, say=_say)
    if "drain" in arguments.scenes:
        found += await drain(scratch, drain_s=arguments.drain, say=_say)
    return found


def main(given: Sequence[str]) -> int:
    """0 if every budget was held, 1 if not or if measuring failed."""
    arguments = _arguments(given)
    if arguments.scratch:
        arguments.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="dragoman-readers-", dir=arguments.scratch))
    try:
        allow_files(max(arguments.n, arguments.deaf + RESUMED_MAX, READERS))
        found = asyncio.run(_scenes(arguments, scratch))
    except Failed as failed:
        _say(f"bench: {failed}\nLogs are in {scratch}.")
        return 1
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch, ignore_errors=True)
    for figure in found:
        budget = f"budget {figure.budget:g}: {'over' if _is_over(figure) else 'held'}" if figure.budget else ""
        print(f"{figure.title:<48} {figure.median:>8.2f} {figure.unit:<4} {budget}")
    return int(any(map(_is_over, found)))


def _is_over(figure: Figure) -> bool:
    return bool(figure.budget) and figure.median > figure.budget
