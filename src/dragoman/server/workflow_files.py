"""Files of one workflow, in Rowboat's JSON or in our TOML: which of the two, their text tells."""

from dragoman.core.workflow_drafts import Compiled
from dragoman.dialects.rowboat.workflow_json import compile_with_notes
from dragoman.server.workflow_tables import workflow_from_toml

_BOM = b"\xef\xbb\xbf"


def workflow_from_file(source: bytes, *, name: str = "") -> Compiled:
    """The workflow of a file; `name` instead of its own. Raises BadRequest with every fault."""
    if source.removeprefix(_BOM).lstrip()[:1] == b"{":
        return compile_with_notes(source, name=name)
    return workflow_from_toml(source, name=name)
