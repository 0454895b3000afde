"""R01: kill the server at each fuse, once in a while twice, in the middle of turns with every kind of tool.

Three clients of two projects; one says a streamed turn and then a blocking one, a reader follows the first, and
somebody names its conversation; one has a tool of its own; one speaks Elastic's wire, sends its conversation whole, and
does in a second turn what the first one asked of it; one speaks Rowboat's, and is answered by a workflow.
"""

import asyncio
from pathlib import Path

from dragoman.runtime.fuses import POINTS
from tests.crash.clients import Client
from tests.crash.homes import Template
from tests.crash.kibana import KibanaClient
from tests.crash.rowboat import RowboatClient
from tests.crash.scene import Order, Result, Scene, Trial, scene
from tests.crash.scripts import ACTION, ASKED, HAND, LOCAL, NOBODY, Script
from tests.crash.servers import Server

PASSED = {
    "http.after_accept": 3,
    "http.after_body": 3,
    "auth.done": 3,
    "ratelimit.done": 3,
    "accept.before_commit": 3,
    "accept.after_commit": 3,
    "accept.after_2xx": 3,
    "append.before_commit": 16,
    "append.after_commit": 16,
    "finish.before_commit": 3,
    "finish.after_commit": 3,
    "claim.before_commit": 1,
    "claim.after_commit": 1,
    "ask.before_commit": 1,
    "ask.after_commit": 1,
    "model.before_connect": 5,
    "model.after_headers": 5,
    "model.delta_first": 4,
    "model.delta_mid": 10,
    "model.before_finish": 5,
    "model.after_finish": 5,
    "tool.intent_committed": 3,
    "tool.effect_done": 4,
    "tool.result_committed": 4,
    "approval.requested": 1,
    "approval.decided": 1,
    "clienttool.requested": 1,
    "clienttool.answered": 1,
    "clientaction.emitted": 1,
    "handover.committed": 6,
    "note.before_commit": 1,
    "note.after_commit": 1,
    "heartbeat.tick": 2,
    "reaper.mid": 1,
    "stream.frame": 10,
}
"""Times each point is passed at least in one trial: of these one is drawn."""
ELSEWHERE = {"migrate.step": "R04"}
IN_RECOVERY = ("claim.before_commit", "claim.after_commit", "reaper.mid")
"""Passed by a server that takes up what another left: the first life ends at FIRST."""
FIRST = "model.delta_mid=kill@3"
SECOND = (
    "append.after_commit",
    "append.before_commit",
    "finish.after_commit",
    "claim.after_commit",
    "model.after_finish",
)
SECOND_SHARE = 0.3
AFTERMATH_S = 0.3
"""After the last client is done a server may still be on its way to its fuse."""

TRIALS = {"P": 1, "N": 20}


def points() -> list[str]:
    """Those that a trial can reach."""
    return [point for point in POINTS if point not in ELSEWHERE]


def plan(order: Order) -> list[Trial]:
    tier, rng = order.tier, order.rng
    trials: list[Trial] = []
    for number in range(order.count or TRIALS[tier]):
        for point in points():
            nth = rng.randint(1, PASSED[point])
            actions = ["kill", "torn"] if point == "stream.frame" and number % 2 == 0 else ["kill"]
            for action in actions:
                lives = [f"{point}={action}@{nth}"]
                if point in IN_RECOVERY:
                    lives.insert(0, FIRST)
                if tier == "N" and rng.random() < SECOND_SHARE:
                    lives.append(f"{rng.choice(SECOND)}=kill@{rng.randint(1, 3)}")
                trials.append(Trial("R01", rng.getrandbits(32), options={"point": point, "lives": lives}))
    return trials


async def run(trial: Trial, folder: Path, template: Template) -> Result:
    point, lives = trial.options["point"], list(trial.options["lives"])
    lease_s = 1.0 if point == "heartbeat.tick" else 2.0
    async with scene(trial, folder, template, lease_s=lease_s) as stage:
        server = stage.servers[0]
        for number, fuses in enumerate([*lives, ""]):
            started = await stage.start(server, fuses)
            if not number:
                _begin(stage, server, point)
            if fuses and started and not await dies(stage, server):
                # Nothing may happen in the calm: a fuse that has not blown must not lie in wait.
                stage.result.blown = number > _place(lives, point)
                await server.stop()
                await stage.start(server)
                break
            if fuses:
                stage.died(server)
                await stage.check_database()
    return stage.result


def _begin(stage: Scene, server: Server, point: str) -> None:
    first = stage.client("a", "amber", ["talk-a"])
    second = stage.client("b", "birch", ["talk-b"])
    stage.begin(_talk(first, slow=point == "heartbeat.tick", cancelled=point.startswith("ask.")))
    stage.begin(_answer(stage, second, server))
    stage.begin(second.rename("talk-b"))
    third = stage.client("c", "birch", ["talk-c"])
    stage.begin(_hold(third))
    fourth = KibanaClient(stage.world, "d", "amber", ["talk-d"], violated=stage.violated)
    stage.enter(fourth, ["talk-d"])
    stage.begin(_act(fourth))
    fifth = RowboatClient(stage.world, "e", "birch", ["talk-e"], violated=stage.violated)
    stage.enter(fifth, ["talk-e"])
    stage.begin(_hand_over(fifth))


def _place(lives: list[str], point: str) -> int:
    """Which of the lives is to end at the point."""
    return next(number for number, life in enumerate(lives) if life.startswith(f"{point}="))


async def dies(stage: Scene, server: Server) -> bool:
    """Wait until the server is dead or has nothing left to do."""
    ended = asyncio.create_task(server.wait())
    done = asyncio.create_task(stage.finished())
    await asyncio.wait({ended, done}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        await asyncio.wait({ended}, timeout=AFTERMATH_S)
    ended.cancel()
    done.cancel()
    return not server.alive


async def _talk(client: Client, *, slow: bool, cancelled: bool) -> None:
    rng = client.rng
    steps = (("look",), ("count_once", "count_again"), (ASKED,))
    gap_ms = 40 if slow else 20 if cancelled else rng.choice((2, 5))
    first = Script(
        client.token(), client.canary, steps, words=30 if slow else 6, gap_ms=gap_ms, vary=rng.random() < 0.5
    )
    await client.append("talk-a", first, mode="streaming", keyed=rng.random() < 0.5, followed=True, cancelled=cancelled)
    second = Script(client.token(), client.canary, (("count_once",),), words=3, tool_ms=rng.choice((0, 20)))
    await client.append("talk-a", second, keyed=rng.random() < 0.7, followed=True)


async def _hold(client: Client) -> None:
    script = Script(client.token(), client.canary, (("count_once", LOCAL),), words=2)
    await client.append("talk-c", script, mode="held")


async def _act(client: KibanaClient) -> None:
    """Elastic's wire: a call that ends the turn, its result in another one, and a question behind it."""
    first = Script(client.token(), client.canary, ((ACTION,), ("count_once",)), words=6, gap_ms=3)
    await client.append("talk-d", first)
    await client.append("talk-d", Script(client.token(), client.canary, (("look",),), words=3))


async def _hand_over(client: RowboatClient) -> None:
    """Rowboat's wire: an internal agent that acts, a pipeline, a hand-over that is refused, and one for good; then a
    turn in the same conversation."""
    errands = (("count_once", f"{HAND}Scout"), ("look", "count_once"), (), (f"{HAND}Line",), (), ("count_again",), ())
    steps = (*errands, (f"{HAND}{NOBODY}",), (f"{HAND}Clerk",))
    first = Script(client.token(), client.canary, steps, words=4, gap_ms=2)
    await client.append("talk-e", first, mode=client.rng.choice(("rowboat", "rowboat-stream")), followed=True)
    await client.append("talk-e", Script(client.token(), client.canary, ((f"{HAND}Scout",), ()), words=3))


async def _answer(stage: Scene, client: Client, server: Server) -> None:
    script = Script(client.token(), client.canary, (("count_again",), ("look",)), words=4, gap_ms=3)
    await client.append("talk-b", script, mode="streaming", followed=True)
    if run := next((record.run for record in stage.history.records if record.run and record.who == "a"), ""):
        await client.peek(server, run)
