"""Pages for people and documents for tools: complete, offline, and the same as the table of routes."""

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import pytest
from msgspec.structs import replace

from dragoman.edge.house import HOUSE
from dragoman.edge.pages import pages
from dragoman.server.config_shapes import Server
from dragoman.wire.dialect import Route
from dragoman.wire.openapi import openapi
from tests.edge.toy import TOY
from tests.parts import open_config
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
        row for dialect in dialects for route in dialect.routes for row in (route_row(route), *fork_rows(route))
    ]


def route_row(route: Route[Any]) -> list[str]:
    return [route.method, route.path, route.summary, needs(route)]


def fork_rows(route: Route[Any]) -> list[list[str]]:
    return [["", f"… {name}", each.summary, " and ".join(each.scopes)] for name, each in route.forks.items()]


def needs(route: Route[Any]) -> str:
    ticket = f"; or a ticket in ?{route.ticket}=" if route.ticket else ""
    return "open" if route.open else (" and ".join(route.scopes) or "any credential") + ticket


async def test_the_page_shows_the_branches_of_a_path_and_where_a_ticket_will_do(stage: SetUp) -> None:
    async with stage(dialects=(TOY,)) as s:
        shown = await page(s)
    assert shown.rows[:7] == [
        ["POST", "/toy/talks/{talk}", "Say", "chat:run"],
        ["", "… accept", "Say and go", ""],
        ["", "… collect", "Say and wait", ""],
        ["", "… stream", "Say and listen", ""],
        ["", "… look", "Look", ""],
        ["", "… delete", "Delete", "conversations:write"],
        ["GET", "/toy/talks/{talk}/events", "Listen", "chat:read; or a ticket in ?ticket="],
    ]


async def test_the_page_leads_nowhere_but_to_this_server(stage: SetUp) -> None:
    async with stage() as s:
        shown = await page(s)
        answers = {target: (await s.anonymous().request("GET", below(target))).status for target in shown.targets}
        documents = [f"openapi/{dialect.name}.json" for dialect in (*s.house.dialects, HOUSE)]
    assert answers == dict.fromkeys(["docs/style.css", *documents], 200)


def below(target: str, page: str = "/docs") -> str:
    """Where a browser goes from the page."""
    return urljoin(page, target)


async def test_the_page_also_holds_under_a_path(stage: SetUp) -> None:
    async with stage(config=replace(open_config(), server=Server(base_path="/sub"))) as s:
        shown = await page(s, "/sub/docs")
        targets = [below(target, "/sub/docs") for target in shown.targets]
        answers = [(await s.anonymous().request("GET", target)).status for target in targets]
    assert all(target.startswith("/sub/") for target in targets) and set(answers) == {200}


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


async def test_nothing_is_rendered_before_it_is_asked_for_and_then_once() -> None:
    odd = Route("GET", "/odd", HOUSE.routes[0].decode, answer=HOUSE.routes[0].answer, takes=complex)
    table = pages((replace(HOUSE, routes=(odd,)),), version="1")
    with pytest.raises(TypeError):
        await table[f"/openapi/{HOUSE.name}.json"]({"type": "http"})
    assert await table["/docs"]({"type": "http"}) is await table["/docs"]({"type": "http"})
