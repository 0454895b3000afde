"""`dragoman test-profiles`."""

import io
import json
import sys

import pytest

from dragoman.server import simulation_files
from tests.cli.conftest import CommandLine, Served

ANA = {"name": "Ana", "context": "Ana ordered a lamp.", "mockTools": True, "mockPrompt": "Late."}


def written(cli: CommandLine, body: str, name: str = "ana.json") -> str:
    path = cli.folder / name
    path.write_text(body)
    return str(path)


def test_one_is_created_listed_and_removed(cli: CommandLine) -> None:
    made = cli.ok("test-profiles", "create", written(cli, json.dumps(ANA)), "--json").json
    assert made == {"id": made["id"], "name": "Ana"} and len(made["id"]) == 24
    (listed,) = cli.ok("test-profiles", "ls", "--json").json
    assert {key: listed[key] for key in ("id", *ANA)} == {"id": made["id"], **ANA}
    assert cli.ok("test-profiles", "ls").out.split()[:5] == [made["id"], "Ana", "tools", "are", "played"]

    assert cli.ok("test-profiles", "rm", made["id"], "--json").json == {"id": made["id"], "deleted": True}
    assert cli.run("test-profiles", "rm", made["id"]).code == 3
    done = cli.ok("test-profiles", "ls")
    assert done.out == "" and "test-profiles create FILE" in done.err


def test_toml_and_our_spelling_are_taken_and_the_answer_says_how_to_use_it(cli: CommandLine) -> None:
    done = cli.ok("test-profiles", "create", written(cli, 'name = "Bo"\nmock_tools = true\n', "bo.toml"))
    profile, name = done.out.split()
    assert name == "Bo" and f'"testProfileId": "{profile}"' in done.err
    assert cli.ok("test-profiles", "ls", "--json").json[0]["mockPrompt"] is None


def test_it_may_come_from_stdin(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(ANA).encode())))
    assert cli.ok("test-profiles", "create", "-", "--json").json["name"] == "Ana"


@pytest.mark.parametrize("body", ["{", "{}", '{"name": "a", "mockTool": true}', "no table"])
def test_what_is_wrong_is_usage_and_nothing_is_kept(cli: CommandLine, body: str) -> None:
    done = cli.run("test-profiles", "create", written(cli, body))
    assert done.code == 2 and "ana.json: " in done.err
    assert cli.ok("test-profiles", "ls", "--json").json == []


def test_a_file_that_is_too_long_is_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(cli, json.dumps(ANA))
    monkeypatch.setattr(simulation_files, "FILE_BYTES_MAX", len(json.dumps(ANA)) - 1)
    assert cli.run("test-profiles", "create", file).code == 2
    monkeypatch.setattr(simulation_files, "FILE_BYTES_MAX", len(json.dumps(ANA)))
    assert cli.ok("test-profiles", "create", file)


def test_a_file_that_is_not_there_and_a_folder_are_usage(cli: CommandLine) -> None:
    assert cli.run("test-profiles", "create", "gone.json").code == 2
    assert cli.run("test-profiles", "create", str(cli.folder)).code == 2


def test_each_project_has_its_own_and_one_that_is_not_there_is_not_found(cli: CommandLine) -> None:
    cli.ok("projects", "create", "Other", "--id", "other")
    file = written(cli, json.dumps(ANA))
    made = cli.ok("test-profiles", "create", file, "--project", "other", "--json").json
    assert cli.ok("test-profiles", "ls", "--json").json == []
    assert [each["id"] for each in cli.ok("test-profiles", "ls", "--project", "other", "--json").json] == [made["id"]]
    for args in (("create", file), ("ls",), ("rm", made["id"])):
        done = cli.run("test-profiles", *args, "--project", "nowhere")
        assert done.code == 3 and "projects ls" in done.err


def test_it_works_beside_a_running_server(served: Served, beside: CommandLine) -> None:
    made = beside.ok("test-profiles", "create", written(beside, json.dumps(ANA)), "--json").json
    assert made["id"] in [each["id"] for each in beside.ok("test-profiles", "ls", "--json").json]
