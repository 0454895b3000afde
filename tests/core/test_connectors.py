import pytest
from msgspec.structs import replace

from dragoman.core.connectors import CreateConnector, ReplaceConnector
from dragoman.core.operations import Operation

HUSH = {"apiKey": "sk-hush", "secretHeaders": {"X-Key": "hush"}}


@pytest.mark.parametrize(
    ("operation", "shown"),
    [
        (CreateConnector(".gen-ai", "LLM", {"apiUrl": "http://h/?key=hush"}, HUSH, "ai"), "('ai', '.gen-ai')"),
        (ReplaceConnector("ai", "LLM", {"headers": {"Authorization": "hush"}}, HUSH), "('ai')"),
    ],
)
def test_what_may_hold_secrets_is_shown_by_its_id(operation: Operation[object], shown: str):
    assert repr(operation) == f"{operation}" == f"{type(operation).__name__}{shown}"
    assert "hush" not in repr((operation, [operation], {"operation": operation}))
    assert "hush" not in repr(replace(operation))
