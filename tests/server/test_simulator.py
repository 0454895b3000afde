"""Simulations with a real house: which workflow is meant, and that stopping one stops its turn."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.errors import BackendFailed, BadRequest, NotFound, TooLarge
from dragoman.core.names import ProjectId
from dragoman.core.operations import ReadRun
from dragoman.core.simulations import Checks, Scenario, Simulation, Status, Suite, Verdict
from dragoman.server import simulator
from dragoman.server.house import House
from dragoman.server.simulator import simulator_for, workflow_of
from dragoman.stores.memory import MemoryStore
from tests.access_memory import MemoryAccess
from tests.parts import ADMIN, Gate, ScriptedReplies, call_reply, house_of, text_reply
from tests.support import FixedClock

P = ADMIN.project
HANDS_OVER = call_reply(("transfer_to_agent", '{"assistant": "Billing"}'))


def desk(**changes: Any) -> dict[str, Any]:
    agent = {"type": "conversation", "disabled": False, "model": "", "controlType": "retain"}
    return {
        "agents": [
            {
                **agent,
                "name": "Front Desk",
                "description": "Greets.",
                "instructions": "See [@agent:Billing](#mention).",
            },
            {**agent, "name": "Billing", "description": "Orders.", "instructions": "Be brief."},
        ],
        "prompts": [],
        "tools": [],
        "startAgent": "Front Desk",
        **changes,
    }


@pytest.fixture
def model() -> ScriptedReplies:
    return ScriptedReplies(HANDS_OVER, text_reply("It is late."))


@pytest.fixture
async def house(tmp_path: Path, model: ScriptedReplies) -> AsyncIterator[House]:
    store = MemoryStore(FixedClock())
    async with house_of(tmp_path / "home", model, store=store, access=MemoryAccess()) as house:
        yield house


def written(folder: Path, document: dict[str, Any], name: str = "desk.json") -> str:
    (folder / name).write_text(json.dumps(document))
    return name


async def test_a_file_becomes_a_version_once_and_nothing_is_published(house: House, tmp_path: Path):
    name = written(tmp_path, desk())
    version = await workflow_of(house, P, name, tmp_path)
    assert await workflow_of(house, P, str(tmp_path / name), Path("/nowhere")) == version
    (line,) = await house.workflows.versions(P)
    assert (line.id, line.name, line.published) == (version, "desk", False)

    written(tmp_path, desk(startAgent="Billing"))
    assert await workflow_of(house, P, name, tmp_path) != version
    assert await workflow_of(house, ProjectId("other"), name, tmp_path) != version


async def test_toml_is_taken_as_well(house: House, tmp_path: Path):
    (tmp_path / "one.toml").write_text('[agents.desk]\ninstructions = "Be brief."\n')
    version = await workflow_of(house, P, "one.toml", tmp_path)
    workflow = await house.workflows.workflow(P, version)
    assert workflow is not None and workflow.start == "desk"


async def test_the_published_one_is_meant_where_none_is_named(house: House, tmp_path: Path):
    with pytest.raises(NotFound) as none:
        await workflow_of(house, P, "", tmp_path)
    assert none.value.what == "published_workflow"
    version = await workflow_of(house, P, written(tmp_path, desk()), tmp_path)
    await house.workflows.publish(P, version)
    assert await workflow_of(house, P, "", tmp_path) == version
    assert await workflow_of(house, P, version, tmp_path) == version


@pytest.mark.parametrize("wanted", ["f" * 24, "desk", "../../etc/passwd", "gone.json"])
async def test_what_is_no_workflow_is_not_found(house: House, tmp_path: Path, wanted: str):
    (tmp_path / "desk").write_text(json.dumps(desk()))
    with pytest.raises(NotFound) as error:
        await workflow_of(house, P, wanted, tmp_path)
    assert error.value.what == "workflow"


async def test_a_file_that_cannot_answer_is_refused_and_not_kept(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(BadRequest):
        await workflow_of(house, P, written(tmp_path, desk(agents=[])), tmp_path)
    name = written(tmp_path, desk())
    size = (tmp_path / name).stat().st_size
    monkeypatch.setattr(simulator, "SOURCE_BYTES_MAX", size - 1)
    with pytest.raises(TooLarge):
        await workflow_of(house, P, name, tmp_path)
    assert await house.workflows.versions(P) == ()
    monkeypatch.setattr(simulator, "SOURCE_BYTES_MAX", size)
    await workflow_of(house, P, name, tmp_path)


def suite_of(*checks: Checks, says: tuple[str, ...] = ("Where is it?", "And now?")) -> Suite:
    return Suite(
        tuple(
            Simulation(f"s{number}", Scenario("", ""), checks=each, says=says, turns=len(says))
            for number, each in enumerate(checks)
        )
    )


async def test_turns_are_taken_by_the_real_agents_and_leave_no_conversation(
    house: House, tmp_path: Path, model: ScriptedReplies
):
    version = await workflow_of(house, P, written(tmp_path, desk()), tmp_path)
    billing = Checks(contains=("late",), last_agent="Billing", replies_max=1)
    run = await simulator_for(house, ADMIN).run(
        P,
        suite_of(billing, says=("Where is it?",)),
        name="suite",
        workflow=version,
        stop=asyncio.Event(),
        told=lambda result: None,
    )
    assert (run.status, [result.details for result in run.results]) == (Status.COMPLETED, ["All checks hold."])
    assert [line.role for line in run.results[0].transcript] == ["user", "handed", "agent"]
    assert await house.store.count(P) == 0
    assert model.prompts[0].messages[-1].text == "Where is it?"


async def test_a_turn_begins_with_who_spoke_last_and_reads_what_was_said(
    tmp_path: Path,
):
    model = ScriptedReplies(text_reply("Here."))
    async with house_of(tmp_path / "home", model, store=MemoryStore(FixedClock()), access=MemoryAccess()) as house:
        version = await workflow_of(house, P, written(tmp_path, desk()), tmp_path)
        run = await simulator_for(house, ADMIN).run(
            P,
            suite_of(Checks(last_agent="Front Desk")),
            name="suite",
            workflow=version,
            stop=asyncio.Event(),
            told=lambda result: None,
        )
    assert run.aggregate.passed == 1
    assert [message.text for message in model.prompts[1].messages[1:]] == ["Where is it?", "Here.", "And now?"]


async def test_who_was_handed_the_conversation_goes_on_with_it(house: House, tmp_path: Path, model: ScriptedReplies):
    """Billing tries to hand over to itself before it answers, which is refused and told to nobody."""
    version = await workflow_of(house, P, written(tmp_path, desk()), tmp_path)
    run = await simulator_for(house, ADMIN).run(
        P,
        suite_of(Checks(last_agent="Billing", replies_max=2)),
        name="suite",
        workflow=version,
        stop=asyncio.Event(),
        told=lambda result: None,
    )
    (result,) = run.results
    assert result.verdict is Verdict.PASS
    assert [(line.role, line.name) for line in result.transcript] == [
        ("user", ""),
        ("handed", "Front Desk"),
        ("agent", "Billing"),
        ("user", ""),
        ("agent", "Billing"),
    ]
    second_turn = model.prompts[3].messages
    assert [message.full_text for message in second_turn] == ["Be brief.", "Where is it?", "It is late.", "And now?"]


async def test_stopping_stops_the_turn_that_is_being_taken(house: House, tmp_path: Path, model: ScriptedReplies):
    version = await workflow_of(house, P, written(tmp_path, desk()), tmp_path)
    model.gate = Gate()
    stop = asyncio.Event()

    async def stop_when_asked() -> None:
        while not model.prompts:
            await asyncio.sleep(0.01)
        (live,) = house.runs[1].claims()
        stop.set()
        while house.runs[1].live:
            await asyncio.sleep(0.01)
        view = (await house.desk.answer(ADMIN, ReadRun(live.run))).run
        assert view.status == "cancelled"

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(stop_when_asked())
        run = await simulator_for(house, ADMIN).run(
            P,
            suite_of(Checks(replies_max=9)),
            name="suite",
            workflow=version,
            stop=stop,
            told=lambda result: None,
        )
    assert (run.status, run.results) == (Status.CANCELLED, ())


async def test_a_model_that_fails_is_no_failure_of_the_workflow(tmp_path: Path):
    model = ScriptedReplies([BackendFailed("The model refuses.", code="upstream_refused")])
    async with house_of(tmp_path / "home", model, store=MemoryStore(FixedClock()), access=MemoryAccess()) as house:
        version = await workflow_of(house, P, written(tmp_path, desk()), tmp_path)
        run = await simulator_for(house, ADMIN).run(
            P,
            suite_of(Checks(replies_max=9)),
            name="s",
            workflow=version,
            stop=asyncio.Event(),
            told=lambda result: None,
        )
    (result,) = run.results
    assert (result.verdict, result.details) == (Verdict.ERROR, "Turn 1 was not answered: The model refuses.")
