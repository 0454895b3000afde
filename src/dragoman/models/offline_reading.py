"""What a sentence holds that tools can use: its words, and the things named in it. Pure; part of the offline router.

Things (a file, a glob, a PromQL expression, a quotation, …) are taken out of the text and leave a marker such as
`§file` among the words, in what a person asks as well as in a tool's examples: "Read notes.txt" then looks like "Read
README.md".
"""

import re

from msgspec import Struct

from dragoman.core.stems import stem

TEXT_CHARS_MAX = 1_000
"""More of a question is not looked at: a text that long is material, and what to do with it stands at its beginning."""

FILE, GLOB, PROMQL, QUOTED, NAME = "§file", "§glob", "§promql", "§quoted", "§name"

_STOP_WORDS = frozenset(
    (
        "a an the of in is are was were be been am i me my we us our you your it its this that these those they them "
        "he she please can could would should will shall may might must do does did have has had there here what "
        "whats which who whose whom how why when many much all any some every each and or but not no nor so if then "
        "than to for from with without within inside at on by as into about over under up out off again just only "
        "also too very right now current currently today tell give want need let lets like get know thing things "
        "anything something everything available exist exists name names s t re ve ll d m"
    ).split()
)
"""Words that choose no tool. `up` is one: a person who means the metric says more."""

_NO_FOLDERS = _STOP_WORDS | {"workspace", "current", "root", "structure", "tree", "list", "show", "each", "contents"}
"""Words that stand beside `folder` and name none."""

_BRANDS = frozenset({"promql", "javascript", "typescript", "github", "gitlab", "postgresql", "graphql", "mysql"})
"""Words written like identifiers that are none."""

_GLOBS = {
    "python": "*.py",
    "javascript": "*.js",
    "typescript": "*.ts",
    "markdown": "*.md",
    "rust": "*.rs",
    "golang": "*.go",
    "go": "*.go",
    "java": "*.java",
    "yaml": "*.{yaml,yml}",
    "json": "*.json",
    "toml": "*.toml",
    "html": "*.html",
    "css": "*.css",
    "sql": "*.sql",
    "shell": "*.sh",
    "bash": "*.sh",
    "text": "*.txt",
    "csv": "*.csv",
    "log": "*.log",
    "xml": "*.xml",
}

_CONTEXT = re.compile(r"<context>.*?(?:</context>|\Z)", re.DOTALL)
"""Clients append what they know of their screen to what a person wrote."""
_URL = re.compile(r"\bhttps?://\S+")
_QUOTED = re.compile(r"\"([^\"\n]+)\"|(?<!\w)'([^'\n]+)'(?!\w)|`([^`\n]+)`|“([^”\n]+)”")
_GLOB = re.compile(r"(?<![\w*])[\w./-]*\*[\w.*/{},?-]*|(?<!\S)\*(?!\S)")
_FILE = re.compile(
    r"(?<![\w/.@-])(?:\.{0,2}/)?(?:[\w.-]+/)*(?:\.?[\w-][\w.-]*\.[A-Za-z][A-Za-z0-9]{0,7}"
    r"|Dockerfile|Makefile|LICENSE|README|CHANGELOG|\.gitignore|\.env)(?![\w/-])"
)
_EXTENSION = re.compile(r"(?<![\w.])\.[A-Za-z]\w{0,7}\b")
_FOLDERS = (
    re.compile(r"\b(?:folder|directory|dir)\s+(?:called\s+|named\s+)?([\w./-]*\w)"),
    re.compile(r"([\w./-]*\w)/?\s+(?:folder|directory)\b"),
    re.compile(r"(?<![\w.])((?:[\w.-]+/)+[\w.-]*)"),
)
_LANGUAGE = re.compile(
    rf"\b({'|'.join(_GLOBS)})\s+(?:source\s+)?(?:files?|scripts?|modules?|documents?)\b"
    rf"|\bfiles?\s+(?:are|is|in|of type)\s+({'|'.join(_GLOBS)})\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"\b(?:[A-Za-z]+_\w+|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*)\b")
"""An identifier: snake_case, camelCase or PascalCase."""
_WORD = re.compile(r"[^\W_]+")

_PROMQL_CALL = (
    r"(?:sum|avg|min|max|count|group|stddev|topk|bottomk|quantile|count_values|rate|irate|increase|delta|deriv|changes|"
    r"resets|absent|abs|ceil|floor|round|sort|sort_desc|scalar|vector|time|histogram_quantile|predict_linear|label_replace|"
    r"(?:avg|min|max|sum|count|last)_over_time)\s*(?:(?:by|without)\s*\([^()]*\)\s*)?\("
)
_PROMQL = re.compile(
    rf"\b{_PROMQL_CALL}|\b[a-zA-Z_:][\w:]*\s?\{{[^{{}}]*\}}|\b[a-zA-Z_:][\w:]*\[\d+[smhdwy]\]"
    r"|\b[a-z][a-z0-9]*(?:_[A-Za-z0-9]+)*_(?:total|seconds|bytes|bucket|ratio|info)\b"
)
_PROMQL_MORE = re.compile(
    r"\s*(?:by|without)\s*\([^()]*\)|\s*\[\d+[smhdwy](?::\d*[smhdwy]?)?\]|\s*offset\s+\d+[smhdwy]"
    r"|\s*(?:==|!=|>=|<=|[-+*/%^<>])\s*(?:bool\s+)?"
    r"(?:(?:on|ignoring)\s*\([^()]*\)\s*(?:group_(?:left|right)\s*(?:\([^()]*\))?\s*)?)?"
    rf"(?:\d+(?:\.\d+)?|{_PROMQL_CALL}|[a-zA-Z_:][\w:]*(?:\{{[^{{}}]*\}})?)"
)


class Reading(Struct, frozen=True):
    """One text, read. Things stand in their order; `words` are stems without stop words, then the markers."""

    text: str
    words: tuple[str, ...]
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    quoted: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def markers_of(self, part: str) -> list[str]:
        """The markers of the things that a part of the text holds."""
        things = (
            (FILE, self.files),
            (GLOB, self.globs),
            (PROMQL, self.expressions),
            (QUOTED, self.quoted),
            (NAME, self.names),
        )
        return [marker for marker, found in things if any(thing in part for thing in found)]


def read(text: str) -> Reading:
    """Read what a person wrote, or an example of it."""
    text = _CONTEXT.sub(" ", text)[:TEXT_CHARS_MAX].strip()
    rest = _URL.sub(" ", text)
    expressions, rest = _take_expressions(rest)
    quoted, rest = _take(_QUOTED, rest)
    globs, rest = _take(_GLOB, rest)
    languages = (_GLOBS[(found[1] or found[2]).lower()] for found in _LANGUAGE.finditer(rest))
    files, rest = _take(_FILE, rest)
    extensions, rest = _take(_EXTENSION, rest)
    globs = tuple(dict.fromkeys((*globs, *languages, *(f"*{extension}" for extension in extensions))))
    folders = tuple(dict.fromkeys(_folders(rest)))
    names = tuple(dict.fromkeys(name for name in _NAME.findall(rest) if name.lower() not in _BRANDS))
    markers = [
        marker
        for marker, found in ((FILE, files), (GLOB, globs), (PROMQL, expressions), (QUOTED, quoted), (NAME, names))
        if found
    ]
    return Reading(
        text,
        (*dict.fromkeys(stems(_NAME.sub(" ", rest) if names else rest)), *markers),
        files,
        folders,
        globs,
        expressions,
        quoted,
        names,
    )


def stems(text: str) -> list[str]:
    """The words of a text in their stems, stop words left out. `data source` is one word here."""
    text = text.lower().replace("data source", "datasource").replace("data-source", "datasource")
    return [stem(word) for word in _WORD.findall(text) if word not in _STOP_WORDS]


def split_name(name: str) -> str:
    """`listFiles` and `list_files` as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.]+", " ", name)


def _take(pattern: re.Pattern[str], text: str) -> tuple[tuple[str, ...], str]:
    """What a pattern finds, and the text without it."""
    found = [next((group for group in match.groups() if group), match[0]) for match in pattern.finditer(text)]
    return tuple(dict.fromkeys(found)), pattern.sub(" ", text) if found else text


def _folders(text: str) -> list[str]:
    found = [folder.strip("/") for pattern in _FOLDERS for folder in pattern.findall(text)]
    return [folder for folder in found if folder.lower() not in _NO_FOLDERS]


def _take_expressions(text: str) -> tuple[tuple[str, ...], str]:
    found: list[str] = []
    while (match := _PROMQL.search(text)) is not None:
        end = _closed(text, match.end()) if match[0].endswith("(") else match.end()
        while (more := _PROMQL_MORE.match(text, end)) is not None:
            end = _closed(text, more.end()) if more[0].endswith("(") else more.end()
        found.append(text[match.start() : end])
        text = text[: match.start()] + " " + text[end:]
    return tuple(found), text


def _closed(text: str, start: int) -> int:
    """Where the bracket that opened just before `start` is closed; the end of the text if it is not."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at + 1
    return len(text)
