"""A workflow of the configuration may be another one after a restart, also in the midst of a turn: the turn then goes
on if it can, and fails with a reason if not. It neither hangs nor takes the server with it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import StartTurn
from dragoman.server.config import load_config
from tests.crash.test_fuses import Fused, stores
from tests.parts import ADMIN, LedgerTools, house_of
from tests.runtime.workflows import InTurn, calls, hand, say

__all__ = ["stores"]

CONVERSATION = ConversationId("changes")
ANSWER = "It is done."
SAID = (hand("Scout"), calls("look"), say("It is there."), hand("Line", id="t2"), say("First."), say("Second."))
CONFIG = """
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
[workflows.relay]
start = "Front"
[workflows.relay.agents.Front]
instructions = "Ask [@agent:Scout]."
{scout}
[workflows.relay.agents.One]
instructions = "The first."
{line}
"""
SCOUT = """
[workflows.relay.agents.Scout]
instructions = "Look."
visibility = "internal"
control = "relinquish_to_parent"
tools = ["*"]
"""
LINE = """
[workflows.relay.agents.Two]
instructions = "The second."
[workflows.relay.pipelines.Line]
steps = ["One", "Two"]
"""
SHORT = """
[workflows.relay.pipelines.Line]
steps = ["One"]
"""
OTHER = """
[agents.relay]
instructions = "You are alone now."
"""


def config_of(home: Path, text: str) -> Any:
    (home / "dragoman.toml").write_text(text)
    return load_config(home, file=home / "dragoman.toml")


async def crash(opened: Any, home: Path, nth: int) -> bool:
    """A life that ends after its nth write; whether it was cut short."""
    config = config_of(home, CONFIG.format(scout=SCOUT, line=LINE))
    turn = StartTurn(CONVERSATION, (said("user", "do it"),), agent="relay", deltas=False)
    async with opened() as store:
        fused = Fused(store, nth, after=True)

        async def live() -> None:
            async with house_of(home, model(), store=fused, access=store, tools=tools(), config=config) as house:
                await house.desk.outcome(await house.desk.answer(ADMIN, turn))

        living = asyncio.create_task(live())
        blown = asyncio.create_task(fused.blown.wait())
        await asyncio.wait({living, blown}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        for task in (living, blown):
            task.cancel()
        await asyncio.gather(living, blown, return_exceptions=True)
        return fused.blown.is_set()


def model() -> InTurn:
    return InTurn(*SAID, say(ANSWER))


def tools() -> LedgerTools:
    return LedgerTools({"look": "seen"})


@pytest.mark.parametrize(
    ("after", "fails"),
    [
        (CONFIG.format(scout="", line=LINE), True),
        (CONFIG.format(scout=SCOUT, line=SHORT), True),
        (CONFIG.format(scout="", line=""), True),
        (CONFIG.format(scout=SCOUT, line=LINE), False),
        (OTHER, False),
    ],
    ids=["an agent is gone", "a step is gone", "much is gone", "nothing changed", "it is one agent now"],
)
async def test_a_turn_goes_on_or_fails_when_its_workflow_has_changed(
    stores: Any, tmp_path: Path, after: str, fails: bool
) -> None:
    ends: list[ev.Event] = []
    for nth in range(2, 40):
        if not await crash(stores, tmp_path, nth):
            break
        config = config_of(tmp_path, after)
        async with (
            stores() as store,
            house_of(tmp_path, model(), store=store, access=store, tools=tools(), config=config) as house,
        ):
            await asyncio.wait_for(house.runs[0].settled(), 5)
            info = await store.get(ADMIN.project, CONVERSATION)
            entries = await store.read(info.tape, after=0)
            ends.append(entries[-1].event)
            assert info.live_run is None
            await store.delete(ADMIN.project, CONVERSATION)
    assert len(ends) > 5, "the turn has fewer writes than it must have"
    assert all(isinstance(end, ev.RunCompleted) or _says_why(end) for end in ends), ends
    assert any(map(_says_why, ends)) == fails, ends


def _says_why(end: ev.Event) -> bool:
    return isinstance(end, ev.RunFailed) and end.code == "workflow_gone" and end.detail.endswith("Ask again.")
