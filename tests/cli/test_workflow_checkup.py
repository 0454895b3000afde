"""What `dragoman doctor` says of workflows and of MCP programs."""

import json
import sys
from importlib.util import find_spec

import pytest

from dragoman.cli import workflow_checkup
from dragoman.cli.workflow_checkup import FAULTS_SHOWN_MAX, check_mcp
from dragoman.server.config_shapes import ConnectionTable
from tests.cli.conftest import CommandLine

AGENT = '[agents.Desk]\ninstructions = "Use [@tool:get_order]."\n'
GOOD = 'name = "Shop"\nstart = "Desk"\n[agents.Desk]\ninstructions = "Help."\n'
LACKING = f'name = "Shop"\nstart = "Desk"\n{AGENT}[tools.get_order]\nkind = "webhook"\n'


needs_mcp = pytest.mark.skipif(
    find_spec("mcp") is None, reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'"
)


def found(cli: CommandLine) -> dict[str, tuple[str, str, str]]:
    told = json.loads(cli.run("doctor", "--json").out)
    return {each["name"]: (each["state"], each["what"], each["fix"]) for each in told}


def taken_in(cli: CommandLine, text: str, *args: str) -> str:
    (cli.folder / "shop.toml").write_text(text)
    return str(cli.ok("workflows", "import", "shop.toml", "--json", *args).json["id"])


def test_a_project_without_versions_is_not_spoken_of(cli: CommandLine):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    assert not [name for name in found(cli) if name.startswith("project")]


def test_versions_of_which_none_is_published(cli: CommandLine):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    version = taken_in(cli, GOOD, "--project", "shop")
    state, what, fix = found(cli)["project shop"]
    assert (state, fix) == ("warn", f"dragoman workflows publish {version} --project shop")
    assert "none is published" in what
    cli.ok(*fix.split()[1:])
    assert found(cli)["project shop"] == ("ok", f"answered by {version}", "")


def test_a_published_workflow_that_lacks_its_webhook(cli: CommandLine):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    taken_in(cli, LACKING, "--project", "shop", "--publish")
    state, what, _ = found(cli)["project shop"]
    assert state == "warn"
    assert what.count("tools.get_order") == 1
    assert "dragoman projects set shop --webhook" in what


def test_a_model_that_is_not_configured_is_told_and_is_no_fault(cli: CommandLine):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    version = taken_in(cli, GOOD + 'model = "gpt-4.1"\n', "--project", "shop", "--publish")
    told = found(cli)["project shop"]
    assert told == ("ok", f"answered by {version}; the default model's server is asked for gpt-4.1", "")


@pytest.mark.parametrize(
    ("count", "end"), [(FAULTS_SHOWN_MAX, "hands over to it"), (FAULTS_SHOWN_MAX + 1, "; and 1 more")]
)
def test_many_faults_are_cut_off(cli: CommandLine, count: int, end: str):
    agents = "".join(f'[agents.A{n}]\ninstructions = "Help."\n' for n in range(count + 1))
    cli.ok("projects", "create", "Shop", "--id", "shop")
    taken_in(cli, f'name = "Shop"\nstart = "A0"\n{agents}', "--project", "shop", "--publish")
    state, what, _ = found(cli)["project shop"]
    assert (state, what.count("never has the word")) == ("warn", FAULTS_SHOWN_MAX)
    assert what.endswith(end)


def test_a_configured_workflow_is_looked_at_by_its_own_name(cli: CommandLine):
    with (cli.folder / "dragoman.toml").open("a") as file:
        file.write('[workflows.desk.agents.a]\ninstructions = "Use [@tool:t]."\n')
        file.write('[workflows.desk.tools.t]\nkind = "webhook"\n')
    state, what, _ = found(cli)["workflow desk"]
    assert state == "warn"
    assert "tools.t" in what


def test_projects_beyond_the_limit_are_counted(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workflow_checkup, "PROJECTS_MAX", 1)
    for name in ("one", "two", "three"):
        cli.ok("projects", "create", name, "--id", name)
    total = len(cli.ok("projects", "ls", "--json").json)
    assert found(cli)["projects"] == ("ok", f"{total - 1} more were not looked at", "")


def test_settings_that_were_sealed_with_another_key_fail(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    taken_in(cli, GOOD, "--project", "shop", "--publish")
    monkeypatch.setenv("DRAGOMAN_SECRET_KEY", "0123456789abcdef" * 4)
    state, what, _ = found(cli)["project shop"]
    assert state == "fail"
    assert "key" in what


def mcp(*command: str, url: str = "", env: tuple[str, ...] = ()) -> ConnectionTable:
    return ConnectionTable(kind="mcp", url=url, command=command, env=env)


@needs_mcp
def test_an_mcp_program_that_is_not_there():
    told = check_mcp("clock", mcp("/nowhere/mcp-server"), {"PATH": "/usr/bin"})
    assert (told.state, told.name) == ("warn", "connection clock")
    assert "/nowhere/mcp-server" in told.what


@needs_mcp
def test_variables_that_a_program_is_promised_and_are_not_set():
    table = mcp(sys.executable, env=("TZ", "SHOP_KEY"))
    assert check_mcp("clock", table, {"TZ": "UTC"}).what == "not set, and so not passed on: SHOP_KEY"
    assert check_mcp("clock", table, {"TZ": "UTC", "SHOP_KEY": "secret"}).state == "ok"


@needs_mcp
def test_an_address_is_not_asked():
    told = check_mcp("desk", mcp(url="http://127.0.0.1:9/mcp"), {})
    assert (told.state, "--probe" in told.what) == ("ok", True)


def test_the_package_for_mcp_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workflow_checkup, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType]
    assert check_mcp("desk", mcp(url="http://127.0.0.1:9/mcp"), {}).fix == "pip install 'dragoman[mcp]'"


@needs_mcp
def test_a_program_is_not_knocked_at(cli: CommandLine):
    with (cli.folder / "dragoman.toml").open("a") as file:
        file.write(f'[connections.clock]\nkind = "mcp"\ncommand = ["{sys.executable}"]\n')
    told = {each["name"]: each for each in cli.run("doctor", "--probe", "--json").json}
    assert told["connection clock"]["state"] == "ok"
