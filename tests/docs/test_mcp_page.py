"""The page on MCP servers: its configuration and its console blocks, on a server that is made with the SDK."""

import re
from pathlib import Path

import pytest

from tests.checkout import ROOT
from tests.docs.consoles import play

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'")

from tests.mcp_server import serving, tools

PAGE = ROOT / "docs" / "how-to" / "mcp.md"
URL = "http://127.0.0.1:9100/mcp"


@pytest.mark.timeout(120)
def test_every_command_answers_as_the_page_says(tmp_path: Path) -> None:
    page = PAGE.read_text()
    config = next(
        block for block in re.findall(r"^```toml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) if URL in block
    )
    home = tmp_path / ".dragoman"
    home.mkdir(mode=0o700)
    with serving(tools()) as served:
        (home / "dragoman.toml").write_text(config.replace(URL, f"{served.url}/mcp"))
        play(page, tmp_path, {URL: f"{served.url}/mcp"})

    assert {headers["authorization"] for _, _, headers in served.requests} == {"Bearer a-token-of-yours"}
    assert served.asked("POST") > 3
