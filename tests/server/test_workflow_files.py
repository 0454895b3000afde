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
