"""Pages for people and documents for tools: complete, offline, and the same as the table of routes."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from dragoman.edge.house import HOUSE
from dragoman.edge.pages import pages
from dragoman.wire.openapi import openapi
from tests.stage import SetUp

FETCHING = ("href", "src", "action", "data", "srcset", "poster", "background", "ping")
"""Attributes that make a browser fetch something."""


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self._in_table = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.targets += [value or "" for name, value in attrs if name in FETCHING]
        if tag == "table":
            self._in_table = True
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._in_table = False

    def handle_data(self, data: str) -> None:
        if self._in_table:
            self.rows[-1][-1] += data


async def page(s: Any, path: str = "/docs") -> Page:
    answer = await s.anonymous().request("GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(answer.body.decode())


async def test_the_page_lists_every_route_with_what_it_needs(stage: SetUp) -> None:
    async with stage() as s:
        shown = await page(s)
        dialects = (*s.house.dialects, HOUSE)
    assert shown.rows == [
        [route.method, route.path, route.summary, "open" if route.open else str(route.scope or "any credential")]
        for dialect in dialects
        for route in dialect.routes
    ]


async def test_the_page_leads_nowhere_but_to_this_server(stage: SetUp) -> None:
    async with stage() as s:
        shown = await page(s)
        answers = {target: (await s.anonymous().request("GET", target)).status for target in shown.targets}
        documents = [f"/openapi/{dialect.name}.json" for dialect in (*s.house.dialects, HOUSE)]
    assert answers == dict.fromkeys(["/docs/style.css", *documents], 200)


async def test_nothing_in_the_page_runs_or_is_styled_in_place(stage: SetUp) -> None:
    async with stage() as s:
        shown = await page(s)
        answer = await s.anonymous().request("GET", "/docs")
        style = await s.anonymous().request("GET", "/docs/style.css")
    assert set(shown.tags) == {"html", "meta", "title", "link", "h1", "h2", "p", "code", "a", "table", "tr", "td"}
    assert shown.attributes == {"lang", "charset", "rel", "href"}
    policy = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    assert answer.headers["content-security-policy"] == policy
    assert (style.headers["content-type"], b"url(" in style.body, b"@import" in style.body) == (
        "text/css; charset=utf-8",
        False,
        False,
    )


async def test_each_dialect_has_its_document(stage: SetUp) -> None:
    async with stage() as s:
        for dialect in (*s.house.dialects, HOUSE):
            answer = await s.anonymous().request("GET", f"/openapi/{dialect.name}.json")
            shown = json.loads(answer.body)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            expected = openapi(dialect, version=shown["info"]["version"])
            assert (shown["info"]["title"], list(shown["paths"])) == (dialect.title, list(expected["paths"]))
        assert (await s.anonymous().request("GET", "/openapi/nothing.json")).status == 404


@pytest.mark.parametrize("version", ["1.0", "<script>", '"&'])
async def test_what_stands_in_a_page_is_escaped(version: str) -> None:
    table = pages((HOUSE,), version=version)
    body = (await table["/docs"]({"type": "http"})).body.decode()
    assert "script" not in Page(body).tags
    assert ("<script>" in body) is False
