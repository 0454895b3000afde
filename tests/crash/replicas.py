"""Two servers over one PostgreSQL database. R46: one of them freezes for longer than its lease and wakes up a zombie.
owner: one is killed in the middle of its turns, while readers follow them at the other. R48: one after the other is
stopped in order and started again, under load.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.crash.clients import CONNECTION_ERRORS
from tests.crash.homes import PROJECTS, Template
from tests.crash.random_kills import CANCELLED, FOLLOWED, PAUSE_S
from tests.crash.scene import Order, Result, Scene, Trial, scene, shares
from tests.crash.scripts import Script, draw
from tests.crash.servers import Server

FREEZES = {"P": 4, "N": 200}
FREEZES_AT_ONCE = 5
OWNERS = {"P": 2, "N": 50}
RESTARTS = {"P": 4, "N": 40}
RESTARTS_AT_ONCE = 4
LEASE_S = 1.5
TURNS = 6
ACKNOWLEDGED_S = 10.0
POLL_S = 0.05
ZOMBIE_S = 1.0
"""Besides a third of the lease: until a zombie has noticed that none of its runs is its own any more."""
RESUME_S = 3.0
CLIENTS = 12
WAKES = ("after the end", "in the middle", "near the lease's end")
"""When a frozen server wakes up: with its runs ended by the other, or at work there, or nobody knows."""


def plan_zombies(order: Order) -> list[Trial]:
    return shares(order, "R46", "freezes", FREEZES[order.tier], FREEZES_AT_ONCE)


def plan_owners(order: Order) -> list[Trial]:
    return [Trial("owner", order.rng.getrandbits(32)) for _ in range(order.count or OWNERS[order.tier])]


def plan_rolling(order: Order) -> list[Trial]:
    return shares(order, "R48", "restarts", RESTARTS[order.tier], RESTARTS_AT_ONCE)


# -- freezing and killing the owner ----------------------------------------------------------------------------------


async def _turns(stage: Scene, owner: Server, other: Server, number: int) -> list[str]:
    """Turns at work at `owner`, each with a reader at `other`; their runs, once all are acknowledged."""
    begun = len(stage.history.records)
    for at in range(TURNS):
        name, project = f"n{number}c{at}", PROJECTS[at % 2]
        client = stage.client(name, project, [f"own-{at}"], server=owner)
        steps = ((), (("count_once",),), (("look",), ("count_again", "count_once")))[at % 3]
        script = Script(
            client.token(),
            client.canary,
            steps,
            words=stage.rng.randint(15, 30),
            gap_ms=stage.rng.randint(20, 40),
            tool_ms=stage.rng.choice((0, 200)),
            vary=at % 2 == 0,
        )
        stage.begin(client.append(f"own-{at}", script, mode="streaming"))
    async with asyncio.timeout(ACKNOWLEDGED_S):
        while len(records := [each for each in stage.history.records[begun:] if (each.op, each.kind) == _OK]) < TURNS:
            await asyncio.sleep(POLL_S)
    for at, record in enumerate(records):
        project = next(each.project for each in stage.history.records if each.id == record.id)
        reader = stage.client(f"n{number}r{at}", project, [], server=other)
        stage.begin(reader.follow(record.run))
    return [record.run for record in records]


_OK = ("append", "ok")


async def run_zombies(trial: Trial, folder: Path, template: Template) -> Result:
    async with scene(trial, folder, template, replicas=2, lease_s=LEASE_S) as stage:
        await asyncio.gather(*map(stage.start, stage.servers))
        stage.result.measured["zombie"] = []
        for number in range(trial.options["freezes"]):
            owner, other = stage.servers[number % 2], stage.servers[1 - number % 2]
            await _turns(stage, owner, other, number)
            await asyncio.sleep(stage.rng.uniform(0.0, 0.8))
            stage.freeze(owner)
            wakes = stage.rng.choice(WAKES)
            if wakes == "near the lease's end":
                await asyncio.sleep(LEASE_S * stage.rng.uniform(0.6, 1.4))
            else:
                await _driving(stage, other)
            if wakes == "after the end":
                await _idle(stage, other)
            stage.thaw(owner)
            began = time.monotonic()
            await _idle(stage, owner)
            took_s = time.monotonic() - began
            await _idle(stage, other)
            if wakes == "near the lease's end":
                continue  # its runs may be its own still
            stage.result.measured["zombie"].append(took_s)
            if took_s > LEASE_S / 3 + ZOMBIE_S:
                stage.violated("G5", f"a zombie drove runs for {took_s:.2f} s after it woke up")
    return stage.result


async def _driving(stage: Scene, server: Server) -> None:
    """Until a server has taken runs over."""
    await _live_runs(stage, server, lambda count: count > 0)


async def _idle(stage: Scene, server: Server) -> None:
    """Until a server drives no run."""
    await _live_runs(stage, server, lambda count: count == 0)


async def _live_runs(stage: Scene, server: Server, enough: Callable[[int], bool]) -> None:
    headers = {"Authorization": f"Bearer {stage.world.credentials[PROJECTS[0]]}"}
    async with asyncio.timeout(ACKNOWLEDGED_S + LEASE_S):
        while True:
            try:
                async with stage.world.session.get(f"{server.url}/api/server", headers=headers) as answer:
                    if answer.status == 200 and enough((await answer.json())["live_runs"]):
                        return
            except CONNECTION_ERRORS:
                pass
            await asyncio.sleep(POLL_S)


async def run_owner(trial: Trial, folder: Path, template: Template) -> Result:
    async with scene(trial, folder, template, replicas=2) as stage:
        await asyncio.gather(*map(stage.start, stage.servers))
        owner, other = stage.servers
        runs = await _turns(stage, owner, other, 0)
        await asyncio.sleep(stage.rng.uniform(0.0, 0.8))
        killed_at = time.time()
        await stage.kill(owner)
        await _ended(stage, other, runs, within_s=stage.lease_s + 5.0)
        stage.result.measured["ended"] = [time.time() - killed_at]
    return stage.result


async def _ended(stage: Scene, server: Server, runs: list[str], *, within_s: float) -> None:
    """Wait until readers at the other server have heard the end of each run."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                heard = "".join(
                    record.text for record in stage.history.records if (record.op, record.kind) == ("follow", "heard")
                )
                if heard.count('"kind":"run_completed"') >= len(runs):
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        stage.violated("G8", f"readers did not hear the end of all runs within {within_s:g} s of the owner's death")


# -- restarting in order ---------------------------------------------------------------------------------------------


async def run_rolling(trial: Trial, folder: Path, template: Template) -> Result:
    async with scene(trial, folder, template, replicas=2) as stage:
        await asyncio.gather(*map(stage.start, stage.servers))
        for number in range(CLIENTS):
            project = PROJECTS[number % 2]
            client = stage.client(f"c{number}", project, [f"own-{number}", f"shared-{number // 4}"])
            stage.begin(client.live(partial(draw), followed=FOLLOWED, cancelled=CANCELLED, pause_s=PAUSE_S))
        stage.result.measured["drain"] = []
        for number in range(trial.options["restarts"]):
            server = stage.servers[number % 2]
            await asyncio.sleep(stage.rng.uniform(0.3, 1.0))
            began = time.monotonic()
            stage.history.add("note", "stop", who=server.url)
            code = await server.stop()
            stage.result.kills += 1
            stage.result.measured["drain"].append(time.monotonic() - began)
            if code:
                stage.violated("G12", f"exit code {code} after SIGTERM: {server.last_words()}")
            await stage.start(server)
    _only_refused(stage)
    return stage.result


def _only_refused(stage: Scene) -> None:
    """Clients that are sent to servers that take requests saw nothing of it but 503 with its advice to come back."""
    records = stage.history.records
    begun = {record.id: record for record in records if record.kind == "invoke"}
    for record in records:
        if record.op != "append" or record.kind not in ("info", "note") or record.status == 503:
            continue
        if record.status == 502 and any(each.op == "cancel" and each.run == record.run for each in records):
            continue
        if record.status == 409 and begun[record.id].key:
            continue
        stage.violated("R48", f"turn {begun[record.id].token} met {record.status or record.text!r}")
    gaps: list[float] = []
    last: dict[str, float] = {}
    for record in records:
        reader = begun[record.id].reader if record.op == "follow" and record.id in begun else ""
        if reader and record.kind == "ok" and reader in last:
            gaps.append(record.at - last[reader])
        if reader and record.kind in ("heard", "info"):
            last[reader] = record.at
    stage.result.measured["resume"] = gaps
    if gaps and max(gaps) > RESUME_S:
        stage.violated("R48", f"a reader was away for {max(gaps):.1f} s")
