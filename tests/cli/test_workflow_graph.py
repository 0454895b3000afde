"""Workflows as pictures."""

import re
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from dragoman.cli.workflow_graph import LABEL_CHARS_MAX, PIPELINE, ROW_MAX, mermaid, rows, svg
from dragoman.core.agents import AgentSpec
from dragoman.core.workflows import Member, Pipeline, Visibility, Workflow

NS = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def command() -> Any:
    with click.Context(click.Command("x")):
        yield


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


def drawn(workflow: Workflow, **how: Any) -> ElementTree.Element:
    return ElementTree.fromstring(svg(workflow, **how))


def texts(image: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in image.iter(f"{NS}text")]


def boxes(image: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    """x, y, width, height by the first word of the title; the last of each name."""
    found: dict[str, tuple[float, float, float, float]] = {}
    for group in image.iter(f"{NS}g"):
        rect, title = group.find(f"{NS}rect"), group.find(f"{NS}title")
        assert rect is not None and title is not None
        x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        found[(title.text or "").partition(":")[0]] = (x, y, width, height)
    return found


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
    assert 'class="frame start"' in svg(begun)


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


def test_names_cannot_break_out_of_either():
    evil = '"]; click n0 "javascript:x" <script>&`#end'
    workflow = Workflow(evil, evil, (member(evil, tools=(evil,)),))
    (line,) = [line for line in mermaid(workflow).splitlines() if line.startswith("  n0")]
    label = line.removeprefix('  n0["').removesuffix('"]')
    assert re.fullmatch(r"(?:[A-Za-z0-9 _.,:/-]|#\d+;)+", label)
    image = drawn(workflow, tools=True)
    assert {child.tag for child in image.iter()} <= {
        NS + tag for tag in ("svg", "title", "style", "defs", "marker", "path", "g", "rect", "text")
    }
    assert texts(image)[0] == evil[: LABEL_CHARS_MAX - 1] + "…"


def test_the_image_shows_every_agent_step_and_edge():
    image = drawn(SHOP)
    assert sorted(texts(image)) == sorted(
        ["Front Desk", "Billing", "Search", "Intake", "Extract", "Register", "Extract", "Nobody's", "Spare"]
    )
    edges = [path for path in image.iter(f"{NS}path") if "marker-end" in path.attrib]
    assert [path.get("class") for path in edges] == [None, "calls", None, "calls"]
    dashed = [rect.attrib["class"] for rect in image.iter(f"{NS}rect")]
    assert dashed.count("box internal") == 4 and dashed.count("box start") == 1
    assert texts(drawn(SHOP, tools=True)).count("get_order") == 1


def test_boxes_do_not_overlap_and_steps_stand_inside_their_pipeline():
    image = drawn(SHOP, tools=True)
    found = boxes(image)
    x, y, width, height = found["Intake"]
    for step in ("Extract", "Register"):
        inner = found.pop(step)
        assert x < inner[0] and inner[0] + inner[2] < x + width
        assert y < inner[1] and inner[1] + inner[3] < y + height
    placed = list(found.values())
    for at, (x, y, width, height) in enumerate(placed):
        assert 0 < x and x + width < float(image.attrib["width"])
        assert 0 < y and y + height < float(image.attrib["height"])
        for left, top, across, down in placed[at + 1 :]:
            assert x + width < left or left + across < x or y + height < top or top + down < y


def test_the_image_needs_nothing_from_elsewhere():
    drawing = svg(SHOP).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\((?!#)|@import|<script|href", drawing)
    assert 'width="' in svg(Workflow("w", "", ()))
