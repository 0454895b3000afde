"""Opening the config and the house for a command."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dragoman.access.ports import Project
from dragoman.cli import opening
from dragoman.cli.opening import (
    acting_in,
    in_house,
    in_house_of,
    load_settings,
    local_principal,
    project_of,
    store_path,
)
from dragoman.cli.options import Settings
from dragoman.core.errors import NotFound
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.server.config import BadConfig
from dragoman.server.config_shapes import Config, StoreTable
from dragoman.server.house import House
from tests.cli.conftest import CommandLine

MODEL = '[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "m"\nkey = "${KEY_OF_NOBODY}"\n'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "settings", lambda: Settings(home=Path("h")))
    return tmp_path


def test_whoever_sits_here_may_everything_in_the_project_named():
    assert local_principal(Config()) == Principal(
        ProjectId("default"), "local", "command line", frozenset({Scope.ADMIN}), 0
    )
    assert local_principal(Config(), "shop").project == "shop"


def test_a_project_that_is_named_must_be_there():
    async def work(house: House) -> list[str]:
        await house.access.put_project(Project(ProjectId("shop"), "Shop", 0.0))
        assert (await acting_in(house, "shop")).project == "shop"
        named = [await project_of(house, project) for project in ("", "default", "shop")]
        with pytest.raises(NotFound, match="no project nobody; list them with: dragoman projects ls"):
            await project_of(house, "nobody")
        return [*named]

    assert in_house(work, writer=False) == ["default", "default", "shop"]


def test_the_store_lies_in_home():
    assert store_path(Config()) == Path("h/dragoman.db")
    assert store_path(Config(store=StoreTable("sqlite:/srv/x.db"))) == Path("/srv/x.db")


def test_secrets_are_asked_for_only_where_they_are_needed(place: Path):
    (place / "dragoman.toml").write_text(MODEL)

    assert load_settings(resolve_secrets=False).config.defaults.model == "main"
    with pytest.raises(BadConfig):
        load_settings()


def test_the_work_is_done_in_an_open_house_and_its_error_comes_out_alone(monkeypatch: pytest.MonkeyPatch):
    """The house holds task groups, which wrap what is raised in them."""
    steps: list[object] = []

    @asynccontextmanager
    async def open_house(config: Config, home: Path, *, writer: bool, take_up: bool) -> AsyncGenerator[str]:
        assert take_up
        steps.append((home, writer))
        try:
            yield "house"
        except NotFound as error:
            raise ExceptionGroup("a task group", [error]) from None
        finally:
            steps.append("closed")

    async def work(house: str) -> str:
        return f"done in the {house}"

    async def fail(house: str) -> None:
        raise NotFound("There is none.", what="run")

    monkeypatch.setattr("dragoman.server.assemble.open_house", open_house)

    assert in_house_of(Config(), work, writer=False) == "done in the house"
    with pytest.raises(NotFound):
        in_house_of(Config(), fail, writer=True)
    assert steps == [(Path("h"), False), "closed", (Path("h"), True), "closed"]


@pytest.mark.parametrize(
    "verb",
    ["sources", "mcp", "knowledge", "conversations", "runs", "connectors", "workflows", "simulate", "credentials"],
)
def test_no_verb_lists_what_a_project_has_that_is_not_there(cli: CommandLine, verb: str):
    done = cli.run(verb, "ls", "--project", "nobody")
    assert (done.code, done.out) == (3, "") and "There is no project nobody" in done.err
