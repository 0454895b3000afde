from typing import Any

import pytest

from dragoman.core.agents import Repeat
from dragoman.tools.mcp.definitions import (
    DESCRIPTION_CHARS_MAX,
    NAME_CHARS_MAX,
    SCHEMA_BYTES_MAX,
    Definition,
    Difference,
    allowed,
    clean,
    defined,
    differences,
    fault_of,
    registered_name,
)

SENT: dict[str, Any] = {
    "name": "echo",
    "title": "Echo",
    "description": "Say it again.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
    "_meta": {"v": 1},
    "icons": [],
}


def test_a_definition_is_what_the_server_sent() -> None:
    found = defined(SENT)
    assert (found.name, found.description, found.parameters) == ("echo", "Say it again.", SENT["inputSchema"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", "Echo!"),
        ("description", "Say it again. "),
        ("description", None),
        ("inputSchema", {"type": "object", "properties": {"text": {"type": "number"}}}),
        ("outputSchema", None),
        ("annotations", {"readOnlyHint": False}),
    ],
)
def test_whatever_a_model_or_we_go_by_changes_the_digest(key: str, value: object) -> None:
    assert defined(SENT | {key: value}).digest != defined(SENT).digest


def test_what_nobody_goes_by_does_not() -> None:
    other = dict(reversed(list((SENT | {"_meta": {"v": 2}, "icons": [{"src": "x"}]}).items())))
    assert defined(other).digest == defined(SENT).digest


def test_a_change_behind_the_cut_is_a_change() -> None:
    long = "x" * (DESCRIPTION_CHARS_MAX + 1)
    one, two = defined(SENT | {"description": long}), defined(SENT | {"description": long + "y"})
    assert one.description == two.description
    assert len(one.description) == DESCRIPTION_CHARS_MAX
    assert one.digest != two.digest
    exact = defined(SENT | {"description": long[:-1]})
    assert exact.description == long[:-1]


def test_what_people_do_not_see_is_taken_out_wherever_it_stands() -> None:
    hidden = "\u202e\u200b\U000e0041\x1b[31m"
    schema = {
        "type": "object",
        "properties": {"a": {"description": hidden + "x", "enum": [hidden]}},
        "allOf": [{"title": hidden}],
    }
    found = defined(SENT | {"description": f"a{hidden}\nb", "inputSchema": schema})

    assert found.description == "a[31m\nb"
    # Names and values stay as they are: they are what the server takes.
    assert found.parameters["properties"]["a"] == {"description": "[31mx", "enum": [hidden]}
    assert found.parameters["allOf"] == [{"title": "[31m"}]
    assert clean("tab\tand ümläut 日本") == "tab\tand ümläut 日本"


@pytest.mark.parametrize(
    ("hints", "repeat"),
    [
        ({"readOnlyHint": True}, Repeat.PURE),
        ({"readOnlyHint": True, "idempotentHint": True}, Repeat.PURE),
        ({"idempotentHint": True}, Repeat.IDEMPOTENT),
        ({"readOnlyHint": "yes", "idempotentHint": 1}, Repeat.ONCE),
        ({}, Repeat.ONCE),
        (None, Repeat.ONCE),
    ],
)  # fmt: skip
def test_hints_say_what_may_be_done_with_a_lost_call(hints: object, repeat: Repeat) -> None:
    assert defined(SENT | {"annotations": hints}).repeat is repeat


@pytest.mark.parametrize(
    ("name", "usable"),
    [("a" * NAME_CHARS_MAX, True), ("a" * (NAME_CHARS_MAX + 1), False), ("", False), ("a\u200bb", False)],
)
def test_names_have_limits(name: str, usable: bool) -> None:
    assert (fault_of(Definition(name, "d")) == "") is usable


def test_parameters_have_limits() -> None:
    empty = len(b'{"x":""}')
    assert fault_of(Definition("a", "d", parameters={"x": "y" * (SCHEMA_BYTES_MAX - empty)})) == ""
    assert "64 KiB" in fault_of(Definition("a", "d", parameters={"x": "y" * (SCHEMA_BYTES_MAX - empty + 1)}))


def test_differences_are_told_by_name() -> None:
    before = (Definition("a", "1"), Definition("b", "1"), Definition("c", "1"))
    after = (Definition("d", "1"), Definition("c", "2"), Definition("a", "1"))
    assert differences(before, after) == [Difference("b", "gone"), Difference("c", "changed"), Difference("d", "new")]
    assert differences(before, before) == []


def test_patterns_say_what_is_allowed() -> None:
    assert allowed(("find_*", "echo"), "find_ticket")
    assert not allowed(("find_*", "echo"), "echoes")
    assert not allowed((), "echo")


def test_registered_names_are_usable_and_stay_apart() -> None:
    assert registered_name("helpdesk", "echo") == "helpdesk_echo"
    dotted, slashed = registered_name("help.desk", "a/b"), registered_name("help.desk", "a.b")
    assert dotted.startswith("help_desk_a_b_")
    assert dotted != slashed
    assert len(registered_name("h", "x" * 62)) == 64
    assert registered_name("h", "x" * 62) == "h_" + "x" * 62
    long, longer = registered_name("h", "x" * 63), registered_name("h", "x" * 64)
    assert len(long) == len(longer) == 64
    assert long != longer
