"""A few trials of each campaign that needs nothing but this machine's disk: what is quick enough for every test run."""

import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dragoman.runtime.fuses import POINTS
from tests.checkout import ROOT
from tests.crash import fused
from tests.crash.__main__ import machine
from tests.crash.campaigns import CAMPAIGNS
from tests.crash.homes import Template, template, why_no_postgres
from tests.crash.report import failure
from tests.crash.scene import Order, Result, Trial

pytestmark = pytest.mark.timeout(60)

SEED = 20261121


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Template]:
    if why := await why_no_postgres():
        pytest.skip(why)
    async with template("postgres", tmp_path_factory.mktemp("crash")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ready(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Template]:
    async with template("sqlite", tmp_path_factory.mktemp("crash")) as made:
        yield made


async def carried_out(trial: Trial, folder: Path, ready: Template) -> Result:
    """The trial's result, once nothing was found."""
    result = await CAMPAIGNS[trial.campaign].run(trial, folder, ready)
    result.folder = str(folder)
    assert not result.failed, failure(result, machine(1))
    assert result.blown and (result.lost, result.duplicated) == (0, 0)
    return result


LIVES = [
    ["accept.after_commit=kill@1"],
    ["append.before_commit=kill@5"],
    ["finish.after_commit=kill@1"],
    ["tool.effect_done=kill@2"],
    ["approval.requested=kill@1"],
    ["approval.decided=kill@1"],
    ["clienttool.answered=kill@1"],
    ["note.after_commit=kill@1"],
    ["handover.committed=kill@3"],
    ["stream.frame=torn@4"],
    [fused.FIRST, "claim.after_commit=kill@1"],
]


@pytest.mark.parametrize("lives", LIVES, ids=[lives[-1].partition("=")[0] for lives in LIVES])
async def test_nothing_is_lost_by_a_kill_at_a_fuse(lives: list[str], tmp_path: Path, ready: Template):
    trial = Trial("R01", SEED, options={"point": lives[-1].partition("=")[0], "lives": lives})
    result = await carried_out(trial, tmp_path, ready)
    assert result.kills == len(lives)


async def test_nothing_is_lost_by_kills_at_random_under_load(tmp_path: Path, ready: Template):
    result = await carried_out(Trial("R02", SEED, options={"kills": 3}), tmp_path, ready)
    assert (result.kills, result.checked) == (3, 3)
    assert result.acknowledged > 16


async def test_readers_of_chats_and_tasks_hear_everything_once_over_a_kill(tmp_path: Path, ready: Template):
    result = await carried_out(Trial("R10", SEED, options={"kills": 1}), tmp_path, ready)
    assert result.kills == 1 and result.measured["cuts"][0] > 10


async def test_restarts_alone_use_up_no_tries(tmp_path: Path, ready: Template):
    assert (await carried_out(Trial("R07", SEED, options={"silent": True}), tmp_path, ready)).kills == 11


async def test_a_workflows_turn_goes_on_as_it_began_after_a_kill_at_a_commit(tmp_path: Path, ready: Template):
    options = {"fuses": "*.after_commit=kill@6", "mode": "rowboat-stream", "replicas": 1}
    result = await carried_out(Trial("cast", SEED, options=options), tmp_path, ready)
    assert (result.kills, result.checked, result.acknowledged) == (1, 1, 3)


@pytest.mark.service
async def test_a_workflows_turn_is_carried_on_by_the_other_server(tmp_path: Path, shared: Template):
    options = {"fuses": "*.before_commit=kill@7", "mode": "rowboat", "replicas": 2}
    result = await carried_out(Trial("cast", SEED, "postgres", options), tmp_path, shared)
    assert (result.kills, len(result.takeovers_s)) == (1, 1)


@pytest.mark.service
@pytest.mark.parametrize("trial", [Trial("owner", SEED, "postgres"), Trial("R46", SEED, "postgres", {"freezes": 1})])
async def test_another_server_goes_on_with_what_one_has_begun(trial: Trial, tmp_path: Path, shared: Template):
    assert (await carried_out(trial, tmp_path, shared)).kills == 1


def test_every_point_is_killed_at_by_some_campaign():
    planned = {trial.options["point"] for trial in fused.plan(Order("P", 0, "sqlite", random.Random(SEED)))}
    assert planned | fused.ELSEWHERE.keys() == POINTS.keys()
    assert fused.PASSED.keys() == planned


def test_the_same_seed_plans_the_same_trials():
    for campaign in CAMPAIGNS.values():
        first, second = (campaign.plan(Order("N", 3, campaign.engines[0], random.Random(SEED))) for _ in range(2))
        assert first == second and first


def test_the_program_kills_in_each_step_of_the_schema_and_reports_it(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "R04", "--engine", "sqlite", "--seed", "7", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1].startswith("R04 sqlite")
    body = json.loads((tmp_path / "reliability.json").read_bytes())
    planned = len(CAMPAIGNS["R04"].plan(Order("P", 0, "sqlite", random.Random(7))))
    assert [(each["campaign"], each["kills"], each["lost"]) for each in body["campaigns"]] == [("R04", planned, 0)]
    assert "<svg" in (tmp_path / "reliability.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reliability.json", "reliability.svg"]


def test_a_campaign_that_does_not_exist_is_named_with_those_that_do():
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "R99"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no R99; there are R01, R02, " in done.stderr
