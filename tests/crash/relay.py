"""The workflow that answers the harness's clients of Rowboat's wire, and scripts for its turns.

    Front ──► Scout      internal: reports back
      ├─────► Line       a pipeline of One and Two
      └─────► Clerk      has the last word; the next turn begins with Front again

Everybody may call each tool, all of them webhooks. Each reply's text begins with its place in the script, so that the
model's server knows from what it is told, by whichever agent, which reply is asked for.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from dragoman.core.errors import DragomanError
from dragoman.core.names import ProjectId
from dragoman.core.versions import VersionLine
from dragoman.dialects.rowboat.workflow_json import compile_workflow
from dragoman.server.house import House
from tests.crash.scripts import HAND, NOBODY, TOOLS, Script

TOOL = {
    "type": "object",
    "properties": {"token": {"type": "string"}, "place": {"type": "string"}, "ms": {"type": "integer"}},
    "required": ["token", "place", "ms"],
}
REPEATS = {"look": "pure", "count_again": "idempotent", "count_once": "once"}
MENTIONS = " ".join(f"[@tool:{name}](#mention)" for name in TOOLS)
WEBHOOK = "connection:hooks"


def relay(edition: int = 1) -> dict[str, Any]:
    """Rowboat's JSON. Editions differ in their text alone, so that any of them can carry a turn on."""
    front = "[@agent:Scout](#mention) [@agent:Clerk](#mention) [@pipeline:Line](#mention)"
    return {
        "name": f"relay {edition}",
        "startAgent": "Front",
        "agents": [
            _agent("Front", edition, front),
            _agent("Scout", edition, outputVisibility="internal", controlType="relinquish_to_parent"),
            _agent("One", edition, type="pipeline"),
            _agent("Two", edition, type="pipeline"),
            _agent("Clerk", edition, controlType="relinquish_to_start"),
        ],
        "tools": [
            {"name": name, "description": name, "isWebhook": True, "parameters": TOOL, "repeat": repeat, "timeout": 20}
            for name, repeat in REPEATS.items()
        ],
        "prompts": [],
        "pipelines": [{"name": "Line", "description": "", "agents": ["One", "Two"]}],
    }


def _agent(name: str, edition: int, edges: str = "", **fields: Any) -> dict[str, Any]:
    instructions = f"You are {name} of the relay, edition {edition}. {MENTIONS} {edges}"
    return {
        "name": name,
        "type": "conversation",
        "description": name,
        "instructions": instructions,
        "outputVisibility": "user_facing",
        "controlType": "retain",
        **fields,
    }


async def take_in_relay(house: House, project: ProjectId) -> None:
    """As the project's published workflow, with the harness's webhook."""
    await house.settings.set_webhook(project, WEBHOOK)
    await take_in(house, project, 1)


async def take_in(house: House, project: ProjectId, edition: int) -> str:
    """Publish an edition; its version's id."""
    source = json.dumps(relay(edition))
    version = await house.workflows.add(project, compile_workflow(source.encode()), source=source, publish=True)
    return version.id


def draw_relay(rng: random.Random, token: str, canary: str) -> Script:
    """A script of 1 to 3 errands; now and then one is asked of somebody who is not there."""
    steps: list[tuple[str, ...]] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        match rng.choice(("tools", "scout", "scout", "line", "nobody")):
            case "tools":
                steps.append(_tools(rng))
            case "scout":
                also = _tools(rng)[:1] if rng.random() < 0.3 else ()
                steps += [(*also, f"{HAND}Scout"), *_errand(rng)]
            case "line":
                steps += [(f"{HAND}Line",), *_errand(rng), *_errand(rng)]
            case _:
                steps.append((f"{HAND}{NOBODY}",))
    if rng.random() < 0.5:
        steps.append((f"{HAND}Clerk",))
    return Script(
        token,
        canary,
        tuple(steps),
        words=rng.randint(2, 12),
        gap_ms=rng.choice((0, 0, 2, 10)),
        tool_ms=rng.choice((0, 0, 5, 40)),
        fault=rng.choice(("", "", "", "", "", "", "", "cut", "refuse")),
        vary=rng.random() < 0.3,
    )


def _errand(rng: random.Random) -> list[tuple[str, ...]]:
    """What an internal agent does: perhaps it acts, then it reports."""
    return [*([_tools(rng)] if rng.random() < 0.6 else []), ()]


def _tools(rng: random.Random) -> tuple[str, ...]:
    return tuple(rng.choice(TOOLS) for _ in range(rng.choice((1, 1, 2))))


class Publisher:
    """Takes in one edition after the other beside the servers, and publishes it, until it is told to stop. Then all
    must be there."""

    def __init__(self, project: str, violated: Callable[[str, str], None]) -> None:
        self.project = ProjectId(project)
        self.taken: list[str] = []
        """Ids, in order, of what was acknowledged."""
        self.unknown = 0
        """How often nobody knows what became of one."""
        self._violated = violated

    async def publish(self, house: House, over: asyncio.Event, *, every_s: float) -> None:
        edition = 1
        while not over.is_set():
            edition += 1
            try:
                self.taken.append(await take_in(house, self.project, edition))
            except DragomanError:
                self.unknown += 1
            await asyncio.sleep(every_s)

    async def look(self, house: House) -> None:
        """W2: each edition that was acknowledged is there whole, under a number of its own, and the last one counts."""
        lines = await house.workflows.versions(self.project)
        self._complain(lines)
        for line in lines:
            found = await house.workflows.version(self.project, line.id)
            if found is None or not found.source or found.workflow.start != "Front":
                self._violated("W2", f"version {line.number} of {self.project} is not whole")
        live = await house.workflows.live(self.project)
        if self.taken and not self.unknown and live != self.taken[-1]:
            self._violated("W2", f"{live} of {self.project} is published, {self.taken[-1]} was published last")
        if await house.workflows.version(self.project, live) is None:
            self._violated("W2", f"{live} of {self.project} is published and is not there")

    def _complain(self, lines: tuple[VersionLine, ...]) -> None:
        numbers = [line.number for line in lines]
        if numbers != list(range(1, len(lines) + 1)):
            self._violated("W2", f"versions of {self.project} are numbered {numbers}")
        ids = [line.id for line in lines]
        for id in self.taken:
            if ids.count(id) != 1:
                self._violated("W2", f"version {id} of {self.project} was taken in and stands {ids.count(id)} times")
