"""How runs of simulations are told: a table for people, JSON for programs, JUnit's XML for a CI, and transcripts."""

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import click
from msgspec.structs import asdict

from dragoman.cli.terminal import dim, printable, say
from dragoman.cli.times import fine, iso
from dragoman.core.simulations import Line, SimulationResult, SimulationRun, Verdict, as_text

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0, 2.2."""
_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.ERROR: "yellow"}


def grouped(run: SimulationRun) -> dict[str, list[SimulationResult]]:
    """Results by simulation, in the order of the file."""
    found: dict[str, list[SimulationResult]] = {}
    for result in run.results:
        found.setdefault(result.simulation, []).append(result)
    return found


def verdict_word(verdict: Verdict) -> str:
    return click.style(verdict.value, fg=_COLOURS[verdict])


def result_line(result: SimulationResult, attempts: int) -> str:
    """One line as soon as a result is there."""
    name = result.simulation if attempts == 1 else f"{result.simulation} #{result.attempt}"
    why = "" if result.verdict is Verdict.PASS else f"  {first(result.details)}"
    return f"{verdict_word(result.verdict)}  {printable(name)}  {fine(result.took_s)}{why}"


def rows_of(run: SimulationRun) -> list[tuple[str, str, str]]:
    """A row for each simulation: its verdicts in order, and how many of them passed."""
    rows: list[tuple[str, str, str]] = []
    for name, results in grouped(run).items():
        passed = sum(result.verdict is Verdict.PASS for result in results)
        verdicts = " ".join(result.verdict for result in results)
        rows.append((name, verdicts, f"{passed}/{len(results)}  {100 * passed // len(results)} %"))
    return rows


def say_failures(run: SimulationRun) -> None:
    """Each result that is no pass, with its transcript."""
    for result in run.results:
        if result.verdict is Verdict.PASS:
            continue
        say()
        attempt = f" #{result.attempt}" if run.planned > len(grouped(run)) else ""
        say(f"{verdict_word(result.verdict)}  {printable(result.simulation)}{attempt}: {printable(result.details)}")
        for line in as_text(result.transcript).splitlines():
            say(dim(f"  {printable(line)}"))


def total(run: SimulationRun) -> str:
    """The closing line."""
    count = run.aggregate
    parts = [f"{count.passed} of {run.planned} passed"]
    if count.failed:
        parts.append(f"{count.failed} failed")
    if count.errors:
        parts.append(f"{count.errors} could not be told")
    if left := run.planned - count.total:
        parts.append(f"{left} not done")
    return f"{', '.join(parts)}; {run.status}    (dragoman simulate show {run.id})"


def described(run: SimulationRun, *, whole: bool = True) -> dict[str, Any]:
    """For programs. `aggregate` is spelled as rowboat spec 6.3 has it. Not `whole`: without the results."""
    count = run.aggregate
    told: dict[str, Any] = {
        "id": run.id,
        "name": run.name,
        "workflow": run.workflow,
        "status": run.status,
        "started_at": iso(run.started_at),
        "completed_at": iso(run.completed_at),
        "planned": run.planned,
        "aggregate": {
            "total": count.total,
            "passCount": count.passed,
            "failCount": count.failed,
            "errorCount": count.errors,
        },
        "detail": run.detail or None,
    }
    if whole:
        told["results"] = [result_table(result) for result in run.results]
    return told


def result_table(result: SimulationResult) -> dict[str, Any]:
    return {
        "simulation": result.simulation,
        "attempt": result.attempt,
        "verdict": result.verdict,
        "details": result.details,
        "seconds": round(result.took_s, 3),
        "usage": asdict(result.usage),
        "transcript": [_line_table(line) for line in result.transcript],
    }


def _line_table(line: Line) -> dict[str, Any]:
    if line.role == "tool":
        return {"role": "tool", "tool": line.name, "arguments": line.arguments, "content": line.text}
    if line.role == "handed":
        return {"role": "handed", "from": line.name, "to": line.text}
    if line.role == "user":
        return {"role": "user", "content": line.text}
    return {"role": "assistant", "agent": line.name, "internal": line.role == "internal", "content": line.text}


def junit(run: SimulationRun) -> bytes:
    """A test suite of JUnit's, a case for each result. What was not done is skipped."""
    count = run.aggregate
    left = run.planned - count.total
    took_s = sum(result.took_s for result in run.results)
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(run.name),
        tests=str(run.planned),
        failures=str(count.failed),
        errors=str(count.errors),
        skipped=str(left),
        time=f"{took_s:.3f}",
    )
    for result in run.results:
        name = f"{result.simulation} #{result.attempt}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(run.name), name=_clean(name), time=f"{result.took_s:.3f}"
        )
        if result.verdict is not Verdict.PASS:
            tag = "failure" if result.verdict is Verdict.FAIL else "error"
            found = ElementTree.SubElement(case, tag, message=_clean(result.details))
            found.text = _clean(as_text(result.transcript))
    for number in range(left):
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(run.name), name=f"not done #{number + 1}")
        ElementTree.SubElement(case, "skipped", message="The run was stopped.")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    body: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def first(text: str, *, chars_max: int = 100) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def worst(results: Sequence[SimulationResult]) -> Verdict:
    """A fail is worse than what could not be told."""
    verdicts = {result.verdict for result in results}
    return next((each for each in (Verdict.FAIL, Verdict.ERROR) if each in verdicts), Verdict.PASS)
