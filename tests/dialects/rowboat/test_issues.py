"""What is wrong with a body, in the form that callers of this wire know."""

import json
from typing import Any

import pytest

from dragoman.core.errors import FieldFault
from dragoman.dialects.rowboat import issues
from dragoman.dialects.rowboat.issues import MISSING


def told(detail: str) -> list[dict[str, Any]]:
    return json.loads(detail.removeprefix(issues.INVALID_BODY))


def test_a_missing_member_is_told_as_the_live_system_does() -> None:
    error = issues.invalid([issues.wrong_type(("messages",), "array", MISSING)])
    assert error.detail == (
        'Invalid request body: [\n  {\n    "code": "invalid_type",\n    "expected": "array",\n'
        '    "received": "undefined",\n    "path": [\n      "messages"\n    ],\n    "message": "Required"\n  }\n]'
    )
    assert [(fault.field, fault.message) for fault in error.faults] == [("messages", "Required")]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "null"), (True, "boolean"), (1, "number"), (1.5, "number"), ("", "string"), ([], "array"), ({}, "object")],
)
def test_every_kind_of_value_has_its_name(value: Any, kind: str) -> None:
    assert issues.wrong_type((), "x", value).message == f"Expected x, received {kind}"


def test_a_text_that_is_none_of_the_options_is_shown_and_cut() -> None:
    issue = issues.none_of(("messages", 0, "role"), ("user", "tool"), "d" * 101)
    assert issue.code == "invalid_enum_value"
    assert issue.message == f"Expected 'user' | 'tool', received '{'d' * 100}'"
    assert issues.none_of((), ("user",), 7).code == "invalid_type"


def test_a_time_must_be_a_text_first() -> None:
    assert issues.not_a_time((), "soon").code == "invalid_string"
    assert issues.not_a_time((), 7).code == "invalid_type"


def test_so_many_issues_are_told_and_no_more() -> None:
    many = [issues.too_big(("messages", at), "characters", 300, 256) for at in range(issues.ISSUES_MAX + 1)]
    error = issues.invalid(many)
    assert [issue["path"][1] for issue in told(error.detail)] == list(range(issues.ISSUES_MAX))
    assert len(error.faults) == issues.ISSUES_MAX + 1


def test_the_second_generation_says_nothing_but_that_it_is_invalid() -> None:
    error = issues.invalid([issues.wrong_type(("messages",), "array", MISSING)], silent=True)
    assert (error.detail, error.faults[0].field) == ("Invalid request", "messages")


def test_a_limit_of_ours_says_where_and_what() -> None:
    issue = issues.limit_of(FieldFault("messages.0." + "k" * 200, "Too deep.", "too_deep"))
    assert (issue.path, issue.received, issue.message) == (("messages", "0", "k" * 100), "too_deep", "Too deep.")
    assert issues.limit_of(FieldFault("", "Too many.", "too_many_values")).path == ()
