"""Exit codes and sentences for whatever goes wrong."""

import pytest

from dragoman.access.pepper import BadPepper
from dragoman.cli.failing import exit_code, explain, run_exit_code, sentence, unwrapped
from dragoman.core import errors
from dragoman.server.config_sources import BadConfig


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadRequest("x"), 2),
        (errors.TooLarge("x", bytes_max=1), 2),
        (errors.Conflict("x"), 2),
        (errors.WrongMethod("x", allowed=()), 2),
        (errors.NotOffered("x"), 2),
        (errors.NotFound("x", what="run"), 3),
        (errors.NotAuthenticated("x"), 4),
        (errors.NotAllowed("x"), 4),
        (errors.BackendFailed("x"), 5),
        (errors.ToolFailed("x"), 5),
        (errors.LimitReached("x", limit="y"), 75),
        (errors.Unavailable("x", code="storage_full"), 75),
        (OSError(13, "Permission denied"), 75),
        (BadConfig("x"), 78),
        (BadPepper("x"), 78),
        (errors.DragomanError("x"), 1),
        (ValueError("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_code(error: BaseException, code: int):
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("code", "expected"),
    [("upstream_idle", 5), ("step_limit", 5), ("storage_full", 75), ("unavailable", 75), ("not_found", 3)],
)
def test_a_failed_run_has_a_code_too(code: str, expected: int):
    assert run_exit_code(code) == expected


def test_groups_of_one_are_unwrapped_and_of_several_ours_counts():
    ours = errors.NotFound("x", what="run")

    assert unwrapped(ours) is ours
    assert unwrapped(ExceptionGroup("a", [ExceptionGroup("b", [ours])])) is ours
    assert unwrapped(ExceptionGroup("a", [ValueError(), ours])) is ours


def test_what_is_for_the_log_is_shown_only_when_asked():
    error = errors.Unavailable("The store is locked.", internal="SQLITE_BUSY")

    assert sentence(error, verbose=False) == "The store is locked."
    assert sentence(error, verbose=True) == "The store is locked. (SQLITE_BUSY)"


def test_an_error_of_the_system_names_its_file():
    assert sentence(PermissionError(13, "Permission denied", "/x/y"), verbose=False) == "Permission denied: /x/y"
    assert sentence(OSError(28, "No space left on device"), verbose=False) == "No space left on device"


def test_explaining_prints_one_line_and_gives_the_code(capsys: pytest.CaptureFixture[str]):
    assert explain(ExceptionGroup("g", [errors.NotAllowed("No.")]), verbose=False) == 4
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "dragoman: No.\n")
