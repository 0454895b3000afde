"""Which part of a text is the value of a text parameter: one rule per kind of parameter. Pure; of the offline router.

The kind is told from the parameter's name and description, so that tools nobody foresaw are served too.
"""

import re
from collections.abc import Callable, Iterable

from msgspec import Struct

from dragoman.models.offline_reading import Reading, split_name, stems


class Parameter(Struct, frozen=True):
    name: str
    words: frozenset[str]
    """Of the name, in lower case."""
    about: str
    """The description, in lower case."""


class Taking:
    """Hands out each thing in a text once: a file's name is not also the folder to look in.

    `used` gathers the stems of words, and the markers of things, that became part of a value.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.used: set[str] = set()
        self._taken: set[str] = set()

    def first(self, things: Iterable[str]) -> str | None:
        thing = next((each for each in things if each not in self._taken), None)
        if thing is not None:
            self._taken.add(thing)
            self.use(thing)
        return thing

    def use(self, part: str) -> None:
        """A part of the text was understood."""
        self.used.update(stems(split_name(part)))
        self.used.update(self.reading.markers_of(part))

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Where a pattern matches; what it matches counts as understood."""
        found = pattern.search(self.reading.text)
        if found is not None:
            self.use(found[0])
        return found


def thing_for(parameter: Parameter, taking: Taking, *, required: bool) -> str | None:
    """What fits, by the first rule that knows the parameter's kind. A lone quotation fits whatever is required."""
    for fits, find in _KINDS:
        if fits(parameter):
            return find(parameter, taking)
    if required and len(taking.reading.quoted) == 1:
        return taking.first(taking.reading.quoted)
    return None


def _pattern(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def _group(pattern: re.Pattern[str], text: str) -> list[str]:
    """The first group of the first match, if there is one."""
    found = pattern.search(text)
    return [found[1]] if found else []


# -- files -----------------------------------------------------------------------------------------------------------

_CALLED = _pattern(r"\b(?:called|named)\s+([\w.-]*\w)")


_FILE_CALLED = _pattern(r"\b(?:files?|scripts?|documents?|notes?)\s+(?:called|named)\s+([\w.-]*\w)")


def _is_path(parameter: Parameter) -> bool:
    return bool(parameter.words & {"path", "file", "filename", "filepath", "folder", "directory", "dir"})


def _path(parameter: Parameter, taking: Taking) -> str | None:
    reading = taking.reading
    if parameter.about.startswith(("folder", "directory")) or parameter.words & {"folder", "directory", "dir"}:
        return taking.first([*reading.folders, *(reading.files if re.search(r"\bfile\b", parameter.about) else ())])
    folder_files = [path for path in reading.folders if "." in path.rpartition("/")[2]]
    return taking.first([*reading.files, *folder_files, *_group(_FILE_CALLED, reading.text)])


def _is_glob(parameter: Parameter) -> bool:
    return "glob" in parameter.words or "glob" in parameter.about


def _glob(parameter: Parameter, taking: Taking) -> str | None:
    reading = taking.reading
    if "only" in parameter.about.split():  # narrows another search: what is searched for is not a name
        return taking.first(reading.globs)
    return taking.first([*reading.globs, *reading.files, *reading.quoted, *_group(_FILE_CALLED, reading.text)])


# -- text ------------------------------------------------------------------------------------------------------------

_SEARCHED = (
    _pattern(r"\b(?:search|grep|look|scan|check)\b(?:\s+\w+){0,4}?\s+for\s+(.+)"),
    _pattern(r"\b(?:grep|search)\s+(\S+)\s*$"),
    _pattern(
        r"\b(?:mention(?:s|ing)?|contain(?:s|ing)?|refer(?:s|ring)? to|occurrences? of|includ(?:es|ing)|about)\s+(.+)"
    ),
    _pattern(r"\b(?:where\s+(?:do|does)\s+(?:we|i|it|they|you)|which\s+files?)\s+(?:use|call|define|import)s?\s+(.+)"),
    _pattern(r"\bwhere\s+(?:is|are)\s+(.+?)\s+(?:used|defined|called|referenced|declared|mentioned)\b"),
)
_MARK = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
_ARTICLE = _pattern(
    r"^(?:the\s+|an?\s+|any\s+)?(?:(?:text|word|string|phrase|term|function|class|method|variable|line)s?\s+)?(?=\S)"
)
_WHERE = _pattern(
    r"\s+(?:in|inside|within|across|under|throughout)\s+",
    r"(?:(?:the|my|all|this|our|every)\b|\S*[./]|src\b|code\b|files?\b).*$",
)
_WHEN = _pattern(r"\s+(?:over|in|during|within|for)\s+the\s+(?:last|past)\b.*$")
_TAIL = _pattern(r"(?:[?.!,;\s]|\bplease\b|\bexist\b)+$")


def _is_text(parameter: Parameter) -> bool:
    return bool(parameter.words & {"query", "text", "search", "term", "keyword", "phrase", "needle", "q", "regex"})


def _text(_: Parameter, taking: Taking) -> str | None:
    reading = taking.reading
    quoted = taking.first(reading.quoted)
    if quoted is not None:
        return quoted
    for pattern in _SEARCHED:
        for found in _group(pattern, reading.text):
            said = _TAIL.sub("", _ARTICLE.sub("", _WHERE.sub("", _WHEN.sub("", found))))
            if said:
                return taking.first([said])
    return taking.first([*reading.names, *_group(_MARK, reading.text)])


_CONTENT = _pattern(
    r"\b(?:that says|saying|which says|with the (?:text|content|words)|contain(?:s|ing)|with content)\s*:?\s+(.+)$"
)


def _is_content(parameter: Parameter) -> bool:
    return bool(parameter.words & {"content", "contents", "body"})


def _content(_: Parameter, taking: Taking) -> str | None:
    quoted = taking.first(taking.reading.quoted)
    return quoted if quoted is not None else taking.first(_group(_CONTENT, taking.reading.text))


_REPLACED = _pattern(
    r"\b(?:replace|change|rename|substitute|swap)\s+(?:the\s+)?(?:(?:text|word|string|variable|function|class|name)\s+)?",
    r"(\S+)\s+(?:with|to|by|for)\s+(\S+?)(?=[?.!,;]?(?:\s|$))",
)


def _is_replacement(parameter: Parameter) -> bool:
    return bool(parameter.words & {"old", "new"}) and len(parameter.words) <= 2


def _replacement(parameter: Parameter, taking: Taking) -> str | None:
    quoted = taking.reading.quoted
    if len(quoted) == 2:
        pair: tuple[str, str] | None = (quoted[0], quoted[1])
        taking.use(quoted[0])
    else:
        found = taking.search(_REPLACED)
        pair = (found[1], found[2]) if found else None
    return None if pair is None else pair["new" in parameter.words]


# -- measurements ----------------------------------------------------------------------------------------------------

_METRIC = _pattern(r"\b(?:for|metric|query)\s+(?:the\s+)?(?:metric\s+)?([a-zA-Z_:][\w:]*)\s*[?.!]?\s*$")
_NO_METRICS = frozenset(
    "me it this that them data metrics metric prometheus promql something values usage rate".split()
)
_TARGETS = _pattern(
    r"\b(?:targets?|instances?|jobs?|services?|exporters?|hosts?|nodes?|everything|servers?)\b[^.?!]*\b(up|down)\b"
)
_PAST = _pattern(r"\b(?:last|past)\s+(?:(\d{1,4})\s*)?(second|minute|hour|day|week|min\b|hr\b|[smhdw]\b)")


def _is_promql(parameter: Parameter) -> bool:
    return "promql" in parameter.about or bool(parameter.words & {"expr", "promql"})


def _promql(_: Parameter, taking: Taking) -> str | None:
    reading = taking.reading
    given = taking.first([*reading.expressions, *reading.quoted, *reading.names])
    if given is not None:
        return given
    targets = taking.search(_TARGETS)
    if targets is not None:
        return "up" if targets[1].lower() == "up" else "up == 0"
    return taking.first(name for name in _group(_METRIC, reading.text) if name.lower() not in _NO_METRICS)


def _is_selector(parameter: Parameter) -> bool:
    return bool(parameter.words & {"match", "matcher", "selector"})


def _selector(_: Parameter, taking: Taking) -> str | None:
    return taking.first(each for each in taking.reading.expressions if "(" not in each)


def _is_time(parameter: Parameter) -> bool:
    return "time" in parameter.words or (bool(parameter.words & {"start", "end", "since"}) and "rfc" in parameter.about)


def _time(parameter: Parameter, taking: Taking) -> str | None:
    if parameter.words & {"end", "until", "to"}:  # the past ends now, which tools take for granted
        return None
    found = taking.search(_PAST)
    return f"now-{found[1] or 1}{found[2][0].lower()}" if found else None


# -- names -----------------------------------------------------------------------------------------------------------

_SYSTEM = _pattern(
    r"\b(prometheus|loki|tempo|elasticsearch|opensearch|grafana|influxdb|graphite|mysql|postgresql|postgres|cloudwatch"
    r"|pyroscope)\b"
)
_LABEL = _pattern(
    r"\b(?:label\s+(?:called\s+|named\s+)?(?!values?\b|names?\b)|values\s+(?:of|for)\s+(?:the\s+)?(?:label\s+)?)([a-zA-Z_]\w*)"
)
_USUAL_LABEL = _pattern(
    r"\b(job|instance|namespace|pod|node|container|service|cluster|region|zone|device|mode|handler|method|code)s?\b"
)
_DATASOURCE = _pattern(r"\bdata[ -]?sources?\s+(?:called\s+|named\s+)?([\w.-]*\w)")


def _is_system(parameter: Parameter) -> bool:
    return bool(parameter.words & {"type", "kind"})


def _system(_: Parameter, taking: Taking) -> str | None:
    found = taking.search(_SYSTEM)
    return found[1].lower() if found else None


def _is_label(parameter: Parameter) -> bool:
    return "label" in parameter.words


def _label(_: Parameter, taking: Taking) -> str | None:
    text = taking.reading.text
    said = [name for name in _group(_LABEL, text) if stems(name)]
    return taking.first([*said, *map(str.lower, _group(_USUAL_LABEL, text))])


def _is_name(parameter: Parameter) -> bool:
    return bool(parameter.words & {"name", "uid", "id", "title"})


def _name(parameter: Parameter, taking: Taking) -> str | None:
    reading = taking.reading
    called = _group(_CALLED, reading.text)
    datasources = [name for name in _group(_DATASOURCE, reading.text) if stems(name)]
    if parameter.words & {"uid", "id"}:
        return taking.first(datasources) if "datasource" in parameter.words else None
    return taking.first([*reading.quoted, *called, *datasources])


_KINDS: tuple[tuple[Callable[[Parameter], bool], Callable[[Parameter, Taking], str | None]], ...] = (
    (_is_promql, _promql),
    (_is_selector, _selector),
    (_is_time, _time),
    (_is_glob, _glob),
    (_is_replacement, _replacement),
    (_is_content, _content),
    (_is_label, _label),
    (_is_path, _path),
    (_is_text, _text),
    (_is_system, _system),
    (_is_name, _name),
)
