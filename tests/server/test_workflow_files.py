"""Files of one workflow: which format, their text tells."""

import json

import pytest

from dragoman.core.errors import BadRequest
from dragoman.server.workflow_files import workflow_from_file

JSON = json.dumps(
    {"agents": [{"name": "a", "instructions": "Help."}], "prompts": [], "tools": [], "startAgent": "a", "name": "J"}
).encode()
TOML = b'name = "T"\n[agents.a]\ninstructions = "Help."\n'


@pytest.mark.parametrize("source", [JSON, b"\n " + JSON, b"\xef\xbb\xbf" + JSON])
def test_what_begins_with_a_brace_is_json(source: bytes):
    assert workflow_from_file(source).workflow.name == "J"


@pytest.mark.parametrize("source", [TOML, b"\xef\xbb\xbf" + TOML, b'[agents.a]\ninstructions = "Help."\n'])
def test_anything_else_is_toml(source: bytes):
    assert workflow_from_file(source, name="T").workflow.name == "T"


def test_both_make_the_same_workflow():
    assert workflow_from_file(JSON, name="x").workflow == workflow_from_file(TOML, name="x").workflow


@pytest.mark.parametrize("source", [b"", b"{", b"[1]", b"hello"])
def test_what_is_neither_is_refused(source: bytes):
    with pytest.raises(BadRequest):
        workflow_from_file(source)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b'{"agents": [\n\n}', "The workflow is not valid JSON (line 3)."),
        (b"{", "The workflow is not valid JSON (line 1)."),
        (b'{"a": "\xff"}', "The workflow is not valid UTF-8."),
        (b'{"a": "\\ud800"}', "The workflow holds a lone surrogate, which is no character (a)."),
        (b"[]", 'The workflow must be a JSON object with "agents", "prompts", "tools" and "startAgent".'),
        (JSON.decode().encode("utf-16"), "The workflow is not UTF-8 text (byte 0); save it in that encoding."),
        (
            json.dumps({"id": "p", "draftWorkflow": None, "liveWorkflow": {}}).encode(),
            "The workflow cannot be used: agents: is missing.",
        ),
        (
            json.dumps({"id": "p", "liveWorkflow": json.loads(JSON)}).encode(),
            'This is no workflow, but holds one as "liveWorkflow": take that into a file of its own.',
        ),
    ],
)
def test_what_is_wrong_is_said_of_the_file(source: bytes, sentence: str):
    with pytest.raises(BadRequest) as refused:
        workflow_from_file(source)
    assert refused.value.detail == sentence
