"""What the readers of R10 take for wrong: each thing broken by hand must be told."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.clients import World
from tests.crash.history import History
from tests.crash.listening import ChatReader, Frame
from tests.crash.scene import Result, Scene, Trial

ASKED = {"id": "r1-q1", "content": "hi", "hidden": False}
SAID = {"id": "r1-a1", "content": "It is fine.", "hidden": False}
SAID_AT_FIRST = SAID | {"content": "It"}
RUN = {"taskId": "r1"}

Told = list[tuple[str, str, dict[str, Any]]]
ALL: Told = [
    ("1", "MESSAGE_CREATED", ASKED),
    ("2", "AGENT_EXECUTION_STARTED", RUN),
    ("4", "MESSAGE_CREATED", SAID_AT_FIRST),
    ("9.1", "MESSAGE_UPDATED", SAID),
    ("9", "AGENT_EXECUTION_COMPLETED", RUN),
]


def reader_of(told: Told) -> tuple[ChatReader, Scene]:
    """A reader that was told these."""
    scene = Scene.__new__(Scene)
    scene.result = Result(Trial("R10", 1))
    scene.world = World([], {"amber": "x"}, History(), "seed")
    reader = ChatReader(scene, "reader", "amber", "header", None)
    for id, kind, data in told:
        reader.take(Frame(id, json.dumps({"type": kind, "data": {**data, "chatId": "c"}}).encode()))
    return reader, scene


def wrong(told: Told) -> list[str]:
    reader, scene = reader_of(told)
    if not scene.result.violations:
        reader.judge([ASKED, SAID])
    return [each.text for each in scene.result.violations]


def test_a_reader_that_heard_all_is_content():
    assert wrong(ALL) == []
    reader, _ = reader_of(ALL)
    assert reader.knows([ASKED, SAID])


def test_the_runs_of_before_it_came_need_not_be_told():
    assert wrong([ALL[0], ALL[2], ALL[3]]) == []


@pytest.mark.parametrize("left_out", range(5))
def test_a_reader_that_misses_anything_that_counts_is_not(left_out: int):
    told = ALL[:left_out] + ALL[left_out + 1 :]
    reader, _ = reader_of(told)
    assert wrong(told) or not reader.knows([ASKED, SAID])


BROKEN: list[tuple[Callable[[], Told], str]] = [
    (lambda: [*ALL, ALL[-1]], "reader heard 9 after 9"),
    (lambda: [*ALL[:3], ("4", "MESSAGE_UPDATED", SAID)], "reader heard 4 after 4"),
    (lambda: [ALL[0], ALL[2], ALL[1]], "reader heard 2 after 4"),
    (lambda: [*ALL, ("10", "MESSAGE_CREATED", SAID)], "reader was told 2 times that r1-a1 was created"),
    (lambda: [*ALL[:2], ALL[3], ALL[4]], "reader was told 0 times that r1-a1 was created"),
    (
        lambda: [*ALL, ("10", "AGENT_EXECUTION_COMPLETED", RUN)],
        "reader was told of turns' beginnings and ends: [(1, 2)]",
    ),
    (lambda: ALL[:-1], "reader was told of turns' beginnings and ends: [(1, 0)]"),
    (
        lambda: [*ALL, ("10", "MESSAGE_CREATED", SAID | {"id": "r2-a1"})],
        "reader was told of the message r2-a1, which the chat has not",
    ),
]


@pytest.mark.parametrize(("told", "sentence"), BROKEN)
def test_what_is_broken_is_seen(told: Callable[[], Told], sentence: str):
    assert sentence in wrong(told())
