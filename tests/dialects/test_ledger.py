"""Ledgers of behaviours: every requirement has its test or transcript, and every transcript its requirement."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LEDGERS = sorted(HERE.glob("*/requirements.toml"))
KEYS = {"id", "sentence", "source", "covered_by"}
REASONS = {"divergence", "deferred"}


def requirements(ledger: Path) -> list[dict[str, Any]]:
    return tomllib.loads(ledger.read_text())["requirement"]


def functions_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def name_of(ledger: Path) -> str:
    return ledger.parent.name


@pytest.mark.parametrize("ledger", LEDGERS, ids=name_of)
def test_every_requirement_has_an_id_of_its_own_a_sentence_and_a_source(ledger: Path) -> None:
    rows = requirements(ledger)
    assert [row["id"] for row in rows if not KEYS <= row.keys() <= KEYS | REASONS] == []
    assert [row["id"] for row in rows if not row["sentence"].endswith(".") or not row["source"]] == []
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith(f"{name_of(ledger)}:") for each in ids)


@pytest.mark.parametrize("ledger", LEDGERS, ids=name_of)
def test_every_requirement_is_covered_or_says_why_not(ledger: Path) -> None:
    bare = [row["id"] for row in requirements(ledger) if not row["covered_by"] and "deferred" not in row]
    assert bare == []


@pytest.mark.parametrize("ledger", LEDGERS, ids=name_of)
def test_what_covers_a_requirement_exists(ledger: Path) -> None:
    missing: list[str] = []
    for row in requirements(ledger):
        for cover in row["covered_by"]:
            file, _, test = cover.partition("::")
            path = ledger.parent / file
            if not path.exists() or (test and test not in functions_in(path)):
                missing.append(f"{row['id']}: {cover}")
    assert missing == []


@pytest.mark.parametrize("ledger", LEDGERS, ids=name_of)
def test_every_transcript_shows_a_requirement(ledger: Path) -> None:
    covers = {cover for row in requirements(ledger) for cover in row["covered_by"]}
    assert sorted(path.name for path in ledger.parent.glob("*.txt") if path.name not in covers) == []
