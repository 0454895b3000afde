"""`get_dataset_info`: which indices there are, and which of their fields matter to what is being talked about.

    resolve the names ─► nothing fits: that is the answer
                     └─► all fields ─► the model picks by short ids ─► name:type
                                   └── nobody to ask, or no use of an answer: the first ones

Elastic spec 4.5, F7 and F8. The model sees field names, never documents.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.datasets import DatasetInfo, DescribeDataset, FieldStats
from dragoman.core.errors import BadRequest, DragomanError, NotOffered, ToolFailed
from dragoman.core.messages import Message, ToolResult, said
from dragoman.core.names import Clock, Principal
from dragoman.core.operations import Operation
from dragoman.runtime.asking import Asking, check_known
from dragoman.runtime.ports import Models
from dragoman.runtime.tool_ports import Ask, CallContext
from dragoman.tools.connections import elasticsearch_answers as answers
from dragoman.tools.connections.connection import Connection, Connections
from dragoman.tools.connections.elasticsearch import KIND, DatasourceUid, Elasticsearch, checked_index, requested
from dragoman.tools.egress import Egress

INDEX_CHARS_MAX = 500
"""Written twice into a path, with wildcards around each name."""
INDICES_MAX = 500
CHUNK_FIELDS_MAX = 250
CHUNKS_MAX = 5
"""As many questions to the model, at the same time, as the original asks."""
FIELDS_UNPICKED_MAX = 100
"""Of each chunk, when no model picks."""
PICK_S = 30.0
"""How long the model is waited for before the first fields must do."""

PICK_SYSTEM = (
    "You choose fields for somebody who is about to search an Elasticsearch. You are given what was said so far, and "
    "then a list of fields, one JSON object a line, each with its name and an id. Call select_relevant_fields with the "
    "ids of those fields that may help to answer. Give ids only, never names, and none that is not in the list."
)
PICK = ToolSpec(
    "select_relevant_fields",
    "Choose the fields that matter for the conversation, by the ids that stand beside them in the list.",
    {
        "type": "object",
        "properties": {
            "fieldIds": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Ids from the list, the most useful first. Empty if none matters.",
            }
        },
        "required": ["fieldIds"],
    },
)


class GetDatasetInfo(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    index: Annotated[
        str,
        Meta(
            max_length=INDEX_CHARS_MAX,
            description='Index, data stream, glob such as logs-*, or part of a name; several with commas. "" for all.',
        ),
    ]
    datasource_uid: DatasourceUid = ""


class _Named(Struct, frozen=True):
    name: str


class _Resolved(Struct, frozen=True):
    """Answer of `GET /_resolve/index/…`."""

    indices: tuple[_Named, ...] = ()
    aliases: tuple[_Named, ...] = ()
    data_streams: tuple[_Named, ...] = ()


class _FieldType(Struct, frozen=True):
    metadata_field: bool = False


class _FieldCaps(Struct, frozen=True):
    """Answer of `GET /…/_field_caps`: of each field, what is known by each type that it has somewhere."""

    fields: dict[str, dict[str, _FieldType]]


class _Picked(Struct, frozen=True):
    field_ids: tuple[str, ...] = msgspec.field(name="fieldIds")


class _Line(Struct, frozen=True):
    field: str
    id: str


class Datasets:
    """Looks into the Elasticsearch connections there are."""

    def __init__(self, elasticsearch: Elasticsearch) -> None:
        self._elasticsearch = elasticsearch

    async def get(self, asked: GetDatasetInfo, context: CallContext) -> str:
        """`DatasetInfo` as JSON. Raises ToolFailed."""
        connection = self._elasticsearch.connection(asked.datasource_uid)
        info = await self.look(connection, asked.index, context.messages, context.ask)
        return msgspec.json.encode(info).decode()

    async def look(
        self, connection: Connection, index: str, messages: Sequence[Message], ask: Ask | None
    ) -> DatasetInfo:
        """See `core.datasets.DescribeDataset`; `ask` None = the first fields. Raises ToolFailed."""
        names = [name.strip() for name in checked_index(index).split(",") if name.strip()]
        indices, exact = await self._indices(connection, names)
        shown = tuple(indices[:INDICES_MAX])
        cut = (
            f"Only the first {INDICES_MAX} of {len(indices):,} indices are shown." if len(indices) > INDICES_MAX else ""
        )
        if not indices or not names:
            return DatasetInfo(shown, (), notice=cut or UNSET)
        fields = await self._fields(connection, ",".join(names) if exact else ",".join(_patterns(names)))
        picked, analyzed, unpicked = await _pick(list(fields), messages, ask)
        notices = " ".join(filter(None, (cut, unpicked)))
        return DatasetInfo(
            shown,
            tuple(f"{name}:{fields[name]}" for name in picked),
            FieldStats(analyzed, len(fields)),
            notices or UNSET,
        )

    async def _indices(self, connection: Connection, names: list[str]) -> tuple[list[str], bool]:
        """Those whose names hold one of `names`, of all clusters, open and not hidden; or, if there is one of just
        that name, that one alone."""
        path, _ = requested("GET", f"/_resolve/index/{','.join(_patterns(names))}")
        answer = await self._elasticsearch.ask(connection, "GET", path, params=(("expand_wildcards", "open"),))
        if answer.status == 404:
            return [], False
        found = answers.decoded(connection.name, answers.opened(connection.name, answer), _Resolved)
        of_itself = {one.name for one in (*found.indices, *found.aliases)}
        if len(names) == 1 and names[0] in of_itself:
            return names, True
        every = (*found.indices, *found.data_streams, *found.aliases)
        return list(dict.fromkeys(one.name for one in every)), False

    async def _fields(self, connection: Connection, pattern: str) -> dict[str, str]:
        """Types by field name, sorted by name; several joined with commas. Without those that hold no values."""
        path, _ = requested("GET", f"/{pattern}/_field_caps")
        params = (("fields", "*"), ("ignore_unavailable", "true"), ("allow_no_indices", "true"))
        answer = await self._elasticsearch.ask(connection, "GET", path, params=params)
        found = answers.decoded(connection.name, answers.opened(connection.name, answer), _FieldCaps)
        return {
            name: ",".join(types)
            for name, types in sorted(found.fields.items())
            if not any(one.metadata_field for one in types.values()) and types.keys() - {"object", "nested", "unmapped"}
        }


def _patterns(names: Sequence[str]) -> list[str]:
    """What finds names by a part of them, here and in remote clusters; a name with a colon says which cluster."""
    patterns: list[str] = []
    for name in names:
        cluster, colon, part = name.rpartition(":")
        patterns.extend([f"{cluster}:{_around(part)}"] if colon else [_around(part), f"*:{_around(part)}"])
    return patterns or ["*", "*:*"]


def _around(part: str) -> str:
    return f"*{part.strip('*')}*" if part.strip("*") else "*"


# -- the model's choice ----------------------------------------------------------------------------------------------


async def _pick(fields: Sequence[str], messages: Sequence[Message], ask: Ask | None) -> tuple[list[str], int, str]:
    """The chosen ones, out of how many, and what to say if nobody chose."""
    if ask is None:
        first = list(fields[:FIELDS_UNPICKED_MAX])
        return first, len(first), _unpicked(len(first), len(fields))
    chunks = [fields[at : at + CHUNK_FIELDS_MAX] for at in range(0, len(fields), CHUNK_FIELDS_MAX)][:CHUNKS_MAX]
    settled = _settled(messages)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(_pick_of(chunk, at, settled, ask)) for at, chunk in enumerate(chunks)]
    results = [task.result() for task in asking]
    picked = [
        name
        for chunk, chosen in zip(chunks, results, strict=True)
        for name in (chunk[:FIELDS_UNPICKED_MAX] if chosen is None else chosen)
    ]
    notice = _unpicked(len(picked), len(fields)) if None in results else ""
    return picked, sum(map(len, chunks)), notice


def _unpicked(shown: int, total: int) -> str:
    """Only `stats` tells of fields that a model did not choose."""
    return f"No model chose among the fields: only {shown:,} of {total:,} are shown." if shown < total else ""


async def _pick_of(chunk: Sequence[str], number: int, settled: tuple[Message, ...], ask: Ask) -> list[str] | None:
    """None: the model was no help."""
    ids = {f"{number * CHUNK_FIELDS_MAX + at:x}": name for at, name in enumerate(chunk)}
    lines = "\n".join(msgspec.json.encode(_Line(name, short)).decode() for short, name in ids.items())
    question = said("user", f"These are the fields. Choose by id those that matter for what was said above.\n\n{lines}")
    try:
        async with asyncio.timeout(PICK_S):
            reply = await ask((said("system", PICK_SYSTEM), *settled, question), (PICK,), PICK.name)
    except (DragomanError, TimeoutError):
        return None
    call = next((call for call in reply.calls if call.name == PICK.name), None)
    if call is None:
        return None
    try:
        given = msgspec.json.decode(call.arguments, type=_Picked).field_ids
    except (msgspec.DecodeError, UnicodeError):
        return None
    known = set(chunk)
    # Some models give names all the same.
    chosen = [ids.get(one) or (one if one in known else "") for one in given]
    picked = list(dict.fromkeys(name for name in chosen if name))
    return picked if picked or not given else None


def _settled(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What was said, but for instructions, up to the call that is being answered now: a call without its result is
    refused by some providers."""
    answered = {part.call_id for message in messages for part in message.parts if isinstance(part, ToolResult)}
    settled: list[Message] = []
    for message in messages:
        if any(call.id not in answered for call in message.calls):
            break
        if message.role != "system":
            settled.append(message)
    return tuple(settled)


# -- outside of a turn -----------------------------------------------------------------------------------------------


class DatasetHandlers:
    """Answers `DescribeDataset`. With several Elasticsearch connections it looks into the first one configured: the
    wire has no way to name another."""

    def __init__(self, connections: Sequence[Connection], egress: Egress, clock: Clock, models: Models) -> None:
        """Raises ValueError as `Connections` does."""
        known = Connections(connections)
        self._there = [one for one in known.all(KIND) if one.kind == KIND]
        self._datasets = Datasets(Elasticsearch(known, egress, clock))
        self._models = models

    def handlers(self) -> dict[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {DescribeDataset: self.describe}

    async def describe(self, principal: Principal, operation: DescribeDataset) -> DatasetInfo:
        """Raises as the operation says; Unavailable."""
        await check_known(self._models, principal.project, operation.model)
        if not self._there:
            raise NotOffered("No Elasticsearch connection is configured on this server, so there is no dataset to see.")
        ask = Asking(self._models, principal.project, operation.model)
        try:
            return await self._datasets.look(self._there[0], operation.index, (), ask)
        except ToolFailed as error:
            if error.code == "bad_arguments":
                raise BadRequest(error.detail) from None
            raise
