"""R02: kill the server again and again at random moments, while sixteen clients of two projects go on. R07: ten starts
in a row, each killed before it has come far, with turns that were under way at the first."""

import asyncio
from functools import partial
from pathlib import Path

from tests.crash.homes import PROJECTS, Template, opened
from tests.crash.kibana import KibanaClient, draw_acting
from tests.crash.relay import Publisher, draw_relay
from tests.crash.rowboat import RowboatClient
from tests.crash.scene import Order, Result, Scene, Trial, scene, shares
from tests.crash.scripts import Script, draw
from tests.crash.servers import Server

CLIENTS = 16
KILL_S = (0.05, 3.0)
KILLS = {"P": 20, "N": 1000}
KILLS_AT_ONCE = 20
"""Of one trial: between calms."""
FOLLOWED, CANCELLED = 0.3, 0.05
PAUSE_S = 0.3
ELASTIC_EVERY = ROWBOAT_EVERY = 4
PUBLISH_S = 0.3
"""Between two editions of the workflow that are published in the midst of it."""

LOOPS = {"P": 2, "N": 20}
STARTS = 10
START_S = (0.0, 0.5)
TURNS = 4


def plan(order: Order) -> list[Trial]:
    at_once = 10 if order.tier == "P" else KILLS_AT_ONCE
    return shares(order, "R02", "kills", KILLS[order.tier], at_once)


async def run(trial: Trial, folder: Path, template: Template) -> Result:
    async with scene(trial, folder, template) as stage:
        server = stage.servers[0]
        populate(stage)
        stage.begin(_publish(stage))
        for _ in range(trial.options["kills"]):
            await _live_for(stage, server, stage.rng.uniform(*KILL_S))
    return stage.result


async def _publish(stage: Scene) -> None:
    """Beside the server, as `dragoman workflows import --publish` does it, whether or not one is alive."""
    publisher = Publisher(PROJECTS[0], stage.violated)
    async with opened(stage.servers[0].home.path, writer=False) as house:
        await publisher.publish(house, stage.world.over, every_s=PUBLISH_S)
        await publisher.look(house)
    stage.result.measured["editions"] = [float(len(publisher.taken))]


async def _live_for(stage: Scene, server: Server, seconds: float) -> None:
    """One life of a server, counted from the start of its process, whether or not it comes to listen in that time."""
    await stage.launch(server)
    starting = asyncio.create_task(stage.listens(server))
    await asyncio.sleep(seconds)
    await stage.kill(server)
    await asyncio.wait({starting})
    await stage.check_database()


def populate(stage: Scene, clients: int = CLIENTS, *, slow: bool = False) -> None:
    """Clients that go on until the storm is over: each with a conversation of its own and one that it shares; every
    fourth speaks Elastic's wire, in two conversations of its own, and every fourth Rowboat's."""
    for number in range(clients):
        project = PROJECTS[number % len(PROJECTS)]
        if number % ELASTIC_EVERY == ELASTIC_EVERY - 1:
            conversations = [f"elastic-{number}-{each}" for each in range(2)]
            kibana = KibanaClient(stage.world, f"c{number}", project, conversations, violated=stage.violated)
            stage.enter(kibana, conversations)
            stage.begin(kibana.live(draw_acting, followed=FOLLOWED, cancelled=CANCELLED, pause_s=PAUSE_S))
            continue
        if number % ROWBOAT_EVERY == ROWBOAT_EVERY - 2:
            conversations = [f"rowboat-{number}-{each}" for each in range(2)]
            rowboat = RowboatClient(stage.world, f"c{number}", project, conversations, violated=stage.violated)
            stage.enter(rowboat, conversations)
            stage.begin(rowboat.live(draw_relay, followed=FOLLOWED, cancelled=CANCELLED, pause_s=PAUSE_S))
            continue
        client = stage.client(f"c{number}", project, [f"own-{number}", f"shared-{number // 4}"])
        scripts = partial(draw, slow=slow, faults=True)
        stage.begin(client.live(scripts, followed=FOLLOWED, cancelled=CANCELLED, pause_s=PAUSE_S))


# -- R07 -------------------------------------------------------------------------------------------------------------


def plan_loops(order: Order) -> list[Trial]:
    return [
        Trial("R07", order.rng.getrandbits(32), options={"silent": number % 2 == 0})
        for number in range(order.count or LOOPS[order.tier])
    ]


async def run_loop(trial: Trial, folder: Path, template: Template) -> Result:
    """`silent`: the model says nothing for longer than a start lives, so that none of the tries may count."""
    silent = trial.options["silent"]
    async with scene(trial, folder, template) as stage:
        server = stage.servers[0]
        await stage.start(server)
        for number in range(TURNS):
            client = stage.client(f"c{number}", PROJECTS[number % 2], [f"own-{number}"])
            script = Script(
                client.token(),
                client.canary,
                (("count_once",),) if number % 2 else (),
                words=5 if silent else 30,
                gap_ms=30,
                first_ms=1500 if silent else 0,
            )
            stage.begin(client.append(f"own-{number}", script, mode="streaming", followed=True))
        while sum(record.kind == "ok" for record in stage.history.records) < TURNS:
            await asyncio.sleep(0.01)
        await stage.kill(server)
        for _ in range(STARTS):
            await _live_for(stage, server, stage.rng.uniform(*START_S))
    return stage.result
