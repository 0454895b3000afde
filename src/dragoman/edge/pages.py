"""Offline pages: what each dialect offers, as HTML for people and as OpenAPI for tools. No script, no network."""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from html import escape
from typing import Any

from starlette.types import Scope

from dragoman.wire.dialect import Dialect, Reply, Route, json_reply
from dragoman.wire.openapi import openapi

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}td{padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;"
    "vertical-align:top}code{font:13px ui-monospace,monospace}"
)
POLICY = ("content-security-policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")


def pages(dialects: Sequence[Dialect], *, version: str) -> dict[str, Callable[[Scope], Awaitable[Reply]]]:
    """`/docs`, its style sheet, and `/openapi/{dialect}.json` for each; rendered once, when first asked for: they
    take 25 ms or more, which a start need not wait for."""
    return {
        "/docs": _once(lambda: Reply(200, _page(dialects, version).encode(), "text/html; charset=utf-8", (POLICY,))),
        "/docs/style.css": _once(lambda: Reply(200, STYLE.encode(), "text/css; charset=utf-8")),
        **{
            f"/openapi/{dialect.name}.json": _once(partial(_document, dialect, version=version)) for dialect in dialects
        },
    }


def _once(render: Callable[[], Reply]) -> Callable[[Scope], Awaitable[Reply]]:
    rendered = cache(render)

    async def answer(scope: Scope) -> Reply:
        return rendered()

    return answer


def _document(dialect: Dialect, *, version: str) -> Reply:
    return json_reply(openapi(dialect, version=version))


def _page(dialects: Sequence[Dialect], version: str) -> str:
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Dragoman</title>',
        '<link rel="stylesheet" href="docs/style.css">',
        f"<h1>Dragoman {escape(version)}</h1><p>One assistant server, many dialects. Every path below asks for a ",
        "credential unless it says open; <code>dragoman credentials create NAME</code> makes one.</p>",
    ]
    for dialect in dialects:
        document = f"/openapi/{dialect.name}.json"
        # Links without a slash: they also hold where a path stands before ours ([server] base_path, or a proxy).
        parts.append(f'<h2>{escape(dialect.title)}</h2><p><a href="{document[1:]}">{document}</a></p><table>')
        for route in dialect.routes:
            parts.append(
                f"<tr><td><code>{route.method}</code><td><code>{escape(route.path)}</code>"
                f"<td>{escape(route.summary)}<td>{escape(_needs(route))}"
            )
            for name, branch in route.forks.items():
                more = " and ".join(branch.scopes)
                parts.append(f"<tr><td><td>… <code>{escape(name)}</code><td>{escape(branch.summary)}<td>{escape(more)}")
        parts.append("</table>")
    return "".join(parts)


def _needs(route: Route[Any]) -> str:
    if route.open:
        return "open"
    needs = " and ".join(route.scopes) or "any credential"
    return f"{needs}; or a ticket in ?{route.ticket}=" if route.ticket else needs
