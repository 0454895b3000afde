"""Names and numbers that a model must not see, kept from it: found in texts, masked, and put back into what it says.

    text ── finders ──► spans ──► mask `EMAIL_<40 hex>` in place of each ──► the model
    the model's pieces ──► Unmasker ──► the same text, whole again

A mask is a keyed hash of the class and the value: the same in every turn and after a restart, so that a model can tell
two people apart, and of no use to whoever does not hold the key. Only masks of what was found in the very prompt are
put back: one that a model or a person makes up stays as it stands.

Pure: the key is handed in, and nothing is remembered. Elastic spec 5.
"""

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol

import msgspec
from msgspec import Struct

from dragoman.core.errors import BadRequest
from dragoman.core.messages import Masked
from dragoman.core.patterns import compiled

KEY_BYTES_MIN = 16
ENTITY_CHARS_MAX = 32

WINDOW_CHARS = 4_096
"""An expression is tried on this much text at a time. What `core.patterns` lets through takes at most the square of
it in steps: tens of milliseconds for the worst text."""
VALUE_CHARS_MAX = WINDOW_CHARS // 2
"""A value up to here is found wherever it stands; of a longer one what an expression fits within a window."""

_ENTITY = re.compile(rf"[A-Z][A-Z0-9_]{{0,{ENTITY_CHARS_MAX - 1}}}")
"""Upper case, for a mask ends in lower case: so no mask begins within another."""
_HASH_CHARS = 40
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_ESCAPED = re.compile(r"\\(?:[bfnrt]|u00[01][0-9a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_decode = msgspec.json.Decoder().decode

Pause = None
"""What a finder or a masker yields where others may have their turn: after each window of a long text."""


class Span(Struct, frozen=True, gc=False):
    """Where in a text a value stands, and of which class it is."""

    start: int
    end: int
    entity: str


class EntityFinder(Protocol):
    """Finds values of some classes in texts. An expression is one; a model that recognises names can be."""

    def find(self, text: str) -> Iterator[Span | None]:
        """Its spans in any order, and None where others may have their turn. Classes as `check_entity` has them."""
        ...


def check_entity(entity: str) -> str:
    """The class itself. Raises BadRequest if none can be called so."""
    if _ENTITY.fullmatch(entity) is None:
        raise BadRequest(
            f'"{entity}" cannot be a class: capital letters, digits and "_", {ENTITY_CHARS_MAX} at most, such as EMAIL'
        )
    return entity


class PatternFinder:
    """Values that fit a regular expression."""

    def __init__(self, entity: str, pattern: str) -> None:
        """Raises BadRequest if the class or the expression cannot be used."""
        self._entity = check_entity(entity)
        self._pattern = compiled(pattern)

    def find(self, text: str) -> Iterator[Span | None]:
        """See the port."""
        length = len(text)
        if length <= WINDOW_CHARS:
            for match in self._pattern.finditer(text):
                if match.end() > match.start():
                    yield Span(match.start(), match.end(), self._entity)
            return
        at = 0
        while at < length:
            limit = min(at + WINDOW_CHARS, length)
            match = self._pattern.search(text, at, limit)
            if match is None:
                # Whatever begins in the second half may need more text than the window held.
                at = limit - VALUE_CHARS_MAX if limit < length else length
            elif match.end() < limit or limit == length:
                if match.end() > match.start():
                    yield Span(match.start(), match.end(), self._entity)
                at = max(match.end(), match.start() + 1)
            else:
                start = match.start()
                end = self._end(text, start)
                if end:
                    yield Span(start, end, self._entity)
                at = end or start + 1
            yield Pause

    def _end(self, text: str, start: int) -> int:
        """The end of a match that ran into the end of its window; 0 if with more text there is none."""
        end, chars = 0, WINDOW_CHARS
        while True:
            limit = min(start + chars, len(text))
            match = self._pattern.match(text, start, limit)
            if match is None or match.end() <= end:
                return end
            end = match.end()
            if end < limit or limit == len(text):
                return end
            chars *= 2


class Masking(Struct, frozen=True):
    """A text as a model may see it, and what of it was masked, each value once."""

    text: str
    found: tuple[Masked, ...] = ()


class Masker:
    """Masks texts. Where finders disagree the first of them has its way, and of two spans of one finder the one that
    begins first, then the longer; what is left over of another span is masked by itself, so that no character that
    anybody found remains."""

    def __init__(self, finders: Sequence[EntityFinder], *, key: bytes) -> None:
        """Raises ValueError if the key is shorter than KEY_BYTES_MIN."""
        if len(key) < KEY_BYTES_MIN:
            raise ValueError(f"the key must have at least {KEY_BYTES_MIN} bytes")
        self._finders = tuple(finders)
        self._key = hashlib.blake2b(key, person=b"dragoman.mask").digest()

    def mask(self, text: str) -> Masking:
        """A plain text."""
        return _run_out(self.masking(text))

    def mask_json(self, text: str) -> Masking:
        """A text that is JSON, or else a plain one. Strings and keys are masked, numbers are not (elastic spec 5); what
        holds nothing to be masked stays byte for byte, and the whole stays JSON."""
        return _run_out(self.masking_json(text))

    def masking(self, text: str) -> Generator[None, None, Masking]:
        """As `mask`, pausing now and then."""
        taken: list[Span] = []
        ways = _ways(text)
        for finder in self._finders:
            mine: list[Span] = []
            for span in chain.from_iterable(map(finder.find, ways)):
                if span is None:
                    yield Pause
                else:
                    mine.append(span)
            if mine:
                taken = _joined(taken, mine)
        if not taken:
            return Masking(text)
        parts: list[str] = []
        found: dict[str, Masked] = {}
        at = 0
        for span in taken:
            masked = self._masked(span.entity, text[span.start : span.end])
            found[masked.mask] = masked
            parts += (text[at : span.start], masked.mask)
            at = span.end
        parts.append(text[at:])
        return Masking("".join(parts), tuple(found.values()))

    def masking_json(self, text: str) -> Generator[None, None, Masking]:
        """As `mask_json`, pausing now and then."""
        if not _is_json(text):
            return (yield from self.masking(text))
        parts: list[str] = []
        found: dict[str, Masked] = {}
        known: dict[str, str] = {}
        at = 0
        for match in _STRING.finditer(text):
            literal = match[0]
            if literal not in known:
                plain = json.loads(literal, strict=False) if "\\" in literal else literal[1:-1]
                masking = yield from self.masking(plain)
                known[literal] = _quoted(masking.text) if masking.found else literal
                found.update((each.mask, each) for each in masking.found)
            if known[literal] is not literal:
                parts += (text[at : match.start()], known[literal])
                at = match.end()
        if not found:
            return Masking(text)
        parts.append(text[at:])
        return Masking("".join(parts), tuple(found.values()))

    def _masked(self, entity: str, value: str) -> Masked:
        said = f"{entity}\0{value}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(said, key=self._key, digest_size=_HASH_CHARS // 2).hexdigest()
        return Masked(entity, value, f"{entity}_{digest}")


def _ways(text: str) -> tuple[str, ...]:
    """The ways to read a text: as it stands and, since it may be JSON that was put into another text, with blanks in
    the place of line ends that are written as escapes. Else the `n` of one would be the beginning of a word."""
    if "\\" not in text:
        return (text,)
    blanked = _ESCAPED.sub(lambda match: " " * len(match[0]), text)
    return (text,) if blanked == text else (text, blanked)


def _run_out(steps: Generator[None, None, Masking]) -> Masking:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _is_json(text: str) -> bool:
    """Whether it is a JSON object, list or string."""
    if text.lstrip(" \t\r\n")[:1] not in ("{", "[", '"'):
        return False
    try:
        _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        try:
            json.loads(text)  # slower, and reads half a surrogate pair
        except (ValueError, RecursionError):
            return False
    return True


def _quoted(text: str) -> str:
    """As a JSON string, in plain characters unless one of them cannot be sent."""
    return json.dumps(text, ensure_ascii=_SURROGATE.search(text) is not None)


def _joined(taken: list[Span], more: Iterable[Span]) -> list[Span]:
    """Spans without overlap, in order: those that are taken, and of the others what they leave."""
    kept: list[Span] = []
    end = 0
    for span in sorted(more, key=lambda each: (each.start, -each.end)):
        if span.end > end:
            kept.append(Span(max(span.start, end), span.end, span.entity))
            end = span.end
    if not taken:
        return kept
    joined = list(taken)
    at = 0
    for span in kept:
        start = span.start
        while at < len(taken) and taken[at].end <= start:
            at += 1
        for other in taken[at:]:
            if other.start >= span.end:
                break
            if other.start > start:
                joined.append(Span(start, other.start, span.entity))
            start = max(start, other.end)
        if start < span.end:
            joined.append(Span(start, span.end, span.entity))
    return sorted(joined, key=lambda each: each.start)


class Unmasker:
    """Puts values back into a text that comes in pieces. All that `feed` and `end` give together is what one piece
    would have given: it holds back only what may be the beginning of a mask."""

    def __init__(self, found: Iterable[Masked]) -> None:
        self._values: Mapping[str, str] = {each.mask: each.value for each in found}
        self._beginnings = frozenset(mask[0] for mask in self._values)
        self._sorted = sorted(self._values)
        self._longest = max(map(len, self._values), default=0)
        names = "|".join(sorted({mask[: -_HASH_CHARS - 1] for mask in self._values}))
        self._masks = re.compile(rf"(?:{names})_[0-9a-f]{{{_HASH_CHARS}}}") if names else None
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown of it by now."""
        shown, rest = self._replaced(self._held + piece)
        held = self._held_from(rest)
        self._held = rest[held:]
        return shown + rest[:held]

    def end(self) -> str:
        """What was held back; the next piece begins a new text."""
        held, self._held = self._held, ""
        return held

    def whole(self, text: str) -> str:
        """A text that came at once."""
        shown, rest = self._replaced(text)
        return shown + rest

    def json(self, text: str) -> str:
        """A text that is meant to be JSON: what is put into its strings is written as JSON wants it, and once more in a
        string that holds JSON."""
        if not self._values:
            return text
        if text.lstrip(" \t\r\n")[:1] == '"' and _is_json(text):
            inner = json.loads(text, strict=False)
            plain = self.json(inner) if _is_json(inner) else self.whole(inner)
            return text if plain == inner else _quoted(plain)
        escaped = {mask: _quoted(value)[1:-1] for mask, value in self._values.items()}
        shown, rest = self._replaced(text, escaped)
        return shown + rest

    def _replaced(self, text: str, values: Mapping[str, str] | None = None) -> tuple[str, str]:
        """The text up to the end of its last mask, values in their places, and what follows."""
        if self._masks is None:
            return "", text
        values = values or self._values
        parts: list[str] = []
        at = looked = 0
        while (match := self._masks.search(text, looked)) is not None:
            value = values.get(match[0])
            if value is None:  # none of ours, yet one of ours may begin within it
                looked = match.start() + 1
            else:
                parts += (text[at : match.start()], value)
                at = looked = match.end()
        return "".join(parts), text[at:]

    def _held_from(self, rest: str) -> int:
        """Where the beginning of a mask stands at the very end."""
        for at in range(max(0, len(rest) - self._longest + 1), len(rest)):
            if rest[at] in self._beginnings:
                beginning = rest[at:]
                next_mask = bisect_left(self._sorted, beginning)
                if next_mask < len(self._sorted) and self._sorted[next_mask].startswith(beginning):
                    return at
        return len(rest)
