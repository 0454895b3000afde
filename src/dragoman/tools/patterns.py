"""Patterns that models write, matched in bounded time: globs over paths, and regular expressions over lines.

Python's `re` backtracks, so one pattern can take minutes on one line, and it holds the interpreter's lock while it
does: a worker thread or a deadline between lines would not save the server. Refusing patterns that look dangerous
misses some (`.*a.*b` is cubic) and refuses good ones. So regular expressions run on the linear-time engine that
`jsonschema_rs` carries for untrusted patterns: no look-around and no back-references, and no pattern that hangs.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache

import jsonschema_rs

REGEX_CHARS_MAX = 1_000
REGEX_COMPILED_BYTES_MAX = 256 * 1024
REGEX_CACHE_BYTES_MAX = 1024 * 1024
GLOB_CHARS_MAX = 500
GLOB_ALTERNATIVES_MAX = 32
"""How many globs `{a,b}` groups may stand for."""

_GROUP = re.compile(r"\{([^{}]*)\}")


class BadPattern(Exception):
    """`str()` is a sentence that says what to write instead."""


def regex(pattern: str, *, ignore_case: bool = False) -> Callable[[str], bool]:
    """Whether the pattern is found anywhere in a text, in time linear in the text. Raises BadPattern."""
    if len(pattern) > REGEX_CHARS_MAX:
        raise BadPattern(f"The regular expression is longer than {REGEX_CHARS_MAX} characters.")
    options = jsonschema_rs.RegexOptions(size_limit=REGEX_COMPILED_BYTES_MAX, dfa_size_limit=REGEX_CACHE_BYTES_MAX)
    try:
        validator = jsonschema_rs.validator_for(
            {"type": "string", "pattern": f"(?i){pattern}" if ignore_case else pattern}, pattern_options=options
        )
    except (jsonschema_rs.ValidationError, ValueError):
        raise BadPattern(
            "The regular expression is not valid here, or too large. Look-around and back-references are not "
            "offered; write a simpler one or search for plain text."
        ) from None
    return validator.is_valid


def glob(pattern: str) -> Callable[[str], bool]:
    """Whether a path with `/` fits: `*` and `?` stay within a name, `**` spans folders, `{a,b}` offers a choice.

    Upper and lower case differ. Raises BadPattern.
    """
    choices = tuple(tuple(one.split("/")) for one in _alternatives(pattern))

    def fits(path: str) -> bool:
        names = path.split("/")
        return any(_fits(choice, names) for choice in choices)

    return fits


def _alternatives(pattern: str) -> list[str]:
    if not pattern or len(pattern) > GLOB_CHARS_MAX:
        raise BadPattern(f"A glob has 1 to {GLOB_CHARS_MAX} characters, such as *.py or src/**/*.md.")
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        one = waiting.pop()
        group = _GROUP.search(one)
        if group is None:
            done.append(one)
        else:
            waiting.extend(one[: group.start()] + choice + one[group.end() :] for choice in group[1].split(","))
        if len(done) + len(waiting) > GLOB_ALTERNATIVES_MAX:
            raise BadPattern(f"The glob's {{…}} groups stand for more than {GLOB_ALTERNATIVES_MAX} globs; use fewer.")
    return done


def _fits(segments: Sequence[str], names: Sequence[str]) -> bool:
    """Row by row: after `segments[:i]`, which counts of names may be used up. `**` may use up any number."""
    reachable = {0}
    for segment in segments:
        if segment == "**":
            reachable = set(range(min(reachable), len(names) + 1))
        else:
            name = _name(segment)
            reachable = {at + 1 for at in reachable if at < len(names) and name.fullmatch(names[at])}
        if not reachable:
            return False
    return len(names) in reachable


@lru_cache(maxsize=256)
def _name(segment: str) -> re.Pattern[str]:
    """One name of a glob. `fnmatch` writes `*` as an atomic group, so this does not backtrack exponentially."""
    return re.compile(translate(segment))
