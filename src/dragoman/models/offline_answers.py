"""Answers made from tool results by templates. Pure; part of the offline router.

What a result is shows in its content (JSON, lines, a file's text); the tool's name only tells what to call it. Whatever
is left out is counted out loud.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.models.offline_reading import split_name
from dragoman.models.offline_series import rows_of

ITEMS_MAX = 100
"""Lines or items of one result that are shown."""

FILE_LINES_MAX = 200
CHARS_MAX = 8_000
"""Of one result, whatever its kind."""

VALUE_CHARS_MAX = 300
FIELDS_MAX = 30

_MATCH = re.compile(r"^(?P<path>[^\s:][^:\n]*):(?P<line>\d+):")
_NOTICE = re.compile(r"^\[.*\]$")


class Result(Struct, frozen=True):
    """What a tool said, and what it had been asked. `arguments` is {} if they cannot be read."""

    tool: str
    arguments: dict[str, Any]
    content: str
    is_error: bool


def answer(results: Sequence[Result]) -> str:
    """One paragraph or list for each result, in their order."""
    return "\n\n".join(_shown(_unwrapped(result)) for result in results)


def _unwrapped(result: Result) -> Result:
    """Of a loop that wants each result as an object (`core.agents.Loop`), what the tool itself said."""
    if not result.content.startswith('{"response":'):
        return result
    try:
        said = _response.decode(result.content).response
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return result
    content = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    return replace(result, content=content)


class _Wrapped(Struct, frozen=True, forbid_unknown_fields=True):
    response: Any


_response = msgspec.json.Decoder(_Wrapped)


def _shown(result: Result) -> str:
    content = result.content.strip("\n")
    if result.is_error:
        return f"{result.tool} could not do it: {_clipped(content.strip(), CHARS_MAX)}"
    if not content.strip():
        return f"{result.tool} is done and said nothing."
    words = split_name(result.tool).lower().split()
    if "read" in words or "cat" in words:  # whatever is in the file: JSON too
        return _file(result, content.split("\n"))
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _text(result, content)
    if isinstance(value, dict):
        return _object(result, cast("dict[str, Any]", value))
    if isinstance(value, list):
        return _list(_noun(result.tool), cast("list[Any]", value), None)
    return f"{result.tool} says: {_value(value)}"


# -- text ------------------------------------------------------------------------------------------------------------


def _text(result: Result, content: str) -> str:
    lines = content.split("\n")
    words = split_name(result.tool).lower().split()
    if len(lines) == 1 and (" " in content or not words or words[0] not in ("list", "find")):
        found = _MATCH.match(content)
        return _matches(result, lines) if found and "search" in words else content[:CHARS_MAX]
    if all(_MATCH.match(line) or _NOTICE.match(line) for line in lines):
        return _matches(result, lines)
    if words[0] in ("list", "find", "ls"):
        return _paths(result, lines)
    return f"{result.tool} says:\n\n{_fenced(lines)}"


def _file(result: Result, lines: list[str]) -> str:
    name = result.arguments.get("path")
    title = f"Here is {name}:" if isinstance(name, str) and name else "Here is the file:"
    return f"{title}\n\n{_fenced(lines)}"


def _fenced(lines: list[str]) -> str:
    kept, left_out = _within(lines, FILE_LINES_MAX)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", "\n".join(kept))), default=0))
    return "\n".join([fence, *kept, fence, *_left_out(left_out, "line")])


def _matches(result: Result, lines: list[str]) -> str:
    matches = [line for line in lines if not _NOTICE.match(line)]
    files = {found["path"] for found in map(_MATCH.match, matches) if found}
    query = result.arguments.get("query")
    about = f" for {query!r}" if isinstance(query, str) else ""
    title = f"Found {_count(len(matches), 'matching line')}{about} in {_count(len(files), 'file')}:"
    return _bullets(title, lines)


def _paths(result: Result, lines: list[str]) -> str:
    paths = [line for line in lines if not _NOTICE.match(line)]
    folders = sum(path.endswith("/") for path in paths)
    parts = [_count(number, what) for number, what in ((len(paths) - folders, "file"), (folders, "folder")) if number]
    where = result.arguments.get("path")
    place = f"in {where}" if isinstance(where, str) and where not in ("", ".") else "in the workspace"
    pattern = result.arguments.get("pattern")
    fitting = f" that fit {pattern}" if isinstance(pattern, str) else ""
    names = [path.partition(" (")[0].rpartition("/")[2].lstrip(".") for path in paths]
    kinds = Counter(name.rpartition(".")[2] for name in names if "." in name)
    common = [f"{number} {kind}" for kind, number in kinds.most_common(3) if number > 1]
    detail = f" ({', '.join(common)})" if common and len(paths) > 5 else ""
    return _bullets(
        f"There {'is' if len(paths) == 1 else 'are'} {' and '.join(parts)} {place}{fitting}{detail}:", lines
    )


# -- JSON ------------------------------------------------------------------------------------------------------------


def _object(result: Result, value: dict[str, Any]) -> str:
    status = value.get("status")
    if isinstance(status, str) and status in _HEALTH and ("cluster_name" in value or "health" in result.tool.lower()):
        return _health(value)
    rows = rows_of(value)
    if rows is not None:
        return _series(result, rows, value)
    lists = [(key, cast("list[Any]", each)) for key, each in value.items() if isinstance(each, list)]
    if len(lists) == 1 and not any(isinstance(each, dict) for each in value.values()):
        key, items = lists[0]
        total = value.get("total")
        noun = _noun(result.tool) if key in ("items", "names", "results", "data", "values") else split_name(key)
        return _list(noun, items, total if isinstance(total, int) else None)
    fields = [f"- {name}: {_value(each)}" for name, each in list(value.items())[:FIELDS_MAX]]
    fields.extend(_left_out(len(value) - len(fields), "field"))
    return "\n".join([f"{result.tool} says:", "", *fields])


_HEALTH = {
    "green": "is healthy: its status is green",
    "yellow": "works, but not all copies of its data are in place: its status is yellow",
    "red": "is in trouble, some of its data cannot be reached: its status is red",
}
_COUNTED = {
    "number_of_nodes": "node",
    "active_shards": "active shard",
    "unassigned_shards": "unassigned shard",
}


def _health(value: dict[str, Any]) -> str:
    """A cluster's health as Elasticsearch tells it, in a sentence; what the sentence does not say follows it."""
    name = value.get("cluster_name")
    named = isinstance(name, str) and bool(name)
    counts = [_count(number, what) for key, what in _COUNTED.items() if isinstance(number := value.get(key), int)]
    told = f" It has {', '.join(counts[:-1])}{' and ' if counts[1:] else ''}{counts[-1]}." if counts else ""
    said = {"status", *_COUNTED, *(["cluster_name"] if named else [])}
    rest = [f"- {key}: {_value(each)}" for key, each in value.items() if key not in said]
    left_out = _left_out(len(rest) - FIELDS_MAX, "field")
    more = ["", *rest[:FIELDS_MAX], *left_out] if rest else []
    return "\n".join([f"The cluster{f' {name}' if named else ''} {_HEALTH[value['status']]}.{told}", *more])


def _series(result: Result, rows: list[str], value: dict[str, Any]) -> str:
    asked = result.arguments.get("expr")
    about = f" for `{asked}`" if isinstance(asked, str) else ""
    notice = value.get("notice")
    notices = [notice] if isinstance(notice, str) and notice else []
    if not rows:
        return " ".join([f"There is no value{about}.", *notices])
    return "\n".join([_bullets(f"{_count(len(rows), 'series', 'series')}{about}:", rows), *notices])


def _list(noun: str, items: list[Any], total: int | None) -> str:
    number = len(items) if total is None else total
    single = noun[:-1] if noun.endswith("s") else noun
    if not number:
        return f"You have no {noun}."
    title = f"You have {_count(number, single, noun)}"
    shown = [_item(item) for item in items]
    if len(shown) <= 3 and len(shown) == number and max(map(len, shown)) <= 60:
        return f"{title}: {', '.join(shown)}."
    more = [f"[{number - len(shown):,} more are not on this page.]"] if number > len(shown) else []
    return _bullets(f"{title}:", [*shown, *more])


def _item(item: Any) -> str:
    """A name with what else is short enough to tell."""
    if not isinstance(item, dict):
        return _value(item)
    fields = cast("dict[str, Any]", item)
    key = next((key for key in ("name", "title", "path", "id", "uid") if isinstance(fields.get(key), str)), None)
    if key is None:
        return _value(fields)
    name = fields[key]
    rest = [
        value if other in ("type", "kind") else f"{other} {value}"
        for other, value in fields.items()
        if other != key and isinstance(value, str | int | float) and value not in ("", name) and len(str(value)) <= 60
    ]
    return f"{name} ({', '.join(map(str, rest[:4]))})" if rest else str(name)


def _value(value: Any) -> str:
    return _clipped(value if isinstance(value, str) else msgspec.json.encode(value).decode(), VALUE_CHARS_MAX)


# -- words -----------------------------------------------------------------------------------------------------------


def _noun(tool: str) -> str:
    """What a tool lists: `list_datasources` datasources."""
    words = split_name(tool).lower().split()
    return (
        " ".join(words[1:]) if len(words) > 1 and words[0] in ("list", "find", "get", "search", "query") else "results"
    )


def _count(number: int, single: str, several: str = "") -> str:
    return f"{number:,} {single if number == 1 else several or f'{single}s'}"


def _bullets(title: str, lines: Sequence[str]) -> str:
    kept, left_out = _within(lines, ITEMS_MAX)
    shown: list[str] = [line if _NOTICE.match(line) else f"- {line}" for line in kept]
    return "\n".join([title, "", *shown, *_left_out(left_out, "line")])


def _within(lines: Sequence[str], most: int) -> tuple[list[str], int]:
    """As many lines as may be shown, and how many are left out."""
    kept: list[str] = []
    chars = 0
    for line in lines[:most]:
        chars += len(line)
        if chars > CHARS_MAX and kept:
            break
        kept.append(_clipped(line, CHARS_MAX))
    return kept, len(lines) - len(kept)


def _left_out(number: int, what: str) -> list[str]:
    return [f"[{_count(number, f'more {what}')} left out.]"] if number > 0 else []


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
