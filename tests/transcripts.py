"""Golden transcripts: conversations between a client and the server, written down byte for byte.

    # a comment
    ~ say "It is " "fine."            the stage: what model and tools will do (tests/dialects/test_transcripts.py)
    > POST /api/v1/chat               the client: request line, headers, an empty line, body
    > authorization: Bearer <credential>
    >
    > {"message":"hi"}
    < 200 application/json            the server: status and media type; then the body, and before it, if they matter,
    < retry-after: <seconds>          header lines closed by an empty one. No body lines = the body is not compared.
    <
    < {"detail":"Rate limit exceeded"}
    < !cut                            the connection broke here

`<name>` stands for anything at first sight and for the same thing from then on. `DRAGOMAN_BLESS=1` rewrites `<` lines.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

CUT = "!cut"
VALUE_CHARS_MIN = 8
_NAME = re.compile(r"<(\w+)>")
_HEADER = re.compile(r"(?!data: )[a-z0-9-]+: ")
"""`data` is a line of server-sent events, under whatever media type they come."""


@dataclass
class Exchange:
    """A request and what is expected of its answer; `first` and `last` are the line numbers of the `<` block."""

    request: list[str] = field(default_factory=list[str])
    answer: list[str] = field(default_factory=list[str])
    first: int = 0
    last: int = 0

    @property
    def method(self) -> str:
        return self.request[0].split(" ", 1)[0]

    @property
    def target(self) -> str:
        return self.request[0].split(" ", 1)[1]

    def headers(self) -> dict[str, str]:
        rows = self.request[1 : self._blank()]
        return dict(row.split(": ", 1) for row in rows)

    def body(self) -> str:
        return "\n".join(self.request[self._blank() + 1 :])

    def _blank(self) -> int:
        return self.request.index("") if "" in self.request else len(self.request)


Block = Exchange | str
"""A string is a `~` line."""


def parse(text: str) -> list[Block]:
    blocks: list[Block] = []
    current: Exchange | None = None
    for number, line in enumerate(text.split("\n")):
        mark, rest = line[:1], line[2:]
        if mark == "~":
            blocks.append(rest)
            current = None
        elif mark == ">":
            if current is None or current.answer:
                current = Exchange()
                blocks.append(current)
            current.request.append(rest)
        elif mark == "<":
            assert current is not None, f"line {number + 1}: an answer without a request"
            current.first = current.first or number
            current.last = number
            current.answer.append(rest)
        else:
            assert mark in ("", "#"), f"line {number + 1}: begins with none of # ~ > <"
            current = None
    return blocks


class Names:
    """What `<name>` has come to stand for."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known

    def put_into(self, text: str) -> str:
        return _NAME.sub(lambda match: self.known.get(match[1], match[0]), text)

    def take_out_of(self, text: str) -> str:
        """The text with names in the place of what they stand for, where that is too long to be there by chance."""
        for name, value in self.known.items():
            if len(value) >= VALUE_CHARS_MIN:
                text = text.replace(value, f"<{name}>")
        return text

    def match(self, expected: str, actual: str) -> bool:
        """Whether a line is as expected; names seen for the first time are bound."""
        seen: set[str] = set()
        pattern = ""
        at = 0
        for name in _NAME.finditer(expected):
            pattern += re.escape(expected[at : name.start()]) + self._group(name[1], seen)
            at = name.end()
        found = re.fullmatch(pattern + re.escape(expected[at:]), actual, re.DOTALL)
        if found is None:
            return False
        self.known.update(found.groupdict())
        return True

    def _group(self, name: str, seen: set[str]) -> str:
        if name in self.known:
            return re.escape(self.known[name])
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>.+?)"


def shown(exchange: Exchange, status: int, headers: dict[str, str], body: bytes, *, cut: bool) -> list[str]:
    """The answer as the transcript would say it: with the headers and the body that it is interested in."""
    media_type = headers.get("content-type", "")
    lines = [f"{status} {media_type}".rstrip()]
    is_stream = media_type.startswith("text/event-stream")
    expected = exchange.answer[1:]
    if not is_stream and expected and _HEADER.match(expected[0]):
        for row in expected[: expected.index("") if "" in expected else len(expected)]:
            name = row.split(": ", 1)[0]
            lines.append(f"{name}: {headers.get(name, '(absent)')}")
        lines.append("")
    if len(exchange.answer) > 1 and exchange.method != "HEAD":
        text = body.decode()
        lines += text.removesuffix("\n").split("\n") if is_stream else text.split("\n")
    if cut:
        lines.append(CUT)
    return lines


def matches(names: Names, expected: Sequence[str], actual: Sequence[str]) -> bool:
    return len(expected) == len(actual) and all(map(names.match, expected, actual))


def bless(path: Path, exchange: Exchange, actual: Sequence[str], names: Names) -> None:
    """Put the real answer in the place of the expected one; lines that still match keep their names."""
    lines = path.read_text().split("\n")
    kept = [
        old if old is not None and names.match(old, new) else names.take_out_of(new)
        for old, new in zip([*exchange.answer, *[None] * len(actual)], actual, strict=False)
    ]
    lines[exchange.first : exchange.last + 1] = [f"< {line}".rstrip() for line in kept]
    path.write_text("\n".join(lines))
