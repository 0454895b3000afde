"""Workflows as graphs, and as Mermaid's text."""

import re
from typing import Any

from dragoman.cli.workflow_graph import PIPELINE, ROW_MAX, mermaid, rows
from dragoman.core.agents import AgentSpec
from dragoman.core.workflows import Member, Pipeline, Visibility, Workflow


def member(name: str, *agents: str, **how: Any) -> Member:
    return Member(AgentSpec(name, "", tools=()), agents=agents, **how)


INNER: dict[str, Any] = {"visibility": Visibility.INTERNAL}
SHOP = Workflow(
    "Shop",
    "Front Desk",
    (
        member("Front Desk", "Billing", "Search", pipelines=("Intake",), tools=("get_order",)),
        member("Billing", "Front Desk", description="Orders & refunds"),
        member("Search", **INNER),
        member("Extract", step=True, **INNER),
        member("Register", step=True, **INNER),
        member("Nobody's"),
    ),
    pipelines=(Pipeline("Intake", ("Extract", "Register", "Extract")), Pipeline("Spare", ())),
)


def test_rows_are_the_distance_from_the_start_and_the_unreached_come_last():
    assert rows(SHOP) == [
        ["Front Desk"],
        ["Billing", "Search", PIPELINE + "Intake"],
        ["Nobody's", PIPELINE + "Spare"],
    ]


def test_a_row_holds_so_many_and_no_more():
    names = [f"a{at}" for at in range(ROW_MAX + 1)]
    wide = Workflow("w", "s", (member("s", *names), *map(member, names)))
    assert rows(wide) == [["s"], names[:ROW_MAX], names[ROW_MAX:]]


def test_a_workflow_may_begin_with_a_pipeline():
    begun = Workflow("w", "p", (member("s", step=True, **INNER), member("a")), pipelines=(Pipeline("p", ("s",)),))
    assert rows(begun) == [[PIPELINE + "p"], ["a"]]
    assert "start(( )) --> n1" in mermaid(begun)


def test_mermaid_says_all_of_it():
    assert mermaid(SHOP).splitlines() == [
        "flowchart TD",
        "  classDef internal stroke-dasharray: 5 4",
        "  start(( )) --> n0",
        '  n0["Front Desk"]',
        '  n1["Billing"]',
        '  n2["Search"]:::internal',
        '  n3["Nobody#39;s"]',
        '  subgraph n4["Intake"]',
        '    n4s0["Extract"]:::internal',
        '    n4s1["Register"]:::internal',
        '    n4s2["Extract"]:::internal',
        "    n4s0 --> n4s1",
        "    n4s1 --> n4s2",
        "  end",
        '  subgraph n5["Spare"]',
        "  end",
        "  n0 --> n1",
        "  n0 -.-> n2",
        "  n1 --> n0",
        "  n0 -.-> n4",
    ]
    assert 'n0["Front Desk<br/>get_order"]' in mermaid(SHOP, tools=True)


def test_names_cannot_break_out_of_a_label():
    evil = '"]; click n0 "javascript:x" <script>&`#end'
    workflow = Workflow(evil, evil, (member(evil, tools=(evil,)),))
    (line,) = [line for line in mermaid(workflow).splitlines() if line.startswith("  n0")]
    label = line.removeprefix('  n0["').removesuffix('"]')
    assert re.fullmatch(r"(?:[A-Za-z0-9 _.,:/-]|#\d+;)+", label)
