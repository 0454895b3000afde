"""`dragoman migrate`."""

import asyncio
import json
import os
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from time import monotonic

import click
import msgspec
from msgspec import Struct

from dragoman.access.pepper import PEPPER_FILE, PEPPER_VARIABLE
from dragoman.access.sealing import SECRET_KEY_FILE, SECRET_KEY_VARIABLE
from dragoman.cli.failing import unwrapped
from dragoman.cli.opening import load_settings, refuse_if_in_use, store_path
from dragoman.cli.options import global_options, json_option, settings
from dragoman.cli.terminal import Progress, note, progress, say, say_json, say_table
from dragoman.cli.times import fine
from dragoman.core.errors import BadRequest, Conflict
from dragoman.server.config import Config
from dragoman.server.config_checks import check
from dragoman.server.config_reading import Faults
from dragoman.server.moving import Moved, count_rows, look_over, move, open_source, open_target

DIGITS_SHOWN = 16


class Outcome(Struct, frozen=True):
    """What was moved, or would be. `unfinished`: runs that had not ended."""

    tables: list[Moved]
    unfinished: int
    took_s: float

    @property
    def rows(self) -> int:
        return sum(moved.rows for moved in self.tables)


@click.command("migrate", short_help="Move this home's store into a PostgreSQL database.")
@click.option("--to", "url", required=True, metavar="URL", help="postgresql://USER@HOST:PORT/DATABASE, which is empty.")
@click.option("--dry-run", is_flag=True, help="Read everything and look at the database, but write nothing.")
@json_option
@global_options
def command(url: str, dry_run: bool, as_json: bool) -> None:
    """Copy projects, credentials, conversations, runs and keys of this home into a PostgreSQL database.

    No server may run on this home meanwhile, and the database must hold nothing of Dragoman's yet. All is copied,
    compared and then kept at once: if this is interrupted, by kill -9 too, the database is as empty as before, and you
    can start again. The SQLite store is only read. The password is that of [store] password, PGPASSWORD or ~/.pgpass.
    """
    config = load_settings(resolve_secrets=False).config
    check_urls(config, url)
    refuse_if_in_use(config)
    path = store_path(config)
    try:
        outcome = asyncio.run(_migrate(path, url, str(config.store.password), dry_run=dry_run))
    except BaseExceptionGroup as group:
        raise unwrapped(group) from group
    keys = keys_of(settings().home)
    if as_json:
        say_json(_described(outcome, path, url, keys, dry_run=dry_run))
        return
    rows = [(each.table, str(each.rows), _short(each.digest), _short(each.digest_there)) for each in outcome.tables]
    say_table(("TABLE", "ROWS", "SHA-256 READ", "SHA-256 READ BACK"), rows)
    _advise(outcome, path, url, keys, dry_run=dry_run)


def check_urls(config: Config, to: str) -> None:
    """Raises BadRequest if `to` cannot be a store's; Conflict if the store is in PostgreSQL already."""
    if config.store.is_postgres:
        raise Conflict(
            f"The configuration names {config.store.url} as the store already. To move a SQLite store there, name that"
            " first: DRAGOMAN_STORE_URL=sqlite:dragoman.db"
        )
    faults = Faults()
    wanted = msgspec.structs.replace(config, store=msgspec.structs.replace(config.store, url=to))
    check(wanted, faults)
    if faults:
        raise BadRequest("; ".join(fault.replace("store.url:", "--to") for fault in faults))
    if not wanted.store.is_postgres:
        raise BadRequest("--to names a PostgreSQL database: postgresql://USER@HOST:PORT/DATABASE")


class Keys(Struct, frozen=True):
    """Where the keys of a home are, which do not move with its store: a variable's name or a file; "" = it has none."""

    pepper: str
    secret_key: str


def keys_of(home: Path) -> Keys:
    return Keys(_place(home, PEPPER_VARIABLE, PEPPER_FILE), _place(home, SECRET_KEY_VARIABLE, SECRET_KEY_FILE))


def _place(home: Path, variable: str, file: str) -> str:
    if os.environ.get(variable):
        return variable
    return str(home / file) if (home / file).exists() else ""


async def _migrate(path: Path, url: str, password: str, *, dry_run: bool) -> Outcome:
    began = monotonic()
    with open_source(path) as source, ExitStack() as bars:
        async with open_target(url, password=password, look_only=dry_run) as target:
            total = count_rows(source)

            @cache
            def bar(what: str) -> Progress:
                """Begun when it is first wanted: it reckons with the time since."""
                return bars.enter_context(progress(f"rows {what}", total=total))

            if dry_run:
                tables = look_over(source, lambda count: bar("read").step(count))
            else:
                tables = await move(
                    source,
                    target,
                    copied=lambda count: bar("copied").step(count),
                    compared=lambda count: bar("compared").step(count),
                )
        return Outcome(tables, source.unfinished, monotonic() - began)


def _short(digest: str | None) -> str:
    return "" if digest is None else digest[:DIGITS_SHOWN]


def _for_config(url: str) -> str:
    return f"[store]\nurl = {json.dumps(url)}"


def _described(outcome: Outcome, path: Path, url: str, keys: Keys, *, dry_run: bool) -> dict[str, object]:
    return {
        "from": str(path),
        "to": url,
        "dry_run": dry_run,
        "rows": outcome.rows,
        "unfinished_runs": outcome.unfinished,
        "took_s": round(outcome.took_s, 3),
        "tables": [
            {"name": each.table, "rows": each.rows, "sha256": each.digest, "sha256_read_back": each.digest_there}
            for each in outcome.tables
        ],
        "pepper": keys.pepper,
        "secret_key": keys.secret_key,
        "config": _for_config(url),
    }


def _advise(outcome: Outcome, path: Path, url: str, keys: Keys, *, dry_run: bool) -> None:
    if dry_run:
        note(f"{outcome.rows} rows were read in {fine(outcome.took_s)}; the database is empty. Nothing was written.")
        return
    note(f"{outcome.rows} rows moved and compared in {fine(outcome.took_s)}.")
    if outcome.unfinished:
        note(f"{outcome.unfinished} runs had not ended: the first server on the database takes them up.")
    note("Put this into dragoman.toml of every server:\n")
    say(_for_config(url))
    note()
    _advise_on_key("Credentials are good", "pepper", keys.pepper, PEPPER_VARIABLE)
    _advise_on_key("Secrets of integrations can be read", "secret key", keys.secret_key, SECRET_KEY_VARIABLE)
    note(
        f"{path} is as it was. Keep it until you are sure, and start no server on it: what that wrote would not be in"
        " the database."
    )


def _advise_on_key(what: str, noun: str, place: str, variable: str) -> None:
    if place == variable:
        note(f"{what} only with the {noun} in {variable}: every server needs the same.")
    elif place:
        note(f"{what} only with this home's {noun}: give every server {variable}=$(cat {place})")
