"""The error tree: what each kind carries, and that its drawing is the tree."""

import inspect
import re

import pytest

from dragoman.core import errors
from dragoman.core.errors import DragomanError, FieldFault

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DragomanError)]

ROW = re.compile(r"^ {4}(?P<depth>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: {2,}.*? {2,}(?P<code>\w+)…?)?$", re.MULTILINE)
STEP = 4
"""Columns by which the drawing goes in for each level."""


def drawn() -> dict[str, tuple[str, str]]:
    """Each kind in the docstring's drawing: its parent and its code."""
    rows: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for row in ROW.finditer(errors.__doc__ or ""):
        depth = len(row["depth"]) // STEP
        above[depth:] = [row["name"]]
        rows[row["name"]] = (above[depth - 1] if depth else "Exception", row["code"] or "error")
    return rows


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    tree = {kind.__name__: kind.__mro__[1].__name__ for kind in KINDS}
    assert {name: parent for name, (parent, _) in drawn().items()} == tree


def test_the_drawing_names_the_code_of_each_kind() -> None:
    codes = {kind.__name__: kind.code for kind in KINDS if not issubclass(kind, errors.BackendFailed)}
    shown = {name: code for name, (_, code) in drawn().items() if name in codes}
    assert shown == codes


def test_a_kind_that_is_no_special_case_of_another_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS if kind is not errors.ToolFailed]
    assert sorted(set(codes)) == sorted(codes)


def test_what_the_log_may_know_stands_only_in_the_text_for_the_log() -> None:
    error = errors.NotFound("There is no run r.", what="run", internal="shard 7")
    assert (error.detail, error.internal, error.what) == ("There is no run r.", "shard 7", "run")
    assert error.args == ("There is no run r.",)
    assert str(error) == "There is no run r. (shard 7)"
    assert str(errors.Conflict("Not now.")) == "Not now."


def test_a_bad_request_lists_every_fault_in_order() -> None:
    faults = [FieldFault("a", "is missing", "missing"), FieldFault("b.0", "is wrong")]
    error = errors.BadRequest("a is missing; b.0 is wrong", faults=faults)
    assert error.faults == tuple(faults)
    assert error.faults[1].type == "invalid"
    assert errors.BadRequest("No.").faults == ()


def test_too_large_is_a_bad_request_that_says_how_much_is_allowed() -> None:
    error = errors.TooLarge("Too large.", bytes_max=10)
    assert isinstance(error, errors.BadRequest)
    assert (error.code, error.bytes_max, error.faults) == ("too_large", 10, ())


def test_a_limit_names_its_key_and_when_to_come_back() -> None:
    error = errors.LimitReached("Wait.", limit="per_ip_rpm", retry_after_s=2.5)
    assert (error.code, error.limit, error.retry_after_s) == ("limit_reached", "per_ip_rpm", 2.5)


def test_a_narrowed_code_is_that_of_one_error_and_not_of_its_kind() -> None:
    full = errors.Unavailable("The disk is full.", code="storage_full")
    assert (full.code, full.retry_after_s) == ("storage_full", 5.0)
    assert (errors.Unavailable("Later.").code, errors.Unavailable.code) == ("unavailable", "unavailable")


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (errors.BackendFailed("It failed."), "upstream_failed", False),
        (errors.BackendFailed("It is busy.", code="upstream_limited", retryable=True), "upstream_limited", True),
        (errors.ToolFailed("No such file."), "tool_failed", False),
        (errors.ToolFailed("It took too long.", code="timeout"), "timeout", False),
    ],
)
def test_a_failure_behind_us_says_whether_asking_again_is_worth_it(
    error: errors.BackendFailed, code: str, retryable: bool
) -> None:
    assert (error.code, error.retryable, error.retry_after_s) == (code, retryable, None)


def test_the_allowed_methods_and_the_kept_wait_are_given_on() -> None:
    assert errors.WrongMethod("No.", allowed=["GET", "HEAD"]).allowed == ("GET", "HEAD")
    assert errors.BackendFailed("Busy.", retry_after_s=3.0).retry_after_s == 3.0
