"""A house before anything is put into it."""

from pathlib import Path

import pytest

from dragoman.server.config_shapes import Config, Defaults
from dragoman.server.house import House
from tests.support import FixedClock


def test_a_house_is_its_configuration_first(tmp_path: Path) -> None:
    house = House(Config(defaults=Defaults(project="team")), tmp_path, FixedClock())
    assert (house.project, house.home, house.recovered) == ("team", tmp_path, 0)
    house.announce("http://127.0.0.1:1")  # nobody is told


def test_live_runs_are_counted_only_once_there_is_a_desk(tmp_path: Path) -> None:
    told, count = House(Config(), tmp_path, FixedClock()).gauges["live_runs"]
    assert told == "Runs being driven now."
    with pytest.raises(AttributeError, match="desk"):
        count()
