"""How long a regular expression may take on the worst text there is, told from the expression alone. Pure.

Python's matcher goes back and tries again: `(a+)+b` takes 2^n steps on n letters, `.*a.*b` n^3, and no time limit can
be set. So expressions that a server runs over other people's text are looked at once, before they are used:

    the search begins at each of n places ── and from there takes n^d steps that may end in nothing

`effort` is that d. A repeat adds one if it must try again at each of its characters, that is if what follows it may
begin with a character that it takes itself; what stands at the very end cannot fail and adds nothing. A repeat around
something that can be read in two ways has no bound at all.

The answer errs on the safe side: there are harmless expressions that it refuses.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.errors import BadRequest

# The only parser of Python's own dialect there is; the same since Python 3.11. It holds the names of its parts too.
sre = import_module("re._parser")

PATTERN_CHARS_MAX = 2_000

FEW = 8
"""A repeat that may be this much longer than its least is a constant; a longer one counts as endless."""
ROUNDS_FEW = 4
"""A group that is repeated no more often is read as if it were written out."""
WAYS_MAX = (2_000, 16)
"""In so many ways may those parts that are no endless repeats read the same text, by `effort`."""

_Chars = frozenset[int]
_OTHERS = -1
"""Stands for each character beyond Latin-1: two sets that both have some count as overlapping."""
_ALL: _Chars = frozenset((*range(256), _OTHERS))
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_ONE = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


def compiled(pattern: str, *, effort_max: int = 1) -> re.Pattern[str]:
    """The expression, ready to use. Raises BadRequest if it is none, finds nothing, or may take too long."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise BadRequest(f"has {len(pattern)} characters; {PATTERN_CHARS_MAX} at most")
    try:
        made = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadRequest(f"is not a regular expression: {error}") from None
    if made.match("") is not None:
        raise BadRequest("fits empty text, and so every place of every text")
    if effort(pattern) > effort_max:
        raise BadRequest(
            "may take too long: two of its endless repeats can take the same characters. "
            "Narrow one of them, such as [^,]* in place of .*, or bound it, such as {0,8}"
        )
    return made


def effort(pattern: str) -> int:
    """The d of the module's docstring. Raises BadRequest if there is no bound, or none that can be told."""
    parsed: Any = sre.parse(pattern)
    whole = _Reading(parsed.state.flags).sequence(parsed, _END)
    if whole.ways > WAYS_MAX[min(whole.effort, 1)]:
        raise BadRequest("may take too long: there are too many ways in which its parts can read the same text")
    return whole.effort


class _Rest(Struct, frozen=True):
    """What is left of an expression from some place on."""

    first: _Chars
    """What it may begin with."""
    empty: bool
    """It may take nothing."""
    effort: int
    sure: bool = False
    """It cannot fail."""
    scanned: _Chars = frozenset()
    """What its first endless repeat takes, if nothing but single characters stand before that."""
    once: bool = False
    """One of those characters stops that repeat: begun at several places, it takes no character twice."""
    ways: int = 1


_END = _Rest(frozenset(), empty=True, effort=0, sure=True)


class _Reading:
    """Reads a parsed expression from its end to its beginning."""

    def __init__(self, flags: int) -> None:
        self._flags = flags

    def sequence(self, items: Any, rest: _Rest) -> _Rest:
        for kind, value in reversed(list(items)):
            rest = self._item(kind, value, rest)
        return rest

    def _item(self, kind: Any, value: Any, rest: _Rest) -> _Rest:
        if kind in _ONE:
            chars = self._chars(kind, value)
            stops = bool(rest.scanned) and not chars & rest.scanned and rest.effort <= 1
            return _Rest(chars, False, rest.effort, scanned=rest.scanned, once=stops or rest.once, ways=rest.ways)
        if kind is sre.AT:
            return replace(rest, sure=False)
        if kind is sre.SUBPATTERN:
            return self.sequence(value[-1], rest)
        if kind is sre.ATOMIC_GROUP:
            return self.sequence(value, rest)
        if kind is sre.BRANCH:
            return _either([self.sequence(branch, rest) for branch in value[1]])
        if kind in (sre.ASSERT, sre.ASSERT_NOT):
            looked = self.sequence(value[1], _UNSURE)
            return replace(rest, sure=False, effort=max(rest.effort, looked.effort), ways=rest.ways * looked.ways)
        if kind in _REPEATS:
            least, most, body = value
            return self._repeat(body, rest, least=least, most=most)
        raise BadRequest("refers back to one of its own groups; how long that may take cannot be told")

    def _repeat(self, body: Any, rest: _Rest, *, least: int, most: int) -> _Rest:
        inner = _bare(body)
        single = len(inner) == 1 and inner[0][0] in _ONE
        if most == 1 or (not single and most <= ROUNDS_FEW):
            once = rest
            for number in range(most, 0, -1):
                taken = self.sequence(body, once)
                once = _either([taken, rest]) if number > least else taken
            return once
        if single:
            chars = self._chars(*inner[0])
            stops = chars
        else:
            chars, stops = self._group(body, rest)
        first = chars | rest.first if least == 0 else chars
        empty = least == 0 and rest.empty
        sure = least == 0 and rest.sure
        if single and most - least <= FEW:
            ways = rest.ways * (most - least + 1 if chars & rest.first else 1)
            return _Rest(first, empty, rest.effort, sure, ways=ways)
        if rest.sure:
            spent = 0
        elif not chars & rest.first or rest.effort == 0 or rest.once or (rest.scanned and not stops & rest.scanned):
            spent = max(1, rest.effort)
        else:
            spent = 1 + rest.effort
        return _Rest(first, empty, spent, sure, scanned=chars if single else _ALL, ways=rest.ways)

    def _group(self, body: Any, rest: _Rest) -> tuple[_Chars, _Chars]:
        """What a repeated group may begin with and end with. Raises BadRequest if it can be read in two ways."""
        alone = self.sequence(body, _UNSURE)
        if alone.empty:
            raise BadRequest("repeats something that may be empty; write it so that each round takes a character")
        if not self._plain(body, alone.first | rest.first):
            raise BadRequest(
                "may take for ever: it repeats a group that can read the same text in several ways. "
                "End each round with a character that stands nowhere else in it, such as (?:[a-z]+\\.)+"
            )
        last = list(_bare(body))[-1]
        return alone.first, self._chars(*last) if last[0] in _ONE else _ALL

    def _plain(self, items: Any, follow: _Chars) -> bool:
        """Whether at each character it is clear which way to go."""
        rest = _Rest(follow, empty=False, effort=0)
        for kind, value in reversed(list(items)):
            if kind in _REPEATS:
                least, most, body = value
                taken = self.sequence(body, _UNSURE)
                if least != most and (taken.first & rest.first or taken.empty):
                    return False
                again = taken.first | rest.first if most > 1 else rest.first
                if not self._plain(body, again):
                    return False
            elif kind is sre.BRANCH:
                firsts = [self.sequence(branch, _UNSURE) for branch in value[1]]
                if any(each.empty for each in firsts) or _overlap(firsts):
                    return False
                if not all(self._plain(branch, rest.first) for branch in value[1]):
                    return False
            elif kind is sre.SUBPATTERN or kind is sre.ATOMIC_GROUP:
                if not self._plain(value[-1] if kind is sre.SUBPATTERN else value, rest.first):
                    return False
            rest = self._item(kind, value, rest)
        return True

    def _chars(self, kind: Any, value: Any) -> _Chars:
        if kind is sre.ANY:
            return _ALL
        if kind is sre.LITERAL:
            return self._cased(range(value, value + 1))
        if kind is sre.NOT_LITERAL:
            return _ALL - {value}
        negated = value[0][0] is sre.NEGATE
        found: set[int] = set()
        for member, what in value[1:] if negated else value:
            if member is sre.LITERAL:
                found |= self._cased(range(what, what + 1), narrow=negated)
            elif member is sre.RANGE:
                found |= self._cased(range(what[0], what[1] + 1), narrow=negated)
            else:
                found |= _category(_CATEGORIES[what], self._flags & re.ASCII)
        return (_ALL - found) | {_OTHERS} if negated else frozenset(found)

    def _cased(self, codes: range, *, narrow: bool = False) -> _Chars:
        """The characters of a range; in both cases where case does not count, unless fewer are safer than more."""
        found = {code for code in codes if code < 256} if codes[0] < 256 else set[int]()
        if codes[-1] >= 256:
            found.add(_OTHERS)
        if not narrow:  # (?i) may stand for a group alone: it is taken to hold everywhere
            for code in tuple(found - {_OTHERS}):
                other = chr(code).swapcase()
                found |= {ord(other) if ord(other) < 256 else _OTHERS} if len(other) == 1 else {_OTHERS}
        return frozenset(found)


_UNSURE = _Rest(frozenset(), empty=True, effort=0)


def _bare(items: Any) -> Sequence[tuple[Any, Any]]:
    """A sequence out of the groups around it."""
    found = list(items)
    while len(found) == 1 and found[0][0] in (sre.SUBPATTERN, sre.ATOMIC_GROUP):
        kind, value = found[0]
        found = list(value[-1] if kind is sre.SUBPATTERN else value)
    return found


def _either(rests: Sequence[_Rest]) -> _Rest:
    return _Rest(
        frozenset[int]().union(*(rest.first for rest in rests)),
        any(rest.empty for rest in rests),
        max(rest.effort for rest in rests),
        any(rest.sure for rest in rests),
        frozenset[int]().union(*(rest.scanned for rest in rests)),
        all(rest.once for rest in rests),
        (sum if _overlap(rests) else max)(rest.ways for rest in rests),
    )


def _overlap(rests: Sequence[_Rest]) -> bool:
    """Whether two of them may begin alike."""
    together = frozenset[int]().union(*(rest.first for rest in rests))
    return sum(len(rest.first) for rest in rests) > len(together)


@lru_cache(maxsize=16)
def _category(escape: str, ascii_only: int) -> _Chars:
    pattern = re.compile(escape, re.ASCII if ascii_only else 0)
    return frozenset(code for code in range(256) if pattern.match(chr(code))) | {_OTHERS}
