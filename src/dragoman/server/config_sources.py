"""Where config comes from: the file, and variables of the environment that override single keys of it."""

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

from msgspec import Struct

from dragoman.core.errors import DragomanError
from dragoman.server.config_reading import Faults, FromEnvironment, fields_of, is_struct, members_of, variable
from dragoman.server.config_shapes import Config

FILE_NAME = "dragoman.toml"
FILE_BYTES_MAX = 4 * 1024 * 1024
PREFIX = "DRAGOMAN_"

OTHER_VARIABLES = (
    "DRAGOMAN_HOME",
    "DRAGOMAN_CONFIG",
    "DRAGOMAN_PEPPER",
    "DRAGOMAN_URL",
    "DRAGOMAN_CREDENTIAL",
    "DRAGOMAN_FUSES",
)
"""Variables of this prefix that are not keys of the file."""

Path_ = tuple[str, ...]
Tree = dict[str, object]


class BadConfig(DragomanError):
    """The configuration cannot be used. `faults` are sentences, each beginning with the key path it is about."""

    code = "bad_config"

    def __init__(self, detail: str, *, faults: tuple[str, ...] = ()) -> None:
        super().__init__(detail if not faults else "\n".join((detail, *(f"  {fault}" for fault in faults))))
        self.faults = faults


def find_file(home: Path, *, file: Path | None, cwd: Path) -> Path | None:
    """The config file to read: `file` if given (which must exist), else the first found in `cwd` and home."""
    if file is not None:
        if not file.is_file():
            raise BadConfig(f"There is no config file {file}.")
        return file
    return next((path for path in (cwd / FILE_NAME, home / FILE_NAME) if path.is_file()), None)


def read_file(path: Path) -> Tree:
    """Its tables. Raises BadConfig naming line and column."""
    try:
        with path.open("rb") as file:
            body = file.read(FILE_BYTES_MAX + 1)
        if len(body) > FILE_BYTES_MAX:
            raise BadConfig(f"{path} is larger than {FILE_BYTES_MAX} bytes; that is no config file.")
        return tomllib.loads(body.decode("utf-8"))
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BadConfig(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path} is not TOML: {error}.") from error


class Overrides:
    """What variables mean: `DRAGOMAN_LIMITS_RUN_STEPS` -> limits.run.steps, and for tables with names of their own
    `DRAGOMAN_MODELS_MAIN_URL` -> models.main.url."""

    def __init__(self) -> None:
        self._fixed: dict[str, Path_] = {}
        self._named: dict[str, dict[str, Path_]] = {}
        for field in fields_of(Config):
            if get_origin(field.type) is dict:
                inner = get_args(field.type)[1]
                if inner is object:
                    continue  # what stands in such tables is not for variables
                paths = {path for member in members_of(inner).values() or (inner,) for path in _leaves(member)}
                if members_of(inner):
                    paths.add(("kind",))
                self._named[field.key] = {variable("_".join(path))[len(PREFIX) :]: path for path in paths}
            else:
                for path in _leaves(field.type):
                    self._fixed[variable("_".join((field.key, *path)))] = (field.key, *path)

    def apply(self, tree: Tree, env: Mapping[str, str], faults: Faults) -> dict[str, str]:
        """Put overrides into the tree; the origin, `$NAME`, of each key path set so. Empty ones count as unset."""
        origins: dict[str, str] = {}
        for name, text in sorted(env.items()):
            if not text or not name.startswith(PREFIX) or name in OTHER_VARIABLES:
                continue
            path = self._path(name, tree)
            if path is None:
                self._complain(name, faults)
                continue
            _put(tree, path, FromEnvironment(text))
            origins[".".join(path)] = f"${name}"
        return origins

    def _path(self, name: str, tree: Tree) -> Path_ | None:
        if name in self._fixed:
            return self._fixed[name]
        for section, suffixes in self._named.items():
            beginning = variable(section) + "_"
            if name.startswith(beginning):
                return self._named_path(section, suffixes, name[len(beginning) :], tree)
        return None

    def _named_path(self, section: str, suffixes: dict[str, Path_], rest: str, tree: Tree) -> Path_ | None:
        known = tree.get(section)
        for item in cast("Tree", known) if isinstance(known, dict) else ():
            beginning = variable(item)[len(PREFIX) :] + "_"
            if rest.startswith(beginning) and rest[len(beginning) :] in suffixes:
                return (section, item, *suffixes[rest[len(beginning) :]])
        ends = [suffix for suffix in suffixes if rest.endswith("_" + suffix) and len(rest) > len(suffix) + 1]
        if not ends:
            return None
        longest = max(ends, key=len)
        return (section, rest[: -len(longest) - 1].lower(), *suffixes[longest])

    def _complain(self, name: str, faults: Faults) -> None:
        """A variable of a table we have must mean something; of others only what looks like a slip of the pen is a
        fault: an orchestrator puts variables of its own into this prefix, such as DRAGOMAN_SERVICE_HOST."""
        sentence = "is not a variable this program reads; "
        for section, suffixes in self._named.items():
            beginning = variable(section) + "_"
            if name.startswith(beginning):
                faults.add(f"${name}", f"{sentence}write {beginning}NAME_KEY, KEY one of {', '.join(sorted(suffixes))}")
                return
        tables = {variable(path[0]) + "_" for path in self._fixed.values()}
        ours = tuple(
            known for known in self._fixed for table in tables if name.startswith(table) and known.startswith(table)
        )
        near = get_close_matches(name, ours or (*self._fixed, *OTHER_VARIABLES), n=1, cutoff=0.6 if ours else 0.9)
        if near:
            faults.add(f"${name}", f"{sentence}did you mean {near[0]}?")
        elif ours:
            faults.add(f"${name}", f"{sentence}known are: {', '.join(ours)}")


def _leaves(shape: Any) -> Iterator[Path_]:
    """The key paths below a struct that hold single values or lists, not free tables."""
    for field in fields_of(cast("type[Struct]", shape)):
        kind = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        if is_struct(kind):
            for path in _leaves(kind):
                yield (field.key, *path)
        elif get_origin(kind) is not dict:
            yield (field.key,)


def _put(tree: Tree, path: Path_, value: object) -> None:
    """Set a value deep in the tree. Where a table is expected and something else stands, the reader will say so."""
    for key in path[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            return
        tree = cast("Tree", below)
    tree[path[-1]] = value
