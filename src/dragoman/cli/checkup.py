"""What `dragoman doctor` looks at: one function for each thing, giving what it found and how to mend it."""

import asyncio
import os
import shutil
import socket
import sqlite3
import stat
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from dragoman.access.pepper import PEPPER_FILE, PEPPER_VARIABLE
from dragoman.access.ports import Credential
from dragoman.cli.times import fine, span
from dragoman.core.errors import DragomanError
from dragoman.server.config_shapes import ModelTable, OpenAIModel
from dragoman.server.quantities import Address, parse_address
from dragoman.stores.sqlite.connection import open_reader
from dragoman.stores.sqlite.lock import holder_of

DISK_WARN_BYTES = 1024**3
DISK_FAIL_BYTES = 100 * 1024**2
CONNECT_S = 1.0
PROBE_S = 120.0
"""A local model may have to be loaded into memory first."""
EXPIRES_SOON_S = 7 * 86_400.0
SYNCHRONOUS_FULL = 2


class Finding(Struct, frozen=True):
    """`state`: ok, warn, fail. `fix` is a sentence or command; "" if nothing needs mending."""

    state: str
    name: str
    what: str
    fix: str = ""


def check_home(home: Path) -> Finding:
    if not home.exists():
        return Finding("ok", "home", f"{home} does not exist yet; it is made at the first start")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return Finding("fail", "home", f"{home} cannot be written by this user", "chown it, or use another --home")
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & 0o077:
        return Finding("warn", "home", f"others on this machine can look into {home}", f"chmod 700 {home}")
    return Finding("ok", "home", f"{home}, open to its owner only")


def check_disk(home: Path) -> Finding:
    there = next(path for path in (home, *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    what = f"{free / 1024**3:.1f} GiB free"
    if free < DISK_FAIL_BYTES:
        return Finding("fail", "disk", what, "make room: when the disk is full, no turn is accepted")
    if free < DISK_WARN_BYTES:
        return Finding("warn", "disk", what, "make room before it runs out")
    return Finding("ok", "disk", what)


def check_database(path: Path) -> Finding:
    if not path.exists():
        return Finding("ok", "database", f"{path} does not exist yet; it is made at the first start")
    try:
        with closing(open_reader(path)) as connection:
            synchronous = connection.execute("pragma synchronous").fetchone()[0]
            faults = [str(row[0]) for row in connection.execute("pragma integrity_check(3)")]
    except (DragomanError, sqlite3.Error) as error:
        what = error.internal if isinstance(error, DragomanError) else str(error)
        return Finding("fail", "database", f"{path} cannot be opened: {what}", "restore it from a backup")
    if faults != ["ok"]:
        return Finding("fail", "database", f"{path} is damaged: {faults[0]}", "stop the server and restore a backup")
    if synchronous != SYNCHRONOUS_FULL:
        return Finding("fail", "database", "commits are not synced to the disk", "report this: it must not happen")
    return Finding("ok", "database", f"WAL, FULL, integrity ok, {path.stat().st_size / 1024**2:.1f} MiB")


async def check_store(url: str, probe: Callable[[], Awaitable[None]]) -> Finding:
    """A database server: whether it takes a commit now."""
    try:
        await probe()
    except DragomanError as error:
        return Finding("fail", "database", f"{url}: {error.detail}", "see the sentence")
    return Finding("ok", "database", f"{url} takes commits")


def check_server(path: Path) -> Finding:
    holder = holder_of(path)
    if holder is None:
        return Finding("ok", "server", "none runs on this home")
    where = f", listening on {holder.url}" if holder.url else ""
    return Finding("ok", "server", f"process {holder.pid} runs on this home{where}")


def check_workspace(folder: Path) -> Finding:
    if not folder.exists():
        return Finding("ok", "workspace", f"{folder} does not exist yet; it is made at the first start")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "fail", "workspace", f"{folder} cannot be written: {error.strerror}", "chown it, or set [workspace] root"
        )
    return Finding("ok", "workspace", f"{folder} can be written")


def check_pepper(home: Path, pepper_id: str, credentials: Sequence[Credential]) -> Finding:
    where = PEPPER_VARIABLE if os.environ.get(PEPPER_VARIABLE) else str(home / PEPPER_FILE)
    strange = [each for each in credentials if each.pepper_id != pepper_id and each.revoked_at is None]
    if strange:
        names = ", ".join(each.name for each in strange[:5])
        return Finding(
            "warn",
            "pepper",
            f"{len(strange)} credential(s) under another pepper than that of {where} and refused: {names}",
            f"bring the old pepper back, or: dragoman credentials rotate {strange[0].id}",
        )
    return Finding("ok", "pepper", f"from {where}")


def check_credentials(listen: str, credentials: Sequence[Credential], *, now: float) -> Finding:
    good = [each for each in credentials if each.revoked_at is None and (each.expires_at or now + 1) > now]
    address: Address = parse_address(listen)
    if not good and not address.loopback:
        return Finding(
            "fail",
            "credentials",
            f"none is good, and others can reach {address}",
            "dragoman credentials create admin --scope admin",
        )
    soon = [each for each in good if each.expires_at is not None and each.expires_at < now + EXPIRES_SOON_S]
    if soon and soon[0].expires_at is not None:
        left = span(soon[0].expires_at - now)
        return Finding(
            "warn",
            "credentials",
            f"{len(good)} good; {soon[0].name} expires in {left}",
            f"dragoman credentials rotate {soon[0].id}",
        )
    made = "" if good else "; the first start makes one"
    return Finding("ok", "credentials", f"{len(good)} good{made}")


async def check_model(name: str, table: ModelTable, ask: Callable[[], Awaitable[float]], *, probe: bool) -> Finding:
    """`ask` makes one tiny call and gives the seconds it took. A model of others is asked only with `probe`, since it
    costs money; one on this machine is knocked at."""
    title = f"model {name}"
    if isinstance(table, OpenAIModel) and not probe:
        return check_reachable(title, table.url)
    try:
        async with asyncio.timeout(PROBE_S):
            took_s = await ask()
    except DragomanError as error:
        return Finding("fail", title, error.detail, f"dragoman models test {name}")
    except TimeoutError:
        return Finding("fail", title, f"no answer within {PROBE_S:g} s", f"dragoman models test {name}")
    return Finding("ok", title, f"answered in {fine(took_s)}")


def check_reachable(title: str, url: str) -> Finding:
    """Whether somebody listens there, if it is this machine; others are left alone."""
    address = address_of(url)
    if not address.loopback:
        return Finding("ok", title, f"{url} was not asked; add --probe to ask it")
    return knock(title, address)


def knock(title: str, address: Address) -> Finding:
    try:
        with socket.create_connection((address.host, address.port), timeout=CONNECT_S):
            return Finding("ok", title, f"somebody listens on {address}")
    except OSError as error:
        return Finding("warn", title, f"{address}: {error.strerror or error}", f"start what should listen on {address}")


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    return Address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
