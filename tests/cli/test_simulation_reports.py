"""How runs of simulations are told."""

from xml.etree import ElementTree

import pytest

from dragoman.cli.simulation_reports import described, junit, result_line, rows_of, total, worst
from dragoman.core.messages import Usage
from dragoman.core.simulations import Line, SimulationResult, SimulationRun, Status, Verdict

SAID = (
    Line("user", "Where <is> it?"),
    Line("handed", "Billing", "Front Desk"),
    Line("internal", "Look.", "Billing"),
    Line("tool", "lost", "get_order", "{}"),
    Line("agent", "Lost.\x07\ud800", "Billing"),
)


def result(name: str, attempt: int, verdict: Verdict, details: str = "Because.") -> SimulationResult:
    return SimulationResult(name, attempt, verdict, details, SAID, 1.25, Usage(3, 4))


RUN = SimulationRun(
    "a" * 24,
    "suite",
    "b" * 24,
    Status.CANCELLED,
    6,
    0.0,
    60.0,
    (
        result("refund", 1, Verdict.PASS),
        result("refund", 2, Verdict.FAIL, 'Said "no"\x00.'),
        result("refund", 3, Verdict.ERROR),
        result("hello", 1, Verdict.PASS),
    ),
)


def test_a_row_for_each_simulation_with_its_rate():
    assert rows_of(RUN) == [("refund", "pass fail error", "1/3  33 %"), ("hello", "pass", "1/1  100 %")]


def test_the_closing_line_counts_all():
    assert total(RUN).startswith("2 of 6 passed, 1 failed, 1 could not be told, 2 not done; cancelled ")
    assert RUN.id in total(RUN)


@pytest.mark.parametrize(
    ("verdict", "attempts", "line"),
    [
        (Verdict.PASS, 1, "pass  refund  1.2 s"),
        (Verdict.FAIL, 2, "fail  refund #1  1.2 s  Because. Of this."),
    ],
)
def test_a_line_for_each_result(verdict: Verdict, attempts: int, line: str):
    told = result_line(result("refund", 1, verdict, "Because.\nOf this."), attempts)
    assert "".join(piece.split("m", 1)[-1] for piece in told.split("\x1b[")) == line


def test_json_has_the_counts_as_rowboat_spells_them():
    told = described(RUN)
    assert told["aggregate"] == {"total": 4, "passCount": 2, "failCount": 1, "errorCount": 1}
    assert (told["status"], told["planned"], told["completed_at"]) == ("cancelled", 6, "1970-01-01T00:01:00Z")
    assert told["results"][0] == {
        "simulation": "refund",
        "attempt": 1,
        "verdict": "pass",
        "details": "Because.",
        "seconds": 1.25,
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        "transcript": [
            {"role": "user", "content": "Where <is> it?"},
            {"role": "handed", "from": "Front Desk", "to": "Billing"},
            {"role": "assistant", "agent": "Billing", "internal": True, "content": "Look."},
            {"role": "tool", "tool": "get_order", "arguments": "{}", "content": "lost"},
            {"role": "assistant", "agent": "Billing", "internal": False, "content": "Lost.\x07\ud800"},
        ],
    }
    assert "results" not in described(RUN, whole=False)


def test_junit_has_a_case_for_each_result_and_nothing_that_xml_forbids():
    root = ElementTree.fromstring(junit(RUN))
    (suite,) = root
    counts = {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped", "time")}
    assert counts == {"name": "suite", "tests": "6", "failures": "1", "errors": "1", "skipped": "2", "time": "5.000"}
    cases = [(case.get("name"), [child.tag for child in case]) for case in suite]
    assert cases == [
        ("refund #1", []),
        ("refund #2", ["failure"]),
        ("refund #3", ["error"]),
        ("hello #1", []),
        ("not done #1", ["skipped"]),
        ("not done #2", ["skipped"]),
    ]
    failure = suite[1][0]
    assert failure.get("message") == 'Said "no"\ufffd.'
    assert failure.text is not None
    assert failure.text.splitlines()[0] == "User: Where <is> it?"
    assert failure.text.endswith("Billing: Lost.\ufffd\ufffd")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [("", Verdict.PASS), ("p", Verdict.PASS), ("pe", Verdict.ERROR), ("epf", Verdict.FAIL)],
)
def test_a_failure_is_worse_than_what_could_not_be_told(verdicts: str, expected: Verdict):
    kinds = {"p": Verdict.PASS, "f": Verdict.FAIL, "e": Verdict.ERROR}
    assert worst([result("s", 1, kinds[each]) for each in verdicts]) is expected
