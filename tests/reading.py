"""What a dialect's `tests/dialects/<name>/reading.py` must offer, so that contract tests can read its streams.

    def read(path: str, data: bytes) -> Reading

takes everything that one stream of the route `path` sent, and raises AssertionError if that is not well formed. Where
paths have forks there is also

    def body(branch: str) -> bytes

a request's body that means this branch.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reading:
    """`text` is the final answer put together from its increments alone; `ended` = the reader was told that it is over;
    `failed` = the reader was told of a failure; `left_open` names parts that were begun and never closed."""

    text: str
    ended: bool
    failed: bool
    left_open: tuple[str, ...] = ()


def reader_of(dialect: str) -> Callable[[str, bytes], Reading]:
    """The hook of one dialect, found by its folder."""
    return _module_of(dialect).read


def meaning_of(dialect: str, branch: str) -> dict[str, Any]:
    """What a request of this dialect has that means the branch: what its hook says, or its body alone."""
    module = _module_of(dialect)
    return module.means(branch) if hasattr(module, "means") else {"body": module.body(branch)}


@cache
def _module_of(dialect: str) -> Any:
    path = Path(__file__).parent / "dialects" / dialect / "reading.py"
    assert path.exists(), f"{path} is missing: it tells contract tests how {dialect} streams are read"
    spec = importlib.util.spec_from_file_location(f"reading_{dialect}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
