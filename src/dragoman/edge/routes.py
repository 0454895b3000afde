"""The table of routes of all mounted dialects: which one answers a path.

Paths without parameters are found in one step. Others are sorted by the literal text they begin with, so that a request
is compared only with the few patterns that share its beginning. Literal segments win over parameters.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct
from starlette.routing import compile_path

from dragoman.core.errors import DragomanError, NotFound, WrongMethod
from dragoman.wire.dialect import Dialect, Route


class Mounted(Struct, frozen=True):
    """A route and the dialect it belongs to."""

    dialect: Dialect
    route: Route[Any]


class _Pattern:
    """A path with parameters, and who answers it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.methods: dict[str, Mounted] = {}

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Made when a request is first compared with it: all of them at once would be a twentieth of the start."""
        regex, _, _ = compile_path(self.path)
        # DOTALL: `{name:path}` is the rest of the path, whatever it holds. An id with a line end is an id.
        return re.compile(regex.pattern, re.DOTALL)

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Patterns that take the rest of the path come last; more literal ones first."""
        literal = sum(not segment.startswith("{") for segment in self.path.split("/"))
        return ":path}" in self.path, -literal, -len(self.path)


class RouteTable:
    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = tuple(dialects)
        self._literal: dict[str, dict[str, Mounted]] = {}
        self._patterns: dict[str, list[_Pattern]] = {}
        self._beginning_chars_max = 0
        """Of a pattern's beginning: what is longer need not be looked for, however long the path."""
        for dialect in dialects:
            for route in dialect.routes:
                for path in (route.path, *route.also):
                    self._add(Mounted(dialect, route), path)
        for patterns in self._patterns.values():
            patterns.sort(key=lambda pattern: pattern.rank)

    def _add(self, mounted: Mounted, path: str) -> None:
        if "{" not in path:
            self._put(self._literal.setdefault(path, {}), mounted, path)
            return
        beginning = path[: path[: path.index("{")].rindex("/") + 1]
        self._beginning_chars_max = max(self._beginning_chars_max, len(beginning))
        bucket = self._patterns.setdefault(beginning, [])
        for pattern in bucket:
            if pattern.path == path:
                self._put(pattern.methods, mounted, path)
                return
        pattern = _Pattern(path)
        self._put(pattern.methods, mounted, path)
        bucket.append(pattern)

    def _put(self, methods: dict[str, Mounted], mounted: Mounted, path: str) -> None:
        method = mounted.route.method
        if method in methods:
            other = methods[method].dialect.name
            raise ValueError(f"{mounted.dialect.name} and {other} both answer {method} {path}")
        methods[method] = mounted

    def find(self, method: str, path: str) -> tuple[Mounted, dict[str, str]]:
        """The route and its path parameters. Raises NotFound("route") or WrongMethod."""
        allowed: list[str] = []
        owner: Dialect | None = None
        for methods, params in self._matching(path):
            mounted = methods.get(method)
            if mounted is not None and (owner is None or mounted.dialect is owner):
                return mounted, params
            for other in methods.values():
                # What is nearer to the path is whose path it is: no other dialect answers its other methods.
                owner = owner or other.dialect
                if other.dialect is owner:
                    allowed.append(other.route.method)
        if allowed:
            raise WrongMethod("Method Not Allowed", allowed=tuple(dict.fromkeys(allowed)))
        raise NotFound("Not Found", what="route")

    def _matching(self, path: str) -> Iterator[tuple[dict[str, Mounted], dict[str, str]]]:
        """Rows that answer the path under some method, the most literal first, and the parameters each finds in it."""
        methods = self._literal.get(path)
        if methods is not None:
            yield methods, {}
        end = min(len(path), self._beginning_chars_max)
        while (end := path.rfind("/", 0, end)) >= 0:
            for pattern in self._patterns.get(path[: end + 1], ()):
                match = pattern.regex.fullmatch(path)
                if match is not None:
                    yield pattern.methods, match.groupdict()

    def owner(self, path: str) -> Dialect | None:
        """The dialect in whose error shape a path is answered that none of its routes answers: whose path it is under
        another method, else that of the longest prefix."""
        for methods, _ in self._matching(path):
            for mounted in methods.values():
                return mounted.dialect
        owned = [
            (len(prefix), dialect)
            for dialect in self._dialects
            for prefix in dialect.prefixes
            if path.startswith(prefix)
        ]
        return max(owned, key=lambda item: item[0])[1] if owned else None

    def redirect(self, method: str, path: str) -> str:
        """The path without its trailing slashes if that one exists, else ""."""
        shorter = path.rstrip("/")
        if shorter == path or not shorter:
            return ""
        try:
            self.find(method, shorter)
        except WrongMethod:
            return shorter
        except DragomanError:
            return ""
        return shorter
