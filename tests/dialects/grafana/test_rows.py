"""Every row of the route table is shown by a transcript, under one of its bases."""

import re
from pathlib import Path

import msgspec

from dragoman.dialects.grafana import BASES, DIALECT, PLUGIN, PROXY
from tests.transcripts import Exchange, parse

HERE = Path(__file__).parent
METHODS = {"message/stream", "message/send", "tasks/get", "tasks/cancel", "tasks/resubscribe"}


def exchanges() -> list[Exchange]:
    found = [block for path in HERE.glob("*.txt") for block in parse(path.read_text())]
    return [block for block in found if isinstance(block, Exchange)]


def without_base(path: str) -> str:
    """What is the same of a row on every base; /v2 is beside /v1."""
    for base in sorted((base.removesuffix("/v1") for base in BASES), key=len, reverse=True):
        if path.startswith(f"{base}/v"):
            return path.removeprefix(base)
    return path.removeprefix(PROXY).removeprefix(PLUGIN)


def pattern(path: str) -> "re.Pattern[str]":
    parts = re.split(r"\{([^}]+)\}", path)
    return re.compile(
        "".join(
            re.escape(part) if number % 2 == 0 else (".+" if part.endswith(":path") else "[^/]+")
            for number, part in enumerate(parts)
        )
    )


def test_every_row_has_a_transcript() -> None:
    rows = {(route.method, without_base(route.path)) for route in DIALECT.routes}
    played = {(each.method, without_base(each.target.partition("?")[0])) for each in exchanges()}
    shown: set[tuple[str, str]] = set()
    for method, path in played:
        fits = [row for row in rows if row[0] == method and pattern(row[1]).fullmatch(path)]
        shown |= {min(fits, key=lambda row: row[1].count("{"))} if fits else set()
    assert sorted(rows - shown) == []


def test_every_method_of_the_agents_row_has_a_transcript() -> None:
    called: set[str] = set()
    for each in exchanges():
        if "/a2a/agents/" in each.target and each.method == "POST" and each.body().startswith('{"jsonrpc":"2.0"'):
            called.add(msgspec.json.decode(each.body()).get("method", ""))
    assert sorted(METHODS - called) == []
