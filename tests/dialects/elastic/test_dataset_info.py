import msgspec
import pytest

from dragoman.core.datasets import DatasetInfo, DescribeDataset, FieldStats
from dragoman.core.errors import BadRequest
from dragoman.dialects.elastic.dataset_info import answer, decode
from dragoman.wire.dialect import Request

PATH = "/internal/observability_ai_assistant/functions/get_dataset_info"


def request(**query: str) -> Request:
    return Request("GET", PATH, {}, query, {}, b"", "request-1", "0" * 32, 0.0)


def test_the_question_needs_no_header_of_a_write() -> None:
    assert decode(request(index="logs,a", connectorId="main")) == DescribeDataset("logs,a", "main")


def test_an_empty_index_means_all() -> None:
    assert decode(request(index="", connectorId="main")) == DescribeDataset("", "main")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"index": "a"}, "Failed to validate: \n  in /query/connectorId: "),
        ({"connectorId": "a"}, "Failed to validate: \n  in /query/index: "),
        ({"index": "a", "connectorId": "b", "c": "d"}, "Excess keys are not allowed:\nquery.c"),
    ],
)
def test_a_bad_query_is_refused(query: dict[str, str], detail: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(request(**query))
    assert caught.value.detail.startswith(detail)


@pytest.mark.parametrize(
    ("info", "body"),
    [
        (DatasetInfo((), ()), '{"indices":[],"fields":[]}'),
        (
            DatasetInfo(("a",), ("b:long",), FieldStats(1, 2), "cut"),
            '{"indices":["a"],"fields":["b:long"],"stats":{"analyzed":1,"total":2},"notice":"cut"}',
        ),
    ],
)
def test_the_answer_has_its_keys_in_order(info: DatasetInfo, body: str) -> None:
    reply = answer(info, request())
    assert (reply.status, reply.body.decode()) == (200, body)
    assert msgspec.json.decode(reply.body)
