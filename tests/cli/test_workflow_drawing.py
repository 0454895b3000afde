"""Workflows as images."""

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from dragoman.cli.workflow_drawing import LABEL_CHARS_MAX, svg
from dragoman.core.workflows import Pipeline, Workflow
from tests.cli.test_workflow_graph import INNER, SHOP, member

NS = "{http://www.w3.org/2000/svg}"
HUB = Workflow(
    "Hub",
    "desk",
    (
        member("desk", *(f"expert {at}" for at in range(8))),
        *(member(f"expert {at}", "desk", f"helper {at}", f"helper {(at + 5) % 20}") for at in range(8)),
        *(member(f"helper {at}", "desk", f"helper {(at * 7 + 3) % 20}", tools=("t",) * (at % 4)) for at in range(20)),
        member("alone", "desk"),
    ),
)
"""30 agents, most of which hand over across several rows, upwards or within one."""


@pytest.fixture(autouse=True)
def command() -> Any:
    with click.Context(click.Command("x")):
        yield


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


def test_the_image_shows_every_agent_step_and_edge():
    image = drawn(SHOP)
    assert sorted(texts(image)) == sorted(
        ["Front Desk", "Billing", "Search", "Intake", "Extract", "Register", "Extract", "Nobody's", "Spare"]
    )
    edges = [path.attrib["class"] for path in image.iter(f"{NS}path") if path.attrib["class"] != "tip"]
    assert edges == ["edge", "edge calls", "edge calls"]
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


def lines(image: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of each line between boxes, of its curves many."""
    found: list[list[tuple[float, float]]] = []
    for path in image.iter(f"{NS}path"):
        if path.attrib["class"] == "tip":
            continue
        points: list[tuple[float, float]] = []
        for letter, numbers in re.findall(r"([MLC])([^MLC]+)", path.attrib["d"]):
            given = [tuple(map(float, pair.split(","))) for pair in numbers.split()]
            if letter == "C":
                given = [bezier(points[-1], *given, at / 20) for at in range(1, 21)]
            points += given
        found.append(points)
    return found


def bezier(*points: Any) -> tuple[float, float]:
    *corners, at = points
    while len(corners) > 1:
        corners = [tuple(a + (b - a) * at for a, b in zip(*two, strict=True)) for two in pairwise(corners)]
    return corners[0]


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("workflow", [SHOP, HUB], ids=lambda workflow: workflow.name)
def test_no_line_crosses_a_box(workflow: Workflow, tools: bool):
    image = drawn(workflow, tools=tools)
    placed = boxes(image).values()
    for points in lines(image):
        for x, y in points[1:-1]:
            inside = [box for box in placed if box[0] < x < box[0] + box[2] and box[1] < y < box[1] + box[3]]
            assert not inside, (x, y)
        ends = [[b for b in placed if b[0] < x < b[0] + b[2] and y in edge_of(b)] for x, y in (points[0], points[-1])]
        assert all(ends), (points[0], points[-1])
        assert all(0 < x < float(image.attrib["width"]) and 0 < y < float(image.attrib["height"]) for x, y in points)


def edge_of(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return box[1], pytest.approx(box[1] + box[3], abs=0.2)


def test_every_hand_over_has_a_tip():
    image = drawn(HUB)
    tips = [path for path in image.iter(f"{NS}path") if path.attrib["class"] == "tip"]
    # Those from one agent to itself are not there.
    assert len(tips) == sum(len({*each.agents} - {each.name}) for each in HUB.members)
    assert svg(HUB) == svg(HUB)


def test_two_who_hand_over_to_each_other_have_one_line():
    image = drawn(Workflow("w", "a", (member("a", "b"), member("b", "a"))))
    assert [path.attrib["class"] for path in image.iter(f"{NS}path")] == ["edge", "tip", "tip"]


def test_wide_letters_have_room():
    def width(name: str) -> float:
        return boxes(drawn(Workflow("w", name, (member(name),))))[name][2]

    assert width("店舗サポート") == width("x" * 12)
    assert width("cafe\u0301") == width("café")


def test_a_pipeline_may_begin():
    begun = Workflow("w", "p", (member("s", step=True, **INNER), member("a")), pipelines=(Pipeline("p", ("s",)),))
    assert 'class="frame start"' in svg(begun)


def test_names_cannot_break_out_of_the_image():
    evil = '"]; click n0 "javascript:x" <script>&`#end'
    workflow = Workflow(evil, evil, (member(evil, tools=(evil,)),))
    image = drawn(workflow, tools=True)
    assert {child.tag for child in image.iter()} <= {
        NS + tag for tag in ("svg", "title", "style", "path", "g", "rect", "text")
    }
    assert texts(image)[0] == evil[: LABEL_CHARS_MAX - 1] + "…"


def test_the_image_needs_nothing_from_elsewhere():
    drawing = svg(SHOP).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\((?!#)|@import|<script|href", drawing)
    assert 'width="' in svg(Workflow("w", "", ()))
