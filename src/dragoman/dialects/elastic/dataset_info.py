"""`get_dataset_info` asked for directly, outside any conversation (elastic spec 3.3, F8)."""

from typing import Any

from dragoman.core.datasets import DatasetInfo, DescribeDataset
from dragoman.core.names import Scope
from dragoman.dialects.elastic.requests import INTERNAL, invalid, query
from dragoman.wire.dialect import Parameter, Reply, Request, Route, json_reply

PATH = f"{INTERNAL}/functions/get_dataset_info"


def decode(request: Request) -> DescribeDataset:
    """Both fields are required; an empty `index` means all. Raises BadRequest."""
    given = query(request, "index", "connectorId")
    for name in ("index", "connectorId"):
        if name not in given:
            raise invalid(f"query.{name}", "undefined does not match the expected type")
    return DescribeDataset(given["index"], given["connectorId"])


def answer(info: DatasetInfo, request: Request) -> Reply:
    """`{indices, fields, stats?, notice?}`; the last is ours."""
    return json_reply(info)


ROUTES: tuple[Route[Any], ...] = (
    Route(
        "GET",
        PATH,
        decode,
        answer=answer,
        scopes=(Scope.CHAT_RUN, Scope.TOOLS_USE),
        summary="Indices of the Elasticsearch connection and those of their fields that the model finds relevant",
        gives=DatasetInfo,
        asks=(
            Parameter("index", 'Names, or parts of names, with commas between; "" = all', required=True),
            Parameter("connectorId", "The model that chooses fields", required=True),
        ),
    ),
)
