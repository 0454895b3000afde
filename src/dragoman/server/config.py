"""Config: one TOML file, overridden key by key from the environment; every key has a default, and no file is fine.

    find the file -> put in DRAGOMAN_… variables -> read by the structs' types -> complete -> check

Every fault is collected and said at once. A loaded Config can be used without further questions.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from dragoman.server.config_checks import REFUSED_KINDS, check, complete
from dragoman.server.config_reading import Reader
from dragoman.server.config_shapes import Config
from dragoman.server.config_sources import BadConfig, Overrides, Tree, find_file, read_file

__all__ = ["BadConfig", "Config", "Loaded", "load", "load_config", "store_file", "workspace_folder"]

DEFAULT_ORIGIN = "default"


class Loaded(Struct, frozen=True):
    """A config and where it came from. `origins` says of each key path that was set by whom; others are defaults."""

    config: Config
    file: Path | None
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def load(
    home: Path,
    *,
    file: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    resolve_secrets: bool = True,
) -> Loaded:
    """Read, complete and check. Raises BadConfig with every fault.

    `resolve_secrets=False` leaves `${NAME}` standing, for commands that call no model and no outside system: they must
    work where the secrets are not.
    """
    env = os.environ if env is None else env
    found = find_file(home, file=file, cwd=cwd or Path.cwd())
    tree: Tree = {} if found is None else read_file(found)
    reader = Reader(env, resolve_secrets=resolve_secrets, refused_kinds=REFUSED_KINDS)
    origins = dict.fromkeys(_paths(tree), str(found))
    origins.update(Overrides().apply(tree, env, reader.faults))
    config: Config | None = reader.read(tree, Config, "")
    warnings: tuple[str, ...] = ()
    if found is not None and reader.literal_secrets:
        warnings = _judge_openness(found, reader)
    if config is not None and not reader.faults:
        config = complete(config, folder=(found.parent if found else home).absolute())
        check(config, reader.faults)
    if config is None or reader.faults:
        what = str(found) if found else "The configuration"
        count = len(reader.faults)
        raise BadConfig(f"{what} has {count} fault{'s' * (count != 1)}:", faults=tuple(reader.faults))
    return Loaded(config, found, origins, warnings)


def load_config(
    home: Path,
    *,
    file: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    resolve_secrets: bool = True,
) -> Config:
    """As `load`, the config alone."""
    return load(home, file=file, cwd=cwd, env=env, resolve_secrets=resolve_secrets).config


def store_file(config: Config, home: Path) -> Path:
    """Where the SQLite database lies. A relative URL is relative to home."""
    return home / config.store.url.partition(":")[2]


def workspace_folder(config: Config, home: Path) -> Path:
    """The folder of the workspace's tools; not made here."""
    return home / config.workspace.root


def files_folder(config: Config, home: Path, dialect: str) -> Path:
    """Where a dialect keeps its conversation files; not made here."""
    folder = config.dialects[dialect].workspace
    return home / folder if folder else workspace_folder(config, home)


def _judge_openness(file: Path, reader: Reader) -> tuple[str, ...]:
    """A secret in clear in a file: a fault if everybody on the machine can read it, a warning if a group can."""
    mode = stat.S_IMODE(file.stat().st_mode)
    keys = ", ".join(reader.literal_secrets)
    if mode & 0o004:
        for path in reader.literal_secrets:
            reader.faults.add(
                path,
                f"stands in clear in a file that everybody on this machine can read; chmod 600 {file},"
                " or put it into the environment and write ${NAME}",
            )
        return ()
    if mode & 0o040:
        return (f"{file} holds secrets in clear ({keys}) and its group can read it: chmod 600 {file}",)
    return ()


def _paths(tree: Mapping[str, object], above: str = "") -> list[str]:
    """The key paths of all values in a tree of tables."""
    paths: list[str] = []
    for key, value in tree.items():
        path = f"{above}.{key}" if above else key
        if isinstance(value, dict):
            paths.extend(_paths(value, path))  # pyright: ignore[reportUnknownArgumentType] TOML's own tables
        else:
            paths.append(path)
    return paths
