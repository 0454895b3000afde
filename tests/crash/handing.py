"""waits: runs that wait for somebody, at one of two servers; what they wait for is brought to the other.

Meanwhile the one that drives them is killed, or stopped in order and hands them over, or the other dies in the midst of
what is brought to it. What was acknowledged counts, once (I6, I13), and nobody is asked twice.
"""

import asyncio
from pathlib import Path

from tests.crash.homes import PROJECTS, Template
from tests.crash.scene import Order, Result, Scene, Trial, scene
from tests.crash.scripts import ASKED, LOCAL, Script
from tests.crash.servers import Server

TRIALS = {"P": 2, "N": 40}
ROUNDS = 3
TURNS = 6
LEASE_S = 1.5
FAULT_S = 0.4
"""So long after the first request a fault comes at the latest: before, while or after something is brought."""
POLL_S = 0.005
FAULTS = ("owner killed", "owner stopped", "other dies")
DYING = (
    "ask.before_commit",
    "ask.after_commit",
    "approval.decided",
    "clienttool.answered",
    "http.after_body",
    "accept.after_2xx",
)


def plan(order: Order) -> list[Trial]:
    """In turn the three faults, so that each is met in each tier."""
    return [
        Trial("waits", order.rng.getrandbits(32), options={"first": number % len(FAULTS)})
        for number in range(order.count or TRIALS[order.tier])
    ]


async def run(trial: Trial, folder: Path, template: Template) -> Result:
    async with scene(trial, folder, template, replicas=2, lease_s=LEASE_S) as stage:
        await asyncio.gather(*map(stage.start, stage.servers))
        for number in range(ROUNDS):
            owner, other = stage.servers[number % 2], stage.servers[1 - number % 2]
            fault = FAULTS[(trial.options["first"] + number) % len(FAULTS)]
            if fault == "other dies":
                await other.stop()
                await stage.start(other, f"{stage.rng.choice(DYING)}=kill@{stage.rng.randint(1, 3)}")
            await _say(stage, owner, other, number)
            await _requested(stage, other, number)
            await asyncio.sleep(stage.rng.uniform(0.0, FAULT_S))
            await _befall(stage, fault, owner, other)
            await stage.finished()
            await _all_up(stage)
    return stage.result


async def _say(stage: Scene, owner: Server, other: Server, number: int) -> None:
    for at in range(TURNS):
        client = stage.client(f"n{number}c{at}", PROJECTS[at % 2], [f"own-{at}"], server=owner)
        client.brings_to = other
        tool = (ASKED, LOCAL)[at // 2 % 2]
        script = Script(client.token(), client.canary, ((tool,), ("count_again",)), words=3, gap_ms=at * 5)
        stage.begin(client.append(f"own-{at}", script, mode="held" if tool == LOCAL else "streaming", followed=True))


async def _requested(stage: Scene, other: Server, number: int) -> None:
    """Until something is about to be brought, in this round, or who looked whether it may be has killed the other."""
    while other.alive and not any(
        record.op in ("approve", "answer") and record.who.startswith(f"n{number}c") for record in stage.history.records
    ):
        await asyncio.sleep(POLL_S)


async def _befall(stage: Scene, fault: str, owner: Server, other: Server) -> None:
    if fault == "owner killed":
        await stage.kill(owner)
    elif fault == "owner stopped":
        stage.history.add("note", "stop", who=owner.url)
        code = await owner.stop()
        stage.result.kills += 1
        if code:
            stage.violated("G12", f"exit code {code} after SIGTERM: {owner.last_words()}")
    else:
        done = asyncio.create_task(stage.finished())
        dies = asyncio.create_task(other.wait())
        await asyncio.wait({done, dies}, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        dies.cancel()
        if not other.alive:
            stage.died(other)
    for server in (owner, other):
        if not server.alive:
            await stage.start(server)


async def _all_up(stage: Scene) -> None:
    """A fuse that has not blown must not lie in wait."""
    for server in stage.servers:
        if server.fuses:
            await server.stop()
            await stage.start(server)
