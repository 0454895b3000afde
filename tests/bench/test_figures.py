import subprocess
import sys

import pytest

from bench import figures


def test_the_core_install_is_measured_whole() -> None:
    found, core = figures.size()
    assert [figure.key for figure in found] == ["size", "distributions"]
    assert core.missing == ()
    assert found[1].values == (float(len(core.sizes)),)
    assert "dragoman" in core.sizes
    assert found[0].median == core.megabytes > 10


def test_the_command_line_is_run_and_an_empty_python_beside_it() -> None:
    said: list[str] = []
    found = figures.help_text(rounds=1, say=said.append)
    assert [(figure.key, len(figure.values)) for figure in found] == [
        ("help-cpu", 1),
        ("help-wall", 1),
        ("python-cpu", 1),
    ]
    assert found[0].median > found[2].median > 0
    assert len(said) == 1


def test_a_command_that_fails_is_not_a_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        figures._spent([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_figure_of_a_row_is_its_median() -> None:
    assert figures.Figure("a", "A", "s", (3.0, 1.0, 2.0)).median == 2.0
