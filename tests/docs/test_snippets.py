"""What pages tell people to write is right: configuration loads, commands exist, metrics are those that are counted."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import click
import msgspec
import pytest

from dragoman.cli.main import cli
from dragoman.edge.metrics import Metrics
from dragoman.runtime.counters import Counters
from dragoman.server.config import BadConfig, load_config
from dragoman.server.config_shapes import AgentTable
from dragoman.server.tool_patterns import unmatched
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.connectors.toolset import register_connectors
from dragoman.tools.egress import Egress
from dragoman.tools.knowledge import register_knowledge
from dragoman.tools.registry import Registry
from dragoman.tools.workspace.toolset import register_workspace
from tests.checkout import ROOT, checked_in, expect_none, name_of
from tests.support import FixedClock

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\$\{(\w+)\}")
METRIC = re.compile(r"\bdragoman_[a-z_]+\b")
ASSIGNMENT = re.compile(r"[A-Z_]+=")
COMMAND = re.compile(r"([A-Z_]+=\S* )*dragoman ")
"""Others are not looked at: one may go on over several lines."""

PLACES = ("docs", "README.md", "CONTRIBUTING.md")


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language in the pages people read, with where it stands."""
    return [
        (f"{name_of(page)}:{text[: match.start()].count(chr(10)) + 1}", match[2])
        for page in checked_in()
        if page.suffix == ".md" and page.relative_to(ROOT).parts[0] in PLACES
        for text in (page.read_text(),)
        for match in BLOCK.finditer(text)
        if match[1] == language
    ]


def test_every_piece_of_configuration_loads(tmp_path: Path) -> None:
    found = blocks("toml")
    assert found
    faults: list[str] = []
    for number, (place, text) in enumerate(found):
        home = tmp_path / str(number)
        home.mkdir()
        (home / "dragoman.toml").write_text(text)
        env = {name: "a-real-looking-value" for name in VARIABLE.findall(text)}
        try:
            load_config(home, cwd=home, env=env)
        except BadConfig as error:
            faults.extend(f"{place}: {fault}" for fault in error.faults)
    expect_none(faults)


def test_every_pattern_of_tools_that_a_page_shows_matches_one(tmp_path: Path) -> None:
    registry = Registry()
    register_workspace(registry, lambda project: tmp_path)
    register_connections(registry, [Connection("prom", "prometheus", "http://127.0.0.1:9", ())], Egress(), FixedClock())
    example = ROOT / "docs" / "config.example.toml"
    shown = [*blocks("toml"), (name_of(example), example.read_text())]
    register_connectors(registry, cast("Any", None))  # nothing is called
    register_knowledge(registry, cast("Any", None), cast("Any", None))
    agents = [
        (place, {"agent": msgspec.convert(agent, AgentTable, strict=False)})
        for place, text in shown
        for agent in tomllib.loads(text).get("agents", {}).values()
        if agent.pop("approval", True)  # a duration, which is read elsewhere
    ]
    assert any(agent["agent"].ask for _, agent in agents)
    expect_none(f"{place}: {sentence}" for place, agent in agents for sentence in unmatched(agent, registry.specs("*")))


# -- commands --------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `dragoman …` line in a shell block, the environment in front of it left out."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.removeprefix("$ ")
        if not COMMAND.match(line):
            continue
        words = shlex.split(line, comments=True)
        while words and ASSIGNMENT.match(words[0]):
            words.pop(0)
        if words and words[0] == "dragoman":
            yield words[1:]


def fault_of(words: list[str]) -> str:
    """Why the command line would refuse these words; "" if it would not. Nothing is run: `--help` comes before all."""
    try:
        with cli.make_context("dragoman", [*words, "--help"]) as context:
            cli.invoke(context)
    except click.exceptions.Exit:
        return ""
    except click.ClickException as error:
        return error.format_message()
    return "neither help nor a fault was said"


def test_every_command_that_a_page_shows_exists() -> None:
    expect_none(
        f"{place}: dragoman {shlex.join(words)}: {fault}"
        for language in ("sh", "bash", "console")
        for place, text in blocks(language)
        for words in commands(text)
        if (fault := fault_of(words))
    )


@pytest.mark.parametrize("words", [["no-such-verb"], ["credentials", "no-such-verb"], ["serve", "--no-such-option"]])
def test_a_command_that_does_not_exist_would_be_found(words: list[str]) -> None:
    assert fault_of(words) != ""


# -- metrics ---------------------------------------------------------------------------------------------------------


@cache
def counted() -> frozenset[str]:
    """The names of all metrics, as a scraper sees them."""
    root = "".join((ROOT / "src/dragoman/server" / name).read_text() for name in ("assemble.py", "house.py"))
    named = set(re.findall(r'gauges\["(\w+)"\]', root)) | set(re.findall(r'Gauge\] = \{"(\w+)"', root))
    assert named >= {"live_runs", "ready"}
    metrics = Metrics(Counters(), gauges={name: ("", lambda: 0.0) for name in named})
    metrics.answered(None, 404, 0.1)
    lines = metrics.text().decode().splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    return frozenset(name for name in names if not name.endswith("_created"))


def test_the_page_on_prometheus_lists_every_metric_and_no_other() -> None:
    assert set(METRIC.findall((ROOT / "docs/how-to/prometheus.md").read_text())) == counted()
