"""The dialects: one folder per wire. A folder that exports DIALECT is a dialect; nothing else lists them."""

import importlib
import pkgutil

from dragoman.wire.dialect import Dialect


def installed() -> tuple[Dialect, ...]:
    """Every dialect in this package, in order of name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return tuple(importlib.import_module(f"{__name__}.{name}").DIALECT for name in names)
