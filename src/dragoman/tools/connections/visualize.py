"""`visualize_query`: an ES|QL query whose table goes to the caller's screen, and not to the model (elastic spec F9)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from dragoman.runtime.tool_ports import Told
from dragoman.tools.connections.elasticsearch import DatasourceUid
from dragoman.tools.connections.esql import Esql, EsqlText, Failure, corrected, cut

SHOWN_ROWS_MAX = 1_000
SHOWN_CHARS_MAX = 300_000
COLUMNS_TOLD_MAX = 30

Intention = Literal[
    "generateQueryOnly",
    "executeAndReturnResults",
    "visualizeAuto",
    "visualizeXy",
    "visualizeBar",
    "visualizeLine",
    "visualizeArea",
    "visualizeTable",
    "visualizeDonut",
    "visualizeTreemap",
    "visualizeHeatmap",
    "visualizeTagcloud",
    "visualizeWaffle",
]
"""How the table is to be drawn, in the words of elastic spec 4.5."""


class VisualizeQuery(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    query: EsqlText
    intention: Annotated[
        Intention,
        Meta(description="What to draw. visualizeAuto leaves it to the screen; generateQueryOnly runs nothing."),
    ]
    datasource_uid: DatasourceUid = ""


class Visualize:
    def __init__(self, esql: Esql) -> None:
        self._esql = esql

    async def visualize(self, asked: VisualizeQuery) -> Told:
        """`{message}` for the model; `{columns, rows, correctedQuery}` to show. A query that fails says why to both."""
        query = corrected(asked.query)
        shown: dict[str, Any] = {"columns": [], "rows": [], "correctedQuery": query}
        if asked.intention == "generateQueryOnly":
            return _told({"message": f"The query was not run. It is now in front of the user:\n{query}"}, shown)
        result = await self._esql.run(asked.datasource_uid, query)
        if isinstance(result, Failure):
            failed = msgspec.to_builtins(result)
            return _told(failed | {"message": f"{result.message}: {query}"}, shown | {"error": failed["error"]})
        table = cut(result, rows_max=SHOWN_ROWS_MAX, chars_max=SHOWN_CHARS_MAX)
        names = ", ".join(column.name for column in result.columns[:COLUMNS_TOLD_MAX])
        if (more := len(result.columns) - COLUMNS_TOLD_MAX) > 0:
            names += f" and {more:,} more"
        rows = "1 row" if result.total == 1 else f"{result.total:,} rows"
        told = [
            f"The query gave {rows} with the columns {names}.",
            "They go to the user's screen, where it can draw them; to read them yourself use execute_query.",
            table.notice,
            f"The query was:\n{query}",
        ]
        return _told({"message": " ".join(filter(None, told))}, shown | {"columns": table.columns, "rows": table.rows})


def _told(content: object, shown: object) -> Told:
    return Told(msgspec.json.encode(content).decode(), msgspec.json.encode(shown).decode())
