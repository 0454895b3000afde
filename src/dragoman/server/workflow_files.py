"""Files of one workflow, in Rowboat's JSON or in our TOML: which of the two, their text tells."""

import msgspec

from dragoman.core.workflow_drafts import Compiled
from dragoman.dialects.rowboat.workflow_json import compile_with_notes
from dragoman.server.workflow_tables import workflow_from_toml

_BOM = b"\xef\xbb\xbf"


def workflow_from_file(source: bytes, *, name: str = "") -> Compiled:
    """The workflow of a file; `name` instead of its own. Raises BadRequest with every fault."""
    text = source.removeprefix(_BOM).lstrip()
    if text[:1] == b"{" or (text[:1] == b"[" and _is_json(text)):
        return compile_with_notes(source, name=name)
    return workflow_from_toml(source, name=name)


def _is_json(text: bytes) -> bool:
    """A list begins as a table of TOML does, which is no JSON."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
