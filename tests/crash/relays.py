"""cast: kill the server at each commit of a turn that a workflow answers, while another edition of it is published.

With PostgreSQL there are two servers in every other trial: the other one carries the turn on, and the one that died
comes back once it has.
"""

import asyncio
from pathlib import Path

from dragoman.core.names import ProjectId
from tests.crash.fused import dies
from tests.crash.homes import Template, opened
from tests.crash.relay import take_in
from tests.crash.rowboat import RowboatClient
from tests.crash.scene import Order, Result, Scene, Trial, scene
from tests.crash.scripts import HAND, NOBODY, Script
from tests.crash.servers import Server

WHEN = ("before_commit", "after_commit")
COMMITS = 16
"""Of the first turn at least, its two ends included."""
EVERY = {"P": 4, "N": 1}
"""In tier P each nth commit, another one with each seed."""
MODES = ("rowboat", "rowboat-stream")
LEASE_S = 1.0


def plan(order: Order) -> list[Trial]:
    every, rng = EVERY[order.tier], order.rng
    trials: list[Trial] = []
    for number in range(order.count or 1):
        for when in WHEN:
            for commit in range(1 + rng.randrange(every), COMMITS + 1, every):
                trials.append(
                    Trial(
                        "cast",
                        rng.getrandbits(32),
                        options={
                            "fuses": f"*.{when}=kill@{commit}",
                            "mode": MODES[(number + commit) % 2],
                            "replicas": 1 + (order.engine == "postgres" and (commit // every + number) % 2),
                        },
                    )
                )
    return trials


async def run(trial: Trial, folder: Path, template: Template) -> Result:
    replicas = trial.options["replicas"]
    async with scene(trial, folder, template, replicas=replicas, lease_s=LEASE_S) as stage:
        owner = stage.servers[0]
        for other in stage.servers[1:]:
            await stage.start(other)
        await stage.start(owner, trial.options["fuses"])
        client = RowboatClient(stage.world, "a", "amber", ["talk"], violated=stage.violated, server=owner)
        stage.enter(client, ["talk"])
        stage.begin(_talk(client, trial.options["mode"]))
        stage.begin(_publish(stage, owner))
        stage.result.blown = await dies(stage, owner)
        if stage.result.blown:
            stage.died(owner)
            await stage.check_database()
        else:
            await owner.stop()
        if replicas == 1:
            await stage.start(owner)
        await stage.finished()
    return stage.result


async def _talk(client: RowboatClient, mode: str) -> None:
    errands = (
        (f"{HAND}Scout",),
        ("look", "count_once"),
        (),
        (f"{HAND}Line",),
        ("count_again",),
        (),
        ("count_once",),
        (),
    )
    steps = (*errands, (f"{HAND}{NOBODY}",), (f"{HAND}Clerk",))
    await client.append("talk", Script(client.token(), client.canary, steps, words=3), mode=mode)
    second = Script(client.token(), client.canary, ((f"{HAND}Scout",), ("count_once",), ()), words=2)
    await client.append("talk", second, mode=mode, followed=True)


async def _publish(stage: Scene, owner: Server) -> None:
    """As soon as the turn is at work, or its server is dead."""
    while owner.alive and not any(bill.reply > 1 for bill in stage.outside.bills.lines):
        await asyncio.sleep(0.005)
    async with opened(owner.home.path, writer=False) as house:
        for project in stage.world.credentials:
            await take_in(house, ProjectId(project), 2)
