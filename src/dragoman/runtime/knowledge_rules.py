"""What every store does alike with knowledge: which texts it keeps, and which words a text is found by.

Pure. Words are made here and not by the engines, so that a text is found by the same words wherever it is kept: in
small letters, without accents, English endings off, and, where a script puts no spaces, every character and every pair.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, FieldFault
from dragoman.core.knowledge import EntryRole, KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.core.stems import stem
from dragoman.runtime.keeping import check_all, check_keys
from dragoman.runtime.record_rules import check_name

TITLE_WEIGHT = 3.0
"""How much more a word in the title counts than one in the text."""
INDEXED_CHARS_MAX = 100_000
"""An entry is found by its words up to here: PostgreSQL keeps at most a megabyte of them."""
WORD_CHARS_MAX = 64
"""Of a longer word only its beginning counts."""
ASKED_WORDS_MAX = 100
"""Of one query the first so many different words count."""
SORTS = ("title", "updated_at", "id", "role", "public")

_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
"""Thai, Lao, Burmese, Khmer, Hangul, kana, Han. Korean has spaces, but hangs its particles on the words."""
_ACCENTS = re.compile("[\u0300-\u036f]+")
_ASCII_WORD = re.compile("[a-z0-9]+")

_labels = msgspec.json.Decoder(dict[str, str])


# -- what is kept ----------------------------------------------------------------------------------------------------


def check_entries(entries: Sequence[KnowledgeEntry]) -> list[KnowledgeEntry]:
    """The entries as they are to be written, in order of id: of several of one id the last. Raises BadRequest on texts
    that not every engine can keep, ValueError if they are not all of one project."""
    found: dict[str, KnowledgeEntry] = {}
    for entry in entries:
        if entry.project != entries[0].project:
            raise ValueError("entries of several projects are not written at once")
        check_name(entry.project, "knowledge", id=entry.id)
        check_keys(title=entry.title, text=entry.text, owner=entry.owner, owner_name=entry.owner_name)
        check_all(labels=(*entry.labels, *entry.labels.values()))
        found[entry.id] = over(entry, found.get(entry.id))
    return [found[name] for name in sorted(found)]


def over(entry: KnowledgeEntry, before: KnowledgeEntry | None) -> KnowledgeEntry:
    """What stands there once `entry` was put over what stood there: who made that stays its owner."""
    return entry if before is None else replace(entry, owner=before.owner, owner_name=before.owner_name)


def check_sort(sort: str) -> None:
    """Raises BadRequest if pages are not sorted by that."""
    if sort not in SORTS:
        message = f"must be one of {', '.join(SORTS)}"
        raise BadRequest(f"sort: {message}", faults=(FieldFault("sort", message),))


def check_search(project: ProjectId, queries: Sequence[Query], owner: str, labels: Mapping[str, str]) -> None:
    """Raises BadRequest on what not every engine can look for."""
    check_keys(project=project, owner=owner)
    check_all(queries=(query.text for query in queries), labels=(*labels, *labels.values()))


def entry_of(row: Sequence[Any]) -> KnowledgeEntry:
    """An entry from a row of its table, whose columns stand in the order of the fields here."""
    return KnowledgeEntry(
        project=ProjectId(row[0]),
        id=row[1],
        text=row[2],
        title=row[3],
        public=bool(row[4]),
        role=EntryRole(row[5]),
        labels=_labels.decode(row[6]),
        owner=row[7],
        owner_name=row[8],
        updated_at=row[9],
    )


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as JSON."""
    return msgspec.json.encode(labels).decode()


def folded(text: str) -> str:
    """The text in which upper and lower case are alike."""
    return text.casefold()


def names_of(title: str, entry_id: str) -> str:
    """Where a page looks for what its entries contain."""
    return f"{folded(title)}\n{folded(entry_id)}"


# -- words -----------------------------------------------------------------------------------------------------------


def words(text: str, *, chars_max: int = INDEXED_CHARS_MAX) -> list[str]:
    """The words by which a text is found, in order, until they have so many characters. All are of letters, digits and
    marks alone, so that no engine takes one for anything else."""
    found: list[str] = []
    for piece, spaced in _pieces(text):
        if spaced:
            found.append(_stem(piece))
        else:
            found += (*piece, *_pairs(piece))
        chars_max -= len(piece) if spaced else 3 * len(piece)
        if chars_max < 0:
            break
    return found


def asked_words(text: str) -> tuple[str, ...]:
    """The different words that a query asks for."""
    found: dict[str, None] = {}
    for piece, spaced in _pieces(text):
        found.update(dict.fromkeys((_stem(piece),) if spaced else _pairs(piece) or (piece,)))
        if len(found) >= ASKED_WORDS_MAX:
            break
    return tuple(found)[:ASKED_WORDS_MAX]


def asked_of(queries: Sequence[Query]) -> list[tuple[tuple[str, ...], float]]:
    """The words of each query, and what they count; without those that ask for nothing."""
    found = [(asked_words(query.text), query.boost) for query in queries]
    return [(asked, boost) for asked, boost in found if asked and 0 < boost < math.inf]


def scope_word(project: ProjectId) -> str:
    """A word for the entries of one project, of which an index may hold many: 16 hex digits."""
    return hashlib.blake2s(project.encode(), digest_size=8).hexdigest()


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Runs of letters, digits and marks, each with whether its script puts spaces between words."""
    if text.isascii():
        return [(word, True) for word in _ASCII_WORD.findall(text.lower())]
    # Accents of Latin, Greek and Cyrillic only: in other scripts such marks make another letter.
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold()))
    others = {ord(char): " " for char in set(text) if unicodedata.category(char)[0] not in "LNM"}
    found: list[tuple[str, bool]] = []
    for run in text.translate(others).split():
        found += ((piece, at % 2 == 0) for at, piece in enumerate(_UNSPACED.split(run)) if piece)
    return found


def _pairs(run: str) -> tuple[str, ...]:
    return tuple(run[at : at + 2] for at in range(len(run) - 1))


def _stem(word: str) -> str:
    return (stem(word) if word.isascii() and word.isalpha() else word)[:WORD_CHARS_MAX]
