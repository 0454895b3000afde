"""Which tool a sentence asks for: BM25 over what tools say of themselves, with a threshold below which none is chosen.

Pure; part of the offline router. A tool's document is its name, keywords, examples and description, in falling weight.
A score alone cannot tell "no tool fits" from "few words in common", so a second number decides about abstaining: the
share of the question's words that the tool knows or that became its arguments.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.stems import stem
from dragoman.models.offline_arguments import Filled, fill
from dragoman.models.offline_reading import Reading, read, split_name, stems

COVERED_MIN = 0.5
"""A tool that knows no more than this share of the words is not meant."""

CANDIDATES_MAX = 8
"""So many of the best-scored tools are tried with the arguments that the text gives them."""

NAME_WEIGHT, KEYWORD_WEIGHT, EXAMPLE_WEIGHT, DESCRIPTION_WEIGHT = 3.0, 2.0, 1.0, 0.5

SATURATION = 1.2
"""BM25's k1: how soon repeating a word stops adding."""
LENGTH_SHARE = 0.3
"""BM25's b: low, because a tool with many examples is no less likely meant."""

SYNONYM_WEIGHT = 0.7

ACTION_WEIGHT = 0.5
"""Of a word that says what to do, among those that tell whether a tool is meant: anything can be listed or shown."""


MISSING_SHARE = 0.7
"""What is left of the score of a tool that the text gives too little for."""

_SYNONYMS: dict[str, frozenset[str]] = {}
for _group in (
    "list enumerate display show inventory",
    "list analyze explore overview inspect understand examine browse review structure summary layout",
    "files documents scripts docs modules",
    "workspace codebase repository repo project code application app folder",
    "folder directory dir",
    "find locate where",
    "read open cat print view display show content contents see explain describe details head",
    "search grep look mention contain occurrence scan match",
    "write create make save generate new add",
    "edit change replace modify update fix rename refactor correct",
    "datasource connection integration backend connected configured plugged",
    "query run execute evaluate promql calculate",
    "metric measurement series timeseries",
    "cpu processor load utilization",
    "memory ram",
    "latency duration slow response",
    "errors failures failing",
    "health healthy status state",
    "alerts alarms firing",
):
    _stems = frozenset(map(stem, _group.split()))
    for _stem in _stems:
        _SYNONYMS[_stem] = _SYNONYMS.get(_stem, frozenset()) | _stems - {_stem}


_ACTIONS = frozenset(
    map(
        stem,
        "list show display print read open view see cat head find locate where search look write make create save edit "
        "change fix explain describe summarize query run check count compare inside tell name".split(),
    )
)


class Choice(Struct, frozen=True):
    """A tool and what the text gives for its arguments."""

    tool: ToolSpec
    filled: Filled


class _Document(Struct, frozen=True):
    weights: dict[str, float]
    meant: frozenset[str]
    """Words that people use for the tool, rather than words about it. The whole, if nobody gave any."""
    length: float


class Index:
    """The documents of one list of tools."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._tools = tuple(tools)
        self._documents = [_document(tool) for tool in tools]
        self._known_in = Counter(word for document in self._documents for word in document.weights)
        self._length = sum(document.length for document in self._documents) / max(1, len(self._documents)) or 1.0

    def choose(self, reading: Reading) -> Choice | None:
        """The tool that is meant, or None if none is."""
        named = [tool for tool in self._tools if tool.name in reading.names or reading.text == tool.name]
        if named:
            return Choice(named[0], fill(named[0].parameters, reading))
        scored = [(self._score(reading.words, document), at) for at, document in enumerate(self._documents)]
        scored.sort(key=lambda each: (-each[0], each[1]))
        best: Choice | None = None
        best_score = 0.0
        for score, at in scored[:CANDIDATES_MAX]:
            tool = self._tools[at]
            filled = fill(tool.parameters, reading)
            covered = _covered(reading.words, self._documents[at], filled.used)
            score *= covered * covered * (MISSING_SHARE if filled.missing else 1.0)
            if covered > COVERED_MIN and score > best_score and not self._is_chance(filled, reading, at):
                best, best_score = Choice(tool, filled), score
        return best

    def _is_chance(self, filled: Filled, reading: Reading, at: int) -> bool:
        """Whether nothing but words of its description speaks for a tool, or it would have to guess all it needs."""
        if len(filled.missing) > 1 and len(filled.missing) == filled.required:
            return True
        document = self._documents[at]
        return not any(_found(word, document)[0] in document.meant for word in reading.words)

    def _score(self, words: Iterable[str], document: _Document) -> float:
        scale = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * document.length / self._length)
        score = 0.0
        for word in words:
            found, weight = _found(word, document)
            if weight:
                rarity = math.log(
                    1 + (len(self._documents) - self._known_in[found] + 0.5) / (self._known_in[found] + 0.5)
                )
                score += rarity * weight * (SATURATION + 1) / (weight + scale)
        return score


def share_known(words: Sequence[str], tool: ToolSpec) -> float:
    """The share of these words that a tool's description, or any other, has: from 0 to 1."""
    return _covered(words, _document(tool), frozenset())


def _covered(words: Sequence[str], document: _Document, used: frozenset[str]) -> float:
    """The share of the words that the tool knows or uses: what a text is about counts more than what to do."""
    known = whole = 0.0
    for word in words:
        worth = ACTION_WEIGHT if word in _ACTIONS else 1.0
        whole += worth
        found, weight = _found(word, document)
        if word in used or (found == word and weight):
            known += worth
        elif weight:
            known += worth * SYNONYM_WEIGHT
    return known / whole if whole else 0.0


def _found(word: str, document: _Document) -> tuple[str, float]:
    """The form of a word that a document knows, and its weight there; 0 if it knows none."""
    weight = document.weights.get(word, 0.0)
    if weight:
        return word, weight
    synonyms = ((document.weights.get(each, 0.0), each) for each in sorted(_SYNONYMS.get(word, ())))
    weight, synonym = max(synonyms, default=(0.0, word))
    return (synonym, weight * SYNONYM_WEIGHT) if weight else (word, 0.0)


def _document(tool: ToolSpec) -> _Document:
    weights: defaultdict[str, float] = defaultdict(float)
    meant: set[str] = set()
    for weight, words in (
        (NAME_WEIGHT, stems(split_name(tool.name))),
        (KEYWORD_WEIGHT, [word for keyword in tool.keywords for word in stems(keyword)]),
        *((EXAMPLE_WEIGHT, list(read(example).words)) for example in tool.examples),
        (DESCRIPTION_WEIGHT, stems(tool.description)),
    ):
        for word in words:
            if not word.isdigit():  # numbers in a description are limits, not subjects
                weights[word] += weight
        if weight > DESCRIPTION_WEIGHT or not tool.examples:
            meant.update(words)
    return _Document(dict(weights), frozenset(meant), sum(weights.values()))
