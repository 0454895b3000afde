"""`dragoman workflows`."""

import io
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dragoman.cli import workflows
from dragoman.core.versions import is_version_id
from tests.cli.conftest import CONFIG, CommandLine, Served

SHOP: dict[str, Any] = {
    "name": "Shop",
    "agents": [
        {
            "name": "Front Desk",
            "type": "conversation",
            "instructions": "Money: [@agent:Billing](#mention). Files: [@pipeline:Intake](#mention).",
        },
        {"name": "Billing", "type": "conversation", "instructions": "Use [@tool:get_order](#mention)."},
        {"name": "Extract", "type": "pipeline", "instructions": "List facts.", "outputVisibility": "internal"},
    ],
    "prompts": [],
    "tools": [{"name": "get_order", "description": "One order.", "mockTool": True}],
    "pipelines": [{"name": "Intake", "agents": ["Extract"]}],
    "startAgent": "Front Desk",
    "lastUpdatedAt": "2025-08-20T08:00:00.000Z",
}
TOML = '[agents.desk]\ninstructions = "Help."\n'
BROKEN = {**SHOP, "pipelines": [{"name": "Intake", "agents": []}]}


def written(folder: Path, source: dict[str, Any] | str, name: str = "shop.json") -> str:
    path = folder / name
    path.write_text(source if isinstance(source, str) else json.dumps(source))
    return str(path)


def test_one_is_imported_published_listed_and_unpublished(cli: CommandLine):
    first = cli.ok("workflows", "import", written(cli.folder, SHOP), "--json").json
    assert is_version_id(first["id"]) and first == {"id": first["id"], "name": "Shop", "published": False}
    second = cli.ok("workflows", "import", written(cli.folder, TOML), "--publish", "--name", "Mine", "--json").json
    assert (second["name"], second["published"]) == ("Mine", True)

    assert cli.ok("workflows", "publish", first["id"]).out == f"{first['id']}  Shop  published\n"
    listed = cli.ok("workflows", "ls", "--json").json
    assert [(each["id"], each["number"], each["published"]) for each in listed] == [
        (first["id"], 1, True),
        (second["id"], 2, False),
    ]
    assert [line.split()[:4] for line in cli.ok("workflows", "ls").out.splitlines()] == [
        [first["id"], "1", "Shop", "published"],
        [second["id"], "2", "Mine", "20" + listed[1]["created_at"][2:10]],
    ]

    refused = cli.run("workflows", "unpublish", second["id"])
    assert refused.code == 2 and f"{first['id']} is" in refused.err
    assert cli.ok("workflows", "unpublish", "--json").json == {"id": first["id"], "published": False}
    assert cli.ok("workflows", "unpublish").out == "No version was published.\n"
    assert cli.run("workflows", "publish", "nonsense").code == 3


def test_a_person_is_told_what_to_do_next(cli: CommandLine):
    done = cli.ok("workflows", "import", written(cli.folder, {**SHOP, "startAgent": "Nobody"}))
    version = done.out.split()[0]
    assert done.out == f"{version}  Shop  3 agents\n"
    assert '! startAgent: "Nobody" is unknown; "Front Desk" begins instead' in done.err
    assert f"dragoman workflows publish {version}" in done.err
    assert "No workflow." in cli.ok("workflows", "ls", "--project", _other(cli)).err


def _other(cli: CommandLine) -> str:
    cli.ok("projects", "create", "Other", "--id", "other")
    return "other"


def test_projects_have_their_own_and_must_be_there(cli: CommandLine):
    version = cli.ok("workflows", "import", written(cli.folder, SHOP), "--project", _other(cli), "--json").json["id"]
    assert cli.ok("workflows", "ls", "--json").json == []
    assert cli.run("workflows", "show", version).code == 3
    assert cli.ok("workflows", "show", version, "--project", "other").out
    for verb in (("import", written(cli.folder, SHOP)), ("ls",), ("publish", version)):
        assert cli.run("workflows", *verb, "--project", "nowhere").code == 3


def test_what_is_exported_is_what_was_imported(cli: CommandLine):
    for source in (json.dumps(SHOP, indent=1), TOML):
        version = cli.ok("workflows", "import", written(cli.folder, source), "--json").json["id"]
        assert cli.ok("workflows", "export", version).out == source
        kept = cli.folder / "kept"
        cli.ok("workflows", "export", version, "--to", str(kept))
        assert kept.read_text() == source
        again = cli.ok("workflows", "import", str(kept), "--json").json["id"]
        shown = [cli.ok("workflows", "show", each, "--json").json["agents"] for each in (version, again)]
        assert shown[0] == shown[1]
    assert cli.run("workflows", "export", "a" * 24).code == 3


def test_what_stands_in_one_is_shown(cli: CommandLine):
    version = cli.ok("workflows", "import", written(cli.folder, SHOP), "--publish", "--json").json["id"]
    shown = cli.ok("workflows", "show", version, "--json").json
    assert (shown["start"], shown["published"], shown["findings"]) == ("Front Desk", True, [])
    assert [(agent["name"], agent["agents"], agent["pipelines"], agent["tools"]) for agent in shown["agents"]] == [
        ("Front Desk", ["Billing"], ["Intake"], []),
        ("Billing", [], ["Intake"], ["get_order"]),
        ("Extract", [], [], []),
    ]
    lines = cli.ok("workflows", "show", version).out.splitlines()
    assert lines[0] == f"Shop  {version}  published"
    assert "  Billing  speaks with the user; pipelines: Intake; tools: get_order" in lines
    assert "  Intake  pipeline: Extract" in lines


def test_those_of_the_configuration_are_there_by_name(cli: CommandLine):
    more = f'{CONFIG}[defaults]\nworkflow = "help"\n[workflows.help.agents.desk]\ninstructions = "Help."\n'
    (cli.folder / "dragoman.toml").write_text(more)
    assert cli.ok("workflows", "ls", "--json").json == [
        {"id": "help", "name": "help", "published": True, "configured": True}
    ]
    assert cli.ok("workflows", "show", "help").out.startswith("help  help  published\n")
    assert 'n0["desk"]' in cli.ok("workflows", "graph", "help").out
    assert "configuration" in cli.run("workflows", "publish", "help").err
    assert cli.run("workflows", "export", "help").code == 3


# -- check -----------------------------------------------------------------------------------------------------------


def test_a_sound_file_is_said_to_be_so(cli: CommandLine):
    assert cli.ok("workflows", "check", written(cli.folder, SHOP)).out == "ok  3 agents, 1 tools, 1 pipelines\n"
    assert cli.ok("workflows", "check", written(cli.folder, TOML), "--json").json == {"ok": True, "findings": []}


def test_warnings_do_not_fail_a_check(cli: CommandLine):
    done = cli.ok("workflows", "check", written(cli.folder, TOML + '[agents.alone]\ninstructions = "x"\n'))
    assert done.out.startswith("warning  agents.alone: never has the word") and "ok  2 agents" in done.out


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (BROKEN, "pipelines.Intake"),
        ({**SHOP, "agents": [{"name": "A"}]}, "agents.0.instructions"),
        ("{", ""),
        ("[]", ""),
        ("hello", ""),
        ('[agents.a]\ninstructions = "x"\ncontrol = "y"', "agents.a.control"),
    ],
)
def test_an_error_fails_it_and_names_the_place(cli: CommandLine, source: Any, place: str):
    file = written(cli.folder, source)
    done = cli.run("workflows", "check", file, "--json")
    assert (done.code, done.json["ok"]) == (2, False)
    assert (done.json["findings"][0]["severity"], done.json["findings"][0]["place"]) == ("error", place)
    assert cli.run("workflows", "check", file).out.startswith("error    ")
    assert cli.run("workflows", "import", file, "--publish").code == 2
    assert cli.ok("workflows", "ls", "--json").json == []


def test_what_cannot_be_published_can_be_kept(cli: CommandLine):
    done = cli.ok("workflows", "import", written(cli.folder, BROKEN))
    assert "! pipelines.Intake: has no step" in done.err
    assert cli.run("workflows", "publish", done.out.split()[0]).code == 2


# -- graph -----------------------------------------------------------------------------------------------------------


def test_a_file_or_a_version_is_drawn(cli: CommandLine):
    file = written(cli.folder, SHOP)
    version = cli.ok("workflows", "import", file, "--json").json["id"]
    drawn = cli.ok("workflows", "graph", file).out
    assert drawn.startswith("flowchart TD\n") and cli.ok("workflows", "graph", version).out == drawn
    image = cli.ok("workflows", "graph", version, "--format", "svg", "--tools").out
    assert ElementTree.fromstring(image).tag.endswith("svg") and "get_order" in image
    out = cli.folder / "shop.svg"
    cli.ok("workflows", "graph", file, "--format", "svg", "--tools", "--output", str(out))
    assert out.read_text() == image
    assert cli.ok("workflows", "graph", file, "--json").json == {"format": "mermaid", "graph": drawn}
    asked = ("workflows", "graph", file, "--output", str(out), "--json")
    assert cli.ok(*asked).json == {"format": "mermaid", "file": str(out)}
    assert out.read_text() == drawn
    assert cli.run("workflows", "graph", "b" * 24).code == 3


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_comes_from_stdin_too(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + json.dumps(SHOP).encode())))
    assert cli.ok("workflows", "import", "-", "--json").json["name"] == "Shop"


def test_a_folder_and_a_file_that_is_too_large_are_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    assert cli.run("workflows", "import", str(cli.folder)).code == 2
    file = written(cli.folder, TOML)
    monkeypatch.setattr(workflows, "SOURCE_BYTES_MAX", len(TOML))
    cli.ok("workflows", "check", file)
    monkeypatch.setattr(workflows, "SOURCE_BYTES_MAX", len(TOML) - 1)
    assert "more than" in cli.run("workflows", "check", file).err


def test_it_works_beside_a_running_server(served: Served, beside: CommandLine):
    version = beside.ok("workflows", "import", written(served.folder, SHOP), "--publish", "--json").json["id"]
    assert [each["id"] for each in beside.ok("workflows", "ls", "--json").json] == [version]


@pytest.mark.parametrize(("what", "kind"), [("none.json", "file"), ("a/none", "file"), ("none", "workflow")])
def test_what_is_not_there_is_said_to_be_a_file_where_it_looks_like_one(cli: CommandLine, what: str, kind: str):
    done = cli.run("workflows", "graph", what)
    assert done.code == 3 and f"There is no {kind} {what}" in done.err
