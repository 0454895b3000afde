"""A small Elasticsearch on 127.0.0.1 for tests: indices in memory, and the few endpoints that tools ask.

Holds: `/`, `_cluster/health`, `_cat/indices`, `_resolve/index`, `_field_caps`, `_search` (match_all, query_string
`field:value` or `value`, term, bool with must and filter, range, sort on @timestamp; terms aggregations), documents by
id, and ES|QL as far as `FROM x [| KEEP a, b] [| LIMIT n]`; `_bulk` with actions `index`, into indices that are there.
What is wrong is told in Elasticsearch's own shapes. Who tries to write in any other way gets 405. Every try to write,
`_bulk` too, is remembered in `writes`.
"""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any, cast

import msgspec
from aiohttp import web
from msgspec import Struct

KEY = "ApiKey a2V5OnNlY3JldA=="
ESQL_LIMIT_DEFAULT = 1_000

Document = dict[str, Any]


class Seen(Struct, frozen=True):
    """A request: `path` is as it was sent, with the query."""

    method: str
    path: str
    body: Any


class EsError(Exception):
    def __init__(self, status: int, kind: str, reason: str) -> None:
        self.status, self.kind, self.reason = status, kind, reason


class FakeElasticsearch:
    """`indices` maps names to documents by id; `mappings` to types by field. `data_streams` and `aliases` are names."""

    def __init__(self) -> None:
        self.url = ""
        self.indices: dict[str, list[Document]] = {}
        self.mappings: dict[str, dict[str, str]] = {}
        self.data_streams: set[str] = set()
        self.aliases: dict[str, str] = {}
        self.status = "green"
        self.seen: list[Seen] = []
        self.writes: list[Seen] = []

    def add(self, index: str, mapping: dict[str, str], *documents: Document, stream: bool = False) -> None:
        self.mappings[index] = mapping
        self.indices[index] = list(documents)
        if stream:
            self.data_streams.add(index)

    @property
    def asked(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.seen]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        seen = Seen(request.method, request.raw_path, body)
        self.seen.append(seen)
        try:
            if request.headers.get("Authorization") != KEY:
                raise EsError(401, "security_exception", "unable to authenticate with provided credentials")
            if request.method not in ("GET", "POST") or (
                request.method == "POST" and request.path.rpartition("/")[2] not in ("_bulk", "_search", "_query")
            ):
                self.writes.append(seen)
                raise EsError(405, "illegal_argument_exception", f"Incorrect HTTP method for uri [{request.path}]")
            if request.path == "/_bulk":
                self.writes.append(seen)
            return self._answer(request, body or {})
        except EsError as error:
            cause = {"type": error.kind, "reason": error.reason}
            return web.json_response(
                {"error": {"root_cause": [cause], **cause}, "status": error.status}, status=error.status
            )

    def _answer(self, request: web.Request, body: Any) -> web.StreamResponse:
        names = [name for name in request.path.split("/") if name]
        match names:
            case []:
                return web.json_response({"cluster_name": "fake", "version": {"number": "9.2.0"}})
            case ["_cluster", "health"]:
                return web.json_response(self._health())
            case ["_cat", "indices"]:
                return self._cat(request)
            case ["_resolve", "index", pattern]:
                return web.json_response(self._resolve(pattern))
            case ["_bulk"]:
                return web.json_response(self._bulk(body))
            case ["_query"]:
                return web.json_response(self._esql(body["query"]))
            case ["_search"]:
                return web.json_response(self._search("*", body, request))
            case [pattern, "_search"]:
                return web.json_response(self._search(pattern, body, request))
            case [pattern, "_field_caps"]:
                return web.json_response(self._field_caps(pattern, request))
            case [index, "_doc", document_id]:
                return self._document(index, document_id)
            case _:
                raise EsError(
                    400,
                    "illegal_argument_exception",
                    f"no handler found for uri [{request.path}] and method [{request.method}]",
                )

    def _health(self) -> dict[str, Any]:
        shards = len(self.indices)
        return {
            "cluster_name": "fake",
            "status": self.status,
            "timed_out": False,
            "number_of_nodes": 1,
            "number_of_data_nodes": 1,
            "active_primary_shards": shards,
            "active_shards": shards,
            "unassigned_shards": 0 if self.status == "green" else shards,
        }

    def _cat(self, request: web.Request) -> web.StreamResponse:
        rows = [{"health": self.status, "index": name, "docs.count": str(len(held))} for name, held in self._sorted()]
        if request.query.get("format") == "json":
            return web.json_response(rows)
        head = ["health index docs.count"] if "v" in request.query else []
        return web.Response(text="\n".join([*head, *(" ".join(row.values()) for row in rows)]) + "\n")

    def _sorted(self) -> list[tuple[str, list[Document]]]:
        return sorted(self.indices.items())

    def _fitting(self, pattern: str, *, lenient: bool = False) -> list[str]:
        """Names of indices; those of other clusters are nobody's here."""
        fitting: list[str] = []
        for one in pattern.split(","):
            target = self.aliases.get(one, one)
            found = [name for name in sorted(self.indices) if fnmatchcase(name, target)]
            if not found and "*" not in one and not lenient:
                raise EsError(404, "index_not_found_exception", f"no such index [{one}]")
            fitting.extend(found)
        return list(dict.fromkeys(fitting))

    def _resolve(self, pattern: str) -> dict[str, Any]:
        names = sorted(self._fitting(pattern))
        aliases = [name for name in sorted(self.aliases) if any(fnmatchcase(name, one) for one in pattern.split(","))]
        return {
            "indices": [{"name": name, "attributes": ["open"]} for name in names if name not in self.data_streams],
            "aliases": [{"name": name, "indices": [self.aliases[name]]} for name in aliases],
            "data_streams": [{"name": name} for name in names if name in self.data_streams],
        }

    def _field_caps(self, pattern: str, request: web.Request) -> dict[str, Any]:
        names = self._fitting(pattern, lenient=request.query.get("ignore_unavailable") == "true")
        fields: dict[str, dict[str, Any]] = {"_id": {"_id": {"type": "_id", "metadata_field": True}}}
        for name in names:
            for field, kind in self.mappings[name].items():
                fields.setdefault(field, {})[kind] = {"type": kind, "metadata_field": False, "searchable": True}
        return {"indices": names, "fields": fields}

    def _document(self, index: str, document_id: str) -> web.StreamResponse:
        for document in self.indices[self._fitting(index)[0]]:
            if document.get("_id") == document_id:
                return web.json_response({"_index": index, "_id": document_id, "found": True, "_source": document})
        return web.json_response({"_index": index, "_id": document_id, "found": False}, status=404)

    def _bulk(self, lines: list[Any]) -> dict[str, Any]:
        items = [
            {"index": self._index(action["index"]["_index"], document)}
            for action, document in zip(lines[::2], lines[1::2], strict=True)
        ]
        return {"took": 1, "errors": any("error" in item["index"] for item in items), "items": items}

    def _index(self, index: str, document: Document) -> dict[str, Any]:
        """A field mapped to `long` takes whole numbers only."""
        if index not in self.indices:
            error = {"type": "index_not_found_exception", "reason": f"no such index [{index}]"}
            return {"_index": index, "status": 404, "error": error}
        for field, value in document.items():
            if self.mappings[index].get(field) == "long" and not isinstance(value, int):
                error = {
                    "type": "document_parsing_exception",
                    "reason": f"failed to parse field [{field}] of type [long]",
                }
                return {"_index": index, "status": 400, "error": error}
        held = self.indices[index]
        held.append({"_id": f"made-{len(held)}", **document})
        return {"_index": index, "_id": held[-1]["_id"], "result": "created", "status": 201}

    def _search(self, pattern: str, body: Any, request: web.Request) -> dict[str, Any]:
        names = self._fitting(pattern, lenient=request.query.get("ignore_unavailable") == "true")
        hits = [(name, one) for name in names for one in self.indices[name] if fits(body.get("query"), one)]
        if body.get("sort"):
            hits.sort(key=lambda hit: str(hit[1].get("@timestamp", "")), reverse=True)
        shown = hits[: body.get("size", 10)]
        found: dict[str, Any] = {
            "took": 1,
            "timed_out": False,
            "hits": {
                "total": {"value": len(hits), "relation": "eq"},
                "max_score": None,
                "hits": [
                    {"_index": name, "_id": one.get("_id", ""), "_score": None, "_source": source_of(one)}
                    for name, one in shown
                ],
            },
        }
        aggregations = body.get("aggs") or body.get("aggregations")
        if aggregations:
            documents = [one for _, one in hits]
            found["aggregations"] = {name: terms(one, documents) for name, one in aggregations.items()}
        return found

    def _esql(self, query: str) -> dict[str, Any]:
        commands = [command.strip() for command in query.split("|")]
        source, _, pattern = commands[0].partition(" ")
        if source.upper() != "FROM" or not pattern:
            raise EsError(
                400, "parsing_exception", f"line 1:1: mismatched input '{source}' expecting {{'from', 'row'}}"
            )
        try:
            names = self._fitting(pattern.strip())
        except EsError:
            raise EsError(400, "verification_exception", f"Unknown index [{pattern.strip()}]") from None
        columns = {field: kind for name in names for field, kind in sorted(self.mappings[name].items())}
        limit = ESQL_LIMIT_DEFAULT
        for number, command in enumerate(commands[1:], start=2):
            verb, _, rest = command.partition(" ")
            match verb.upper():
                case "LIMIT":
                    limit = int(rest)
                case "KEEP":
                    kept = [field.strip() for field in rest.split(",")]
                    unknown = [field for field in kept if field not in columns]
                    if unknown:
                        lines = "".join(f"\nline {number}:6: Unknown column [{field}]" for field in unknown)
                        raise EsError(400, "verification_exception", f"Found {len(unknown)} problem{lines}")
                    columns = {field: columns[field] for field in kept}
                case _:
                    raise EsError(400, "parsing_exception", f"line {number}:1: mismatched input '{verb}'")
        documents = [one for name in names for one in self.indices[name]][:limit]
        return {
            "took": 1,
            "is_partial": False,
            "columns": [{"name": name, "type": kind} for name, kind in columns.items()],
            "values": [[one.get(name) for name in columns] for one in documents],
        }


async def _body(request: web.Request) -> Any:
    """JSON, or the lines of JSON of a `_bulk`."""
    if not request.can_read_body:
        return None
    if request.content_type == "application/x-ndjson":
        return [msgspec.json.decode(line) for line in (await request.text()).splitlines()]
    return await request.json()


def source_of(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "_id"}


def fits(query: Any, document: Document) -> bool:
    if not query:
        return True
    ((kind, asked),) = cast("dict[str, Any]", query).items()
    match kind:
        case "match_all":
            return True
        case "bool":
            return all(fits(one, document) for one in [*asked.get("must", ()), *asked.get("filter", ())])
        case "term":
            return all(document.get(name) == value for name, value in asked.items())
        case "query_string":
            field, colon, value = asked["query"].partition(":")
            held = [document.get(field)] if colon else list(document.values())
            return any((value if colon else field) in str(one) for one in held)
        case "range":
            ((name, bounds),) = asked.items()
            at = document.get(name, 0)
            return bounds.get("gte", at) <= at <= bounds.get("lte", at)
        case _:
            raise EsError(400, "parsing_exception", f"unknown query [{kind}]")


def terms(aggregation: Any, documents: list[Document]) -> dict[str, Any]:
    if "terms" not in aggregation:
        raise EsError(400, "parsing_exception", f"Unknown aggregation type [{next(iter(aggregation))}]")
    counted = Counter(one[aggregation["terms"]["field"]] for one in documents if aggregation["terms"]["field"] in one)
    return {"buckets": [{"key": key, "doc_count": count} for key, count in counted.most_common()]}


@asynccontextmanager
async def elasticsearch() -> AsyncGenerator[FakeElasticsearch]:
    """One that listens, for as long as the context lasts; `url` is its address, `KEY` what it must be told."""
    fake = FakeElasticsearch()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        fake.url = f"http://{host}:{port}"
        yield fake
    finally:
        await runner.cleanup()
