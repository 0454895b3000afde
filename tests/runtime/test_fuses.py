import ast
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from dragoman.runtime.fuses import POINTS, FuseBlown, arm, blow, torn
from tests.checkout import SOURCE, sources

CLAIMS = ("claim.before_commit", "claim.after_commit")
COMMITS = tuple(
    f"{what}.{when}"
    for what in ("accept", "append", "finish", "ask", "note")
    for when in ("before_commit", "after_commit")
)
STAND: dict[str, tuple[str, ...]] = {
    "edge/answering.py": ("ratelimit.done", "accept.after_2xx"),
    "edge/asgi.py": ("http.after_accept", "http.after_body", "auth.done"),
    "edge/exchange.py": ("accept.after_2xx",),
    "edge/streaming.py": ("stream.frame",),
    "models/openai_chat.py": (
        "model.before_connect",
        "model.after_headers",
        "model.delta_first",
        "model.delta_mid",
        "model.before_finish",
        "model.after_finish",
    ),
    "runtime/attending.py": ("heartbeat.tick",),
    "runtime/deciding.py": ("approval.decided", "clienttool.answered"),
    "runtime/driver.py": (
        "approval.requested",
        "clienttool.requested",
        "clientaction.emitted",
        "handover.committed",
    ),
    "runtime/calling.py": ("tool.intent_committed", "tool.effect_done", "tool.result_committed"),
    "runtime/recovery.py": ("reaper.mid",),
    "stores/memory/store.py": (*COMMITS, *CLAIMS),
    "stores/sqlite/migrations.py": ("migrate.step",),
    "stores/sqlite/store.py": (*COMMITS, *CLAIMS),
    "stores/postgres/claims.py": CLAIMS,
    "stores/postgres/migrations.py": ("migrate.step",),
    "stores/postgres/store.py": COMMITS,
}
"""Which points stand in which file."""


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
    "text",
    [
        "append=raise",
        "auth.done=explode",
        "auth.done=raise@0",
        "auth.done=delay",
        "auth.done=delay:5",
        "auth.done",
        "auth.done=raise;reaper.mid=raise",
    ],
)
def test_what_cannot_be_read_is_named(text: str):
    with pytest.raises(ValueError, match="DRAGOMAN_FUSES: cannot read"):
        arm(text)


@pytest.mark.parametrize("text", ["append.after=kill", "*.middle=kill"])
def test_a_point_that_does_not_exist_is_named_with_those_that_do(text: str):
    with pytest.raises(ValueError, match=r"there is no point .*; they are: http\.after_accept, "):
        arm(text)


def test_only_frames_can_be_torn():
    with pytest.raises(ValueError, match=r"only stream\.frame can be torn, not auth\.done"):
        arm("auth.done=torn")


def test_frames_pass_whole_unless_they_are_torn():
    assert torn(b"12345678") == b"12345678"
    arm("stream.frame=delay:1ms,auth.done=raise")
    assert torn(b"12345678") == b"12345678"


def run(script: str, fuses: str, *, timeout_s: float = 10.0) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from dragoman.runtime.fuses import blow, torn\n" + script],
        env={"DRAGOMAN_FUSES": fuses},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_environment_arms_a_process_and_a_kill_is_sigkill():
    script = "blow('auth.done')\nprint('once', flush=True)\nblow('auth.done')\nprint('no')"
    assert run(script, "auth.done=kill@2") == (-signal.SIGKILL, "once\n", "")


def test_of_a_torn_frame_half_is_sent_and_then_the_process_dies():
    script = (
        "print(torn(b'12'), torn(b'12345678'), flush=True)\nimport threading\nthreading.Event().wait()\nprint('no')"
    )
    assert run(script, "stream.frame=torn@2") == (-signal.SIGKILL, "b'12' b'1234'\n", "")


def test_nothing_is_sent_after_half_a_frame():
    script = "print(torn(b'12345678'), flush=True)\ntorn(b'5678')\nprint('no', flush=True)"
    assert run(script, "stream.frame=torn") == (-signal.SIGKILL, "b'1234'\n", "")


def test_what_hangs_goes_no_further():
    with pytest.raises(subprocess.TimeoutExpired) as hung:
        run("print('once', flush=True)\nblow('auth.done')\nprint('no', flush=True)", "auth.done=hang", timeout_s=0.6)
    assert hung.value.stdout == b"once\n"


# -- where the points stand ------------------------------------------------------------------------------------------


def standing() -> tuple[dict[str, set[str]], list[str]]:
    """The points named in each file; and names that are blown but are no points."""
    stand: dict[str, set[str]] = defaultdict(set)
    strangers: list[str] = []
    for path in sources():
        name = path.relative_to(SOURCE).as_posix()
        if name == "runtime/fuses.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in POINTS:
                stand[name].add(str(node.value))
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id == "torn":
                stand[name].add("stream.frame")
            elif node.func.id == "blow":
                blown = [each.value for each in node.args if isinstance(each, ast.Constant)]
                strangers += [f"{name}: {each}" for each in blown if each not in POINTS]
    return stand, strangers


def test_every_point_stands_where_it_should_and_nowhere_else():
    stand, strangers = standing()
    assert strangers == []
    assert stand == {name: set(points) for name, points in STAND.items()}
    assert set(POINTS) == set().union(*STAND.values())
