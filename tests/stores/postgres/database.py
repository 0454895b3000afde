"""Schemas of a PostgreSQL server for tests. Skips, saying why, where there is none."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest

SERVER = os.environ.get("DRAGOMAN_TEST_POSTGRES", "postgresql://127.0.0.1:5432/")
"""Whoever connects there must be allowed to create schemas."""

EMPTIED = (
    "conversations",
    "entries",
    "deltas",
    "runs",
    "keys",
    "probes",
    "projects",
    "credentials",
    "records",
    "knowledge",
)

_missing: list[str] = []
"""Why there is no server, once that is known."""


async def connect(url: str = SERVER) -> Any:
    """A connection of the test's own; skips the test if there is no server."""
    if _missing:
        pytest.skip(_missing[0])
    try:
        return await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError) as error:
        _missing.append(f"no PostgreSQL at DRAGOMAN_TEST_POSTGRES or {SERVER}: {type(error).__name__}")
    pytest.skip(_missing[0])


def with_settings(**settings: str) -> str:
    """The server's URL for a connection with these settings."""
    return f"{SERVER}{'&' if '?' in SERVER else '?'}{urlencode(settings)}"


def url_of(schema: str) -> str:
    """The database calls those who use it by the schema's name."""
    return with_settings(search_path=schema, application_name=schema)


async def end_connections(name: str) -> int:
    """Have the server end all connections of that name, or those it begins; how many."""
    admin = await connect()
    query = "select count(pg_terminate_backend(pid)) from pg_stat_activity where starts_with(application_name, $1)"
    ended = await admin.fetchval(query, name)
    await admin.close()
    return ended


@asynccontextmanager
async def new_schema(name: str) -> AsyncGenerator[str]:
    """An empty schema, dropped in the end; its URL."""
    name = f"{name}_{os.getpid()}"
    connection = await connect()
    try:
        await connection.execute(f"drop schema if exists {name} cascade; create schema {name}")
        yield url_of(name)
        await connection.execute(f"set client_min_messages = warning; drop schema {name} cascade")
    finally:
        await connection.close()


_made: list[str] = []
KEPT = f"kept_{os.getpid()}"
"""The schema of those tests that need no new one, one after the other: making one takes longer than most of them."""


@asynccontextmanager
async def kept_schema() -> AsyncGenerator[str]:
    """The kept schema without what the test before left there; its URL."""
    connection = await connect()
    _made.append(KEPT)
    try:
        await connection.execute(
            f"set lock_timeout = '5s'; create schema if not exists {KEPT}; set search_path = {KEPT}"
        )
        if await connection.fetchval("select to_regclass('conversations') is not null"):
            await connection.execute("; ".join(f"delete from {table}" for table in EMPTIED))
            await connection.execute("alter sequence tape_numbers restart")
    finally:
        await connection.close()
    yield url_of(KEPT)


async def drop_kept_schema() -> None:
    if _made:
        await end_connections(KEPT)  # a test that failed may have left its own
        connection = await connect()
        await connection.execute(f"set client_min_messages = error; drop schema if exists {KEPT} cascade")
        await connection.close()
