import json
from xml.etree import ElementTree

from msgspec.structs import replace

from tests.crash import chart, report
from tests.crash.evidence import Violation
from tests.crash.report import Machine
from tests.crash.scene import Result, Trial

HERE = Machine("2026-11-21", "abc", "3.11.7", "a CPU", 2, 3)


def results() -> list[Result]:
    fine = Result(Trial("R02", 1), kills=20, appends=100, acknowledged=90, effects=30)
    fine.starts_s, fine.takeovers_s = [0.4, 0.5], [0.3]
    bad = Result(Trial("R02", 2), [Violation("I1", "turn a.1 <is> gone")], kills=20, appends=50, lost=1, starts_s=[2.0])
    return [fine, bad]


def totals() -> list[report.Total]:
    return [
        report.total("R02", "random kills", "sqlite", results(), 12.3),
        report.skipped("R46", "a frozen replica", "postgres", "no PostgreSQL"),
    ]


def test_results_add_up():
    row = totals()[0]
    assert (row.trials, row.kills, row.appends, row.acknowledged, row.lost, row.violations) == (2, 40, 150, 90, 1, 1)
    assert row.starts_s == [0.4, 0.5, 2.0]
    assert row.failed and row.missed == ("start to ready p95 2.00 s > 1.5 s",)


def test_a_machine_at_work_is_told_from_a_quiet_one():
    assert [replace(HERE, load=load).busy for load in (0.0, 1.0, 1.1)] == [False, False, True]


def test_the_table_has_a_row_for_what_ran_and_a_line_for_what_did_not():
    lines = report.table(totals()).splitlines()
    assert lines[1].split() == "R02 sqlite 2 40 150 90 30 1 0 1 0.50 2.00 2.00 0.30 0.30 0.30 12".split()
    assert lines[2:] == [
        "R02 sqlite: MISSED start to ready p95 2.00 s > 1.5 s",
        "R46 postgres: not run: no PostgreSQL",
    ]


def test_a_failure_says_all_that_brings_it_about_again():
    trial = Trial("R01", 7, "sqlite", {"point": "auth.done", "lives": ["auth.done=kill@1"]})
    result = Result(trial, [Violation("I1", "gone")], fuses=["auth.done=kill@1"], folder="build/crash/failed/x")
    assert report.failure(result, HERE).splitlines() == [
        'FAILED R01 on sqlite: seed 7, options {"point": "auth.done", "lives": ["auth.done=kill@1"]}',
        "  fuses: auth.done=kill@1; commit abc; kept in build/crash/failed/x",
        "  I1: gone",
        '  again: python -m tests.crash --trial \'{"campaign":"R01","seed":7,"engine":"sqlite",'
        '"options":{"point":"auth.done","lives":["auth.done=kill@1"]}}\'',
    ]


def test_a_fault_of_the_harness_fails_too_and_is_told_as_such():
    result = Result(Trial("R01", 7), error="Traceback\nKeyError: 1\n")
    assert result.failed
    assert report.failure(result, HERE).splitlines()[2:5] == ["  the harness itself:", "  Traceback", "  KeyError: 1"]


def test_the_json_has_every_measurement():
    body = json.loads(report.as_json(totals(), HERE, tier="P", seed=5, seconds=60.04))
    assert (body["tier"], body["seed"], body["seconds"], body["machine"]["cores"]) == ("P", 5, 60.0, 2)
    assert body["command"] == "python -m tests.crash --tier P --seed 5"
    assert [each["campaign"] for each in body["campaigns"]] == ["R02", "R46"]
    assert body["campaigns"][0]["takeovers_s"] == [0.3]
    assert body["campaigns"][1]["skipped"] == "no PostgreSQL"


def test_the_picture_shows_kills_against_losses_and_the_times():
    picture = ElementTree.fromstring(chart.svg(totals(), "2026-11-21, <here>"))
    said = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "R02 random kills, sqlite" in said and "2026-11-21, <here>" in said
    row = said.index("R02 random kills, sqlite")
    assert said[row + 1 : row + 5] == ["40", "90", "1", "0"]
    assert [text for text in said if text and text.startswith("From a fault")] == [
        "From a fault until an interrupted run was taken up again"
        " (1 runs; median, 95th percentile, most: 0.30 0.30 0.30 s)"
    ]
    assert not any("R46" in text for text in said if text)


def test_a_quantile_of_few_values_is_one_of_them():
    hundred = [float(number) for number in range(100)]
    assert [report.quantile(each, 0.95) for each in ([], [1.0], [1.0, 2.0], hundred)] == [0.0, 1.0, 2.0, 95.0]
