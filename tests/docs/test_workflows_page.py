"""The page on workflows: its console blocks against a real server, its configuration as a workflow that can answer."""

import re
from pathlib import Path

from dragoman.core.workflow_checks import check
from dragoman.server.config import load_config
from dragoman.server.workflow_tables import configured_workflows, workflow_warnings
from tests.checkout import ROOT
from tests.docs.consoles import BASE, play
from tests.server_process import ServerProcess

PAGE = ROOT / "docs" / "how-to" / "workflows.md"


def test_every_command_answers_as_the_page_says(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / ".dragoman", "") as server:
        play(PAGE.read_text(), tmp_path, {BASE: server.url})
    assert (tmp_path / "shop.svg").read_text().startswith("<svg ")


def test_the_configuration_of_the_page_is_a_workflow_that_can_answer(tmp_path: Path) -> None:
    (config,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "dragoman.toml").write_text(config)
    loaded = load_config(tmp_path, cwd=tmp_path, env={})
    made = configured_workflows(loaded)["support"]
    assert check(made) == () and workflow_warnings(loaded) == ()
    assert [member.step for member in made.members] == [False, False, True]
