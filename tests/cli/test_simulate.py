"""`dragoman simulate`, with a scripted model that plays the user, the agents and the judge."""

import io
import json
import signal
import subprocess
import sys
import time
from typing import Any
from xml.etree import ElementTree

import pytest

from dragoman.runtime.playing import NO_JUDGE
from tests.cli.conftest import CommandLine, Served

SCRIPT = """
[[reply]]
match = "The conversation begins"
text = "Where is my lamp?"
[[reply]]
match = "To pass, this must be so:\\nIt is polite"
text = '{"verdict": "pass", "details": "Very polite."}'
[[reply]]
match = "To pass, this must be so"
text = '{"verdict": "fail", "details": "It is rude."}'
[[reply]]
match = "Your lamp is late"
text = "[END]"
[[reply]]
match = "Where is my lamp"
text = "Your lamp is late."
[[reply]]
match = "break"
fault = "upstream_refused"
"""

SUITE = """
workflow = "desk.toml"
[scenarios.late]
description = "You wait for a lamp."
[simulations.polite]
scenario = "late"
pass_criteria = "It is polite"
checks = { contains = ["late"], last_agent = "desk" }
"""
RUDE = '[simulations.rude]\nscenario = "late"\npass_criteria = "It is rude"\n'
BROKEN = '[simulations.broken]\nsays = ["break it"]\nchecks = { replies_max = 5 }\n'
DESK = '[agents.desk]\ninstructions = "Be brief."\n'


@pytest.fixture
def place(cli: CommandLine) -> CommandLine:
    furnish(cli)
    return cli


def furnish(cli: CommandLine, suite: str = SUITE) -> None:
    (cli.folder / "script.toml").write_text(SCRIPT)
    (cli.folder / "suites").mkdir(exist_ok=True)
    (cli.folder / "suites" / "desk.toml").write_text(DESK)
    (cli.folder / "suites" / "suite.toml").write_text(suite)


FILE = "suites/suite.toml"


def test_all_that_pass_are_exit_code_0_and_a_table(place: CommandLine) -> None:
    done = place.ok("simulate", FILE)
    assert done.out == "polite  pass  1/1  100 %\n"
    line, closing = done.err.splitlines()
    assert line.startswith("pass  polite  ")
    assert closing.startswith("1 of 1 passed; completed    (dragoman simulate show ")


def test_json_tells_what_was_said(place: CommandLine) -> None:
    told = place.ok("simulate", FILE, "--json").json
    assert told["aggregate"] == {"total": 1, "passCount": 1, "failCount": 0, "errorCount": 0}
    (result,) = told["results"]
    assert (result["verdict"], result["details"]) == ("pass", "Very polite.")
    assert result["transcript"] == [
        {"role": "user", "content": "Where is my lamp?"},
        {"role": "assistant", "agent": "desk", "internal": False, "content": "Your lamp is late."},
    ]


def test_one_that_fails_is_exit_code_1_with_its_transcript(place: CommandLine) -> None:
    furnish(place, SUITE + RUDE + BROKEN)
    done = place.run("simulate", FILE, "--runs", "2")
    assert done.code == 1
    assert done.out.startswith(
        "polite  pass pass    2/2  100 %\nrude    fail fail    0/2  0 %\nbroken  error error  0/2  0 %\n"
    )
    assert "fail  rude #2: It is rude.\n  User: Where is my lamp?\n  desk: Your lamp is late.\n" in done.out
    assert "2 of 6 passed, 2 failed, 2 could not be told; completed" in done.err


def test_what_could_not_be_told_is_exit_code_5(place: CommandLine) -> None:
    furnish(place, SUITE + BROKEN)
    done = place.run("simulate", FILE)
    assert done.code == 5 and "error  broken: Turn 1 was not answered: " in done.out


def test_without_a_language_model_prose_is_not_judged_and_checks_are(place: CommandLine) -> None:
    (place.folder / "dragoman.toml").write_text("")
    done = place.run("simulate", FILE, "--json")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (1, "fail")  # the check is looked at first, and nobody says "late"

    furnish(place, SUITE.replace('["late"]', '["no language model"]'))
    done = place.run("simulate", FILE, "--json")
    assert (done.code, done.json["results"][0]["details"]) == (5, NO_JUDGE)


def test_results_are_written_for_other_programs(place: CommandLine) -> None:
    furnish(place, SUITE + RUDE)
    done = place.run("simulate", FILE, "--runs", "2", "--transcripts", "out/talks", "--junit", "out.xml")
    assert done.code == 1
    files = sorted(path.name for path in (place.folder / "out" / "talks").iterdir())
    assert files == ["polite-1.json", "polite-2.json", "rude-1.json", "rude-2.json"]
    assert json.loads((place.folder / "out/talks/rude-2.json").read_text())["details"] == "It is rude."
    (suite,) = ElementTree.parse(place.folder / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")


def test_earlier_runs_are_listed_and_shown(place: CommandLine) -> None:
    assert "simulate FILE" in place.ok("simulate", "ls").err
    furnish(place, SUITE + RUDE)
    told = place.run("simulate", FILE, "--json").json
    (listed,) = place.ok("simulate", "ls", "--json").json
    assert listed == {key: value for key, value in told.items() if key != "results"}
    assert place.ok("simulate", "ls").out.split()[:5] == [told["id"], "suite", "completed", "1/2", "passed"]
    assert place.ok("simulate", "show", told["id"], "--json").json == told
    shown = place.ok("simulate", "show", told["id"]).out
    assert shown.splitlines()[0].startswith(f"run {told['id']}  suite  completed  ")
    assert "rude    fail  0/1  0 %" in shown and "  desk: Your lamp is late." in shown
    assert place.run("simulate", "show", "f" * 24).code == 3


def test_nothing_that_was_said_is_kept_as_a_conversation(place: CommandLine) -> None:
    place.ok("simulate", FILE)
    assert place.ok("conversations", "ls", "--json").json == []
    assert place.ok("runs", "ls", "--json").json == []


def test_a_file_may_come_from_stdin_and_finds_its_workflow_from_here(
    place: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = SUITE.replace("desk.toml", "suites/desk.toml").encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    told = place.ok("simulate", "-", "--json").json
    assert (told["name"], told["aggregate"]["passCount"]) == ("stdin", 1)


def test_a_project_of_the_file_and_one_that_is_said(place: CommandLine) -> None:
    place.ok("projects", "create", "Other", "--id", "other")
    furnish(place, 'project = "other"\n' + SUITE)
    place.ok("simulate", FILE)
    assert [len(place.ok("simulate", "ls", *args, "--json").json) for args in ((), ("--project", "other"))] == [0, 1]
    place.ok("simulate", "--project", "default", FILE)
    assert len(place.ok("simulate", "ls", "--json").json) == 1
    assert place.run("simulate", FILE, "--project", "nowhere").code == 3


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"workflow": "gone.toml"}, 3, "gone.toml"),
        ({"workflow": "f" * 24}, 3, "There is no workflow"),
        ({"workflow": ""}, 3, "no published workflow"),
        ({"models": {"judge": "nobody"}}, 3, "There is no model nobody"),
        ({"simulations": {}}, 2, "simulations: is empty"),
        (
            {"simulations": {"s": {"says": ["a"], "profile": "ana", "checks": {"replies_max": 1}}}},
            3,
            "test profile ana",
        ),
        ({"simulation": {}}, 2, 'did you mean "simulations"?'),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence_and_a_code(
    place: CommandLine, changes: dict[str, Any], code: int, said: str
) -> None:
    simulations = {"s": {"says": ["a"], "checks": {"replies_max": 1}}}
    body = {"workflow": "desk.toml", "simulations": simulations} | changes
    (place.folder / "suites" / "suite.json").write_text(json.dumps(body))
    done = place.run("simulate", "suites/suite.json")
    assert (done.code, done.out) == (code, "")
    assert said in done.err and done.err.startswith("dragoman: ")


@pytest.mark.parametrize(
    "args", [("gone.toml",), ("suites",), (FILE, "--runs", "0"), (FILE, "--runs", "101"), (FILE, "--concurrency", "33")]
)
def test_usage(place: CommandLine, args: tuple[str, ...]) -> None:
    assert place.run("simulate", *args).code == 2


def test_a_configuration_that_is_wrong_is_78(place: CommandLine) -> None:
    (place.folder / "dragoman.toml").write_text("[server]\nnothing = 1\n")
    assert place.run("simulate", FILE).code == 78


def test_where_it_shall_write_is_looked_at_before_it_begins(place: CommandLine) -> None:
    (place.folder / "file").write_text("")
    for option, what, sentence in (
        ("--junit", "none/x.xml", "--junit: there is no folder none; make it first."),
        ("--transcripts", "file/talks", "--transcripts: file/talks cannot be made: Not a directory."),
    ):
        done = place.run("simulate", FILE, option, what)
        assert (done.code, done.out) == (2, "") and sentence in done.err and "polite" not in done.err
    assert place.ok("simulate", "ls", "--json").json == []


def test_the_verb_alone_says_how_to_use_it(place: CommandLine) -> None:
    done = place.run("simulate", "--help")
    assert done.code == 0
    assert all(verb in done.out for verb in ("simulate FILE", "run ", "ls ", "show "))


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_it_tells_what_was_done(place: CommandLine, stopping: signal.Signals) -> None:
    """In a process of its own, for the signal. The second simulation would take a minute."""
    slow = '[[reply]]\nmatch = "slow"\ntext = ["on "]\ndelay_s = 60.0\n'
    furnish(place, SUITE + '[simulations.slow]\nsays = ["slow"]\nchecks = { replies_max = 5 }\n')
    (place.folder / "script.toml").write_text(slow + SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "simulate", FILE, "--concurrency", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place.folder,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("pass  polite")
    began = time.monotonic()
    process.send_signal(stopping)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["status"], told["planned"], told["aggregate"]["total"]) == ("cancelled", 2, 1)
    assert "1 of 2 passed, 1 not done; cancelled" in err and "Traceback" not in err
    assert place.ok("simulate", "ls", "--json").json[0]["status"] == "cancelled"


def test_it_works_beside_a_running_server(served: Served, beside: CommandLine) -> None:
    furnish(beside)
    told = beside.ok("simulate", FILE, "--runs", "3", "--json").json
    assert told["aggregate"]["passCount"] == 3
    assert beside.ok("conversations", "ls", "--json").json == []
