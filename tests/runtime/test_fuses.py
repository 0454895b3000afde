import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from dragoman.runtime.fuses import FuseBlown, arm, blow


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def passes(point: str, times: int) -> list[bool]:
    """For each passing, whether it went well."""
    results: list[bool] = []
    for _ in range(times):
        try:
            blow(point)
        except FuseBlown:
            results.append(False)
        else:
            results.append(True)
    return results


def test_an_unarmed_point_does_nothing():
    assert passes("append.before_commit", 3) == [True, True, True]


def test_a_fuse_blows_once_at_the_passing_it_names():
    arm("append.before_commit=raise@3")
    assert passes("append.after_commit", 5) == [True] * 5
    assert passes("append.before_commit", 5) == [True, True, False, True, True]


def test_without_a_number_it_is_the_first():
    arm("finish.after_commit=raise")
    assert passes("finish.after_commit", 3) == [False, True, True]


def test_several_fuses_are_armed_together_and_replaced_together():
    arm(" append.before_commit=raise@2 , accept.after_commit=raise@1,")
    assert passes("append.before_commit", 2) == [True, False]
    assert passes("accept.after_commit", 2) == [False, True]
    arm("append.before_commit=raise")
    assert passes("append.before_commit", 2) == [False, True]


def test_a_star_counts_the_passings_of_all_its_points():
    arm("*.after_commit=raise@3")
    assert passes("append.after_commit", 1) == [True]
    assert passes("append.before_commit", 5) == [True] * 5
    assert passes("accept.after_commit", 1) == [True]
    assert passes("finish.after_commit", 2) == [False, True]


def test_a_delay_takes_its_time_at_each_passing():
    arm("append.before_commit=delay:5ms")
    began = time.monotonic()
    assert passes("append.before_commit", 3) == [True] * 3
    assert time.monotonic() - began >= 0.015


@pytest.mark.parametrize(
    "text", ["append=raise", "a.b=explode", "a.b=raise@0", "a.b=delay", "a.b=delay:5", "a.b", "a.b=raise;c.d=raise"]
)
def test_what_cannot_be_read_is_named(text: str):
    with pytest.raises(ValueError, match="DRAGOMAN_FUSES: cannot read"):
        arm(text)


def test_the_environment_arms_a_process_and_a_kill_is_sigkill():
    script = "from dragoman.runtime.fuses import blow\nblow('a.b')\nprint('once', flush=True)\nblow('a.b')\nprint('no')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"DRAGOMAN_FUSES": "a.b=kill@2"},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "once\n", "")
