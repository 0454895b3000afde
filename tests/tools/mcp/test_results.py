import json

import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.mcp.results import ERROR_CHARS_MAX, RESULT_BYTES_MAX, Item, as_items, as_text, error_text, items_of

TEXT: Item = {"type": "text", "text": "a"}
RESOURCE: Item = {"type": "resource", "resource": {"uri": "doc://x", "text": "b"}}
BLOB: Item = {"type": "resource", "resource": {"uri": "doc://x", "blob": "AAEC", "mimeType": "x/y"}}
SOUND: Item = {"type": "audio", "data": "AAE=", "mimeType": "audio/wav"}


def test_items_come_as_they_are_but_for_bytes() -> None:
    assert items_of({"content": [TEXT, RESOURCE, BLOB, SOUND]}) == [
        TEXT,
        RESOURCE,
        {"type": "resource", "resource": {"uri": "doc://x", "mimeType": "x/y", "bytes": 3}},
        {"type": "audio", "mimeType": "audio/wav", "bytes": 2},
    ]


@pytest.mark.parametrize(
    ("result", "texts"),
    [
        ({"content": [], "structuredContent": {"a": 1}}, ['{"a":1}']),
        ({"content": [TEXT], "structuredContent": {"a": 1}}, ["a"]),
        ({"content": [], "structuredContent": 0}, ["0"]),
        ({"content": []}, []),
    ],
)
def test_structured_content_counts_where_there_is_nothing_else(result: Item, texts: list[str]) -> None:
    assert [item["text"] for item in items_of(result)] == texts


def test_as_text_the_texts_stand_below_each_other() -> None:
    link: Item = {"type": "resource_link", "uri": "doc://x", "name": "x"}
    assert as_text([TEXT, RESOURCE, link], of="t") == 'a\n\nb\n\n{"type":"resource_link","uri":"doc://x","name":"x"}'
    assert as_text([], of="t") == ""
    assert json.loads(as_items([TEXT, link], of="t")) == [TEXT, link]


def test_a_result_has_a_limit() -> None:
    assert len(as_text([TEXT | {"text": "x" * RESULT_BYTES_MAX}], of="t")) == RESULT_BYTES_MAX
    with pytest.raises(ToolFailed, match=r"t answered with 1,048,577 bytes; at most 1,048,576 are taken"):
        as_text([TEXT | {"text": "x" * (RESULT_BYTES_MAX + 1)}], of="t")
    around = len(as_items([TEXT | {"text": ""}], of="t"))
    assert as_items([TEXT | {"text": "x" * (RESULT_BYTES_MAX - around)}], of="t")
    with pytest.raises(ToolFailed):
        as_items([TEXT | {"text": "x" * (RESULT_BYTES_MAX - around + 1)}], of="t")


def test_errors_are_cut() -> None:
    assert error_text([TEXT | {"text": " no such customer\n"}]) == "no such customer"
    assert error_text([TEXT | {"text": "x" * ERROR_CHARS_MAX}]) == "x" * ERROR_CHARS_MAX
    cut = error_text([TEXT | {"text": "x" * (ERROR_CHARS_MAX + 1)}])
    assert (len(cut), cut[-1]) == (ERROR_CHARS_MAX, "…")
