"""All campaigns: what each does, how many trials it has in each tier, and how one trial is run."""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from msgspec import Struct

from tests.crash import databases, fused, handing, listening, random_kills, relays, replicas, schemas
from tests.crash.homes import Template
from tests.crash.scene import Order, Result, Trial

TIERS = ("P", "N")
TRIAL_S = 600.0
"""A trial that takes longer has hung."""
BOTH = ("sqlite", "postgres")
SHARED = ("postgres",)


class Campaign(Struct, frozen=True):
    name: str
    title: str
    plan: Callable[[Order], list[Trial]]
    run: Callable[[Trial, Path, Template], Awaitable[Result]]
    engines: tuple[str, ...] = BOTH
    lacks: Callable[[], str] = str
    """What this machine has not, without which it cannot be run; "" = nothing."""


CAMPAIGNS = {
    campaign.name: campaign
    for campaign in (
        Campaign("R01", "kill at each fuse", fused.plan, fused.run),
        Campaign("R02", "random kills under 16 clients", random_kills.plan, random_kills.run),
        Campaign("R04", "kill in each step of the schema", schemas.plan, schemas.run),
        Campaign("R07", "ten starts, each killed at once", random_kills.plan_loops, random_kills.run_loop),
        Campaign("R10", "readers of chats and tasks, cut and killed", listening.plan, listening.run),
        Campaign("R43", "the database goes away", databases.plan, databases.run, SHARED, databases.lacks),
        Campaign("R46", "a frozen replica wakes up", replicas.plan_zombies, replicas.run_zombies, SHARED),
        Campaign("R48", "rolling restart under load", replicas.plan_rolling, replicas.run_rolling, SHARED),
        Campaign("cast", "kill at each commit of a workflow's turn", relays.plan, relays.run),
        Campaign("waits", "what runs wait for comes to another replica", handing.plan, handing.run, SHARED),
        Campaign("owner", "kill the replica that owns the runs", replicas.plan_owners, replicas.run_owner, SHARED),
    )
}


def run_trial(trial: Trial, folder: Path, template: Template) -> Result:
    """One trial in this process, from its set-up to its verdict. Raises nothing: what goes wrong is in the result."""

    async def within() -> Result:
        async with asyncio.timeout(TRIAL_S):
            return await CAMPAIGNS[trial.campaign].run(trial, folder, template)

    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = uvloop.run(within())
    except KeyboardInterrupt:
        os._exit(130)  # everything was cleared away; the pool would only begin the next trial
    except (Exception, asyncio.CancelledError):
        result = Result(trial, error=traceback.format_exc())
    result.folder = str(folder)
    return result
