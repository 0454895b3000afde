"""What went wrong, as one sentence on stderr and an exit code."""

import traceback
from typing import cast

import click

from dragoman.core import errors

USAGE = 2
NOT_FOUND = 3
DENIED = 4
UPSTREAM = 5
TRY_LATER = 75
BAD_CONFIG = 78
OURS = 1

_BY_CLASS: tuple[tuple[type[errors.DragomanError], int], ...] = (
    (errors.NotFound, NOT_FOUND),
    (errors.NotAuthenticated, DENIED),
    (errors.NotAllowed, DENIED),
    (errors.BackendFailed, UPSTREAM),
    (errors.LimitReached, TRY_LATER),
    (errors.Unavailable, TRY_LATER),
    (errors.BadRequest, USAGE),
    (errors.WrongMethod, USAGE),
    (errors.Conflict, USAGE),
    (errors.NotOffered, USAGE),
)

_BY_RUN_CODE = {
    "limit_reached": TRY_LATER,
    "unavailable": TRY_LATER,
    "storage_full": TRY_LATER,
    "not_found": NOT_FOUND,
}


def exit_code(error: BaseException) -> int:
    """75 for what may go well later, 78 for what the configuration must change, and so on; 1 for a fault of ours."""
    if not isinstance(error, errors.DragomanError):
        return TRY_LATER if isinstance(error, OSError) else OURS
    if error.code == "bad_config":
        return BAD_CONFIG
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), OURS)


def run_exit_code(code: str) -> int:
    """The exit code for a run that ended in RunFailed with this code: a model or tool failed, unless it says else."""
    return _BY_RUN_CODE.get(code, UPSTREAM)


def unwrapped(error: BaseException) -> BaseException:
    """The error inside groups of one, as task groups make them; of several the first that is ours."""
    while isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        error = next((each for each in inside if isinstance(each, errors.DragomanError)), inside[0])
    return error


def explain(error: Exception, *, verbose: bool) -> int:
    """Say it on stderr; the exit code. With `verbose` the traceback comes first."""
    cause = unwrapped(error)
    if verbose:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(f"dragoman: {sentence(cause, verbose=verbose)}", err=True)
    return exit_code(cause)


def sentence(error: BaseException, *, verbose: bool) -> str:
    if isinstance(error, errors.DragomanError):
        return str(error) if verbose else error.detail
    if isinstance(error, OSError):
        what = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or type(error).__name__}{what}"
    hint = "" if verbose else " Run it again with -v to see where."
    return f"something went wrong inside dragoman ({type(error).__name__}: {error}).{hint}"
