import ctypes
import os
import resource
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core.errors import ToolFailed
from dragoman.tools.workspace.jail import (
    DEPTH_MAX,
    NAME_BYTES_MAX,
    PATH_BYTES_MAX,
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    Jail,
    shown,
)
from tests.tools.conftest import Call
from tests.tools.workspace.conftest import CANARY, Ground
from tests.tools.workspace.ways_out import PATHS_LITERAL, PATHS_REFUSED

DENIED = "denied"


def spelled(path: str, ground: Ground) -> str:
    return path.replace("{root}", str(ground.root)).replace("{outside}", str(ground.outside))


def read_calls(path: str) -> Iterator[tuple[str, dict[str, object]]]:
    yield "list_files", {"path": path, "recursive": True}
    yield "find_files", {"path": path, "pattern": "*"}
    yield "read_file", {"path": path}
    yield "search_files", {"path": path, "query": CANARY[:6]}


def write_calls(path: str) -> Iterator[tuple[str, dict[str, object]]]:
    yield "write_file", {"path": path, "content": "written"}
    yield "edit_file", {"path": path, "old": CANARY, "new": "written"}
    yield "edit_file", {"path": path, "old": "inside", "new": "written"}


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("path", PATHS_REFUSED, ids=lambda path: ascii(path[:40]))
async def test_no_tool_leaves_the_workspace(ground: Ground, call: Call, path: str):
    path = spelled(path, ground)
    inside = (ground.root / "inside.txt").read_text()
    before = ground.outside_now()
    assert (await call("list_files")).is_error is False  # the worker threads are up
    handles = open_handles()
    for name, arguments in [*read_calls(path), *write_calls(path)]:
        outcome = await call(name, **arguments)
        assert outcome.is_error, (name, outcome)
        assert outcome.code in {DENIED, "tool_failed"}
        assert CANARY not in outcome.content
        assert str(ground.root) not in outcome.content.replace(ascii(path)[1:101], "")
        assert "\0" not in outcome.content
        assert "\n" not in outcome.content
        assert len(outcome.content) < 2_500
    assert ground.outside_now() == before
    assert (ground.root / "inside.txt").read_text() == inside
    assert open_handles() == handles


@pytest.mark.parametrize("path", PATHS_LITERAL, ids=ascii)
async def test_what_only_looks_like_a_way_out_is_a_plain_name(ground: Ground, call: Call, path: str):
    before = ground.outside_now()
    for name, arguments in read_calls(path):
        outcome = await call(name, **arguments)
        assert outcome.is_error, (name, outcome)
        assert CANARY not in outcome.content
    assert (await call("write_file", path=path, content="written")).content.startswith("Created ")
    assert ground.outside_now() == before
    landed = ground.root.joinpath(*path.split("/"))
    assert landed.read_text() == "written"
    assert landed.resolve().is_relative_to(ground.root.resolve())


@pytest.mark.parametrize(
    "path",
    ["inside.txt", "./inside.txt", ".//inside.txt", "folder/./inside.txt", "folder//inside.txt", "{root}/inside.txt"],
)
async def test_ways_to_spell_a_path_inside(ground: Ground, call: Call, path: str):
    assert (await call("read_file", path=spelled(path, ground))).content == "inside\n"


@pytest.mark.parametrize("path", ["", ".", "./", "././", "{root}", "{root}/"])
async def test_ways_to_spell_the_root(ground: Ground, call: Call, path: str):
    lines = (await call("list_files", path=spelled(path, ground))).content.split("\n")
    assert {"folder/", "inside.txt", "link_file (link, not followed)", "pipe (not a regular file)"} <= set(lines)


@pytest.mark.parametrize("path", ["", ".", "./", "folder/", "folder/.", "{root}"])
async def test_a_path_of_a_folder_is_no_file(ground: Ground, call: Call, path: str):
    for name, arguments in [*read_calls(spelled(path, ground)), *write_calls(spelled(path, ground))]:
        if name in {"read_file", "write_file", "edit_file"}:
            assert (await call(name, **arguments)).content.endswith(
                "names a folder; name a file in it, such as notes.md."
            )


async def test_walking_from_the_root_meets_links_and_does_not_follow_them(ground: Ground, call: Call):
    before = ground.outside_now()
    found = await call("search_files", query=CANARY)
    assert found.content == f"No line matches '{CANARY}'."
    assert "secret.txt" not in (await call("list_files", recursive=True)).content.replace("(link", "")
    assert (await call("find_files", pattern="**/secret.txt")).content == "No file's name fits '**/secret.txt'."
    assert ground.outside_now() == before


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(alphabet=st.sampled_from("./\\~\0 ab\n\ud800\u202e"), max_size=12) | st.text(max_size=40))
def test_a_checked_path_has_only_harmless_names(jail: Jail, path: str):
    try:
        parts = jail.parts(path)
    except ToolFailed as error:
        assert error.code == DENIED
        return
    assert not {"", ".", ".."} & set(parts)
    assert not any(char in name for name in parts for char in "/\\\0\n")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("../x", "A path may not contain '..': give it from the top of the workspace."),
        ("/etc/passwd", "'/etc/passwd' is outside the workspace: give a path relative to it, such as src/main.py."),
        ("a\\b", "'a\\\\b': write / between folders, not \\."),
        ("a\0b", "'a\\x00b' contains a control character; such names are not taken."),
        ("x" * 2000, "The path is longer than 1024 bytes."),
        ("x" * 300, "The name '" + "x" * 100 + "...' is longer than 255 bytes."),
        ("/".join("x" * 33), "The path has more than 32 folders."),
        ("a/\ud800", "'\\ud800' is not valid text."),
    ],
)
def test_a_refusal_says_what_to_write_instead(jail: Jail, path: str, sentence: str):
    with pytest.raises(ToolFailed) as caught:
        jail.parts(path)
    assert (caught.value.detail, caught.value.code) == (sentence, DENIED)


def test_limits_of_a_path_hold_at_their_edge(jail: Jail):
    assert jail.parts("x" * NAME_BYTES_MAX) == ("x" * NAME_BYTES_MAX,)
    assert len(jail.parts("/".join("x" * DEPTH_MAX))) == DEPTH_MAX
    longest = "/".join(["x" * 204] * 5)
    assert len(longest) == PATH_BYTES_MAX
    assert jail.parts(longest) == ("x" * 204,) * 5


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("a", "b.txt"), "a/b.txt"),
        (("été 😀",), "été 😀"),
        (("a\nb",), "a\\u000ab"),
        (("\u202egnp.exe",), "\\u202egnp.exe"),
        (("a\udce9",), "a\\xe9"),
        (("\x1b[0m",), "\\u001b[0m"),
    ],
)
def test_names_are_shown_so_that_they_cannot_deceive(parts: tuple[str, ...], text: str):
    assert shown(parts) == text


async def test_a_pipe_is_refused_without_waiting_for_its_other_end(ground: Ground, call: Call):
    outcome = await call("read_file", path="pipe")
    assert (outcome.content, outcome.code) == ("pipe is not a regular file (a pipe, socket or device).", DENIED)


def test_a_root_that_went_away_is_told_without_its_path(jail: Jail, root: Path):
    root.rmdir()
    with pytest.raises(ToolFailed) as caught, jail.folder(()):
        pass
    assert caught.value.detail == (
        "The workspace folder is missing or cannot be opened; whoever runs this server must restore it."
    )


def test_a_root_behind_a_link_is_the_operators_choice(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to("real")
    jail = Jail(tmp_path / "link")
    for path in ("a.txt", f"{tmp_path}/link/a.txt", f"{tmp_path}/real/a.txt"):
        with jail.file(jail.file_parts(path)) as handle:
            assert os.read(handle, 10) == b"a"


# -- things that change while they are used --------------------------------------------------------------------------


@contextmanager
def swapping(first: Callable[[], None], second: Callable[[], None]) -> Generator[None]:
    """Do one, then the other, again and again, on a thread of its own, which takes turns with ours as often as it can:
    at the interpreter's own 5 ms a loaded machine may let us do all our tries within one of its states."""
    done = threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)

    def swap() -> None:
        while not done.is_set():
            first()
            second()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)
        sys.setswitchinterval(interval)


def _exchange(first: Path, second: Path) -> None:
    """Give each the other's name, in one step: no moment without either, as `os.rename` would leave."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchange):
        raise OSError(ctypes.get_errno(), "renameat2")


TRIES = 400
SWITCH_S = 1e-5
RACE_S = 15.0


def tries(seen: set[str]) -> Iterator[int]:
    """Numbers, so many that the race was on: `TRIES`, and more until both ways it may go were `seen`."""
    ends_at = monotonic() + RACE_S
    for number in count():
        if number >= TRIES and (len(seen) >= 2 or monotonic() > ends_at):
            return
        yield number


def test_a_file_swapped_for_a_link_is_never_read_through(ground: Ground, jail: Jail):
    def put_file() -> None:
        (ground.root / "new").write_text("inside\n")
        os.replace(ground.root / "new", ground.root / "swap")

    def put_link() -> None:
        os.symlink("../outside/secret.txt", ground.root / "new")
        os.replace(ground.root / "new", ground.root / "swap")

    put_file()
    seen: set[str] = set()
    with swapping(put_link, put_file):
        for _ in tries(seen):
            try:
                with jail.file(("swap",)) as handle:
                    seen.add(os.read(handle, 100).decode())
            except ToolFailed as error:
                assert error.code == DENIED or "link" in error.detail
                seen.add("refused")
    assert seen == {"inside\n", "refused"}


def test_a_folder_swapped_for_a_link_is_never_walked_through(ground: Ground, jail: Jail):
    root = ground.root
    (root / "other").symlink_to("../outside/folder")
    (root / "swap").mkdir()
    (root / "swap" / "secret.txt").write_text("inside\n")

    def exchange() -> None:
        _exchange(root / "swap", root / "other")

    before = ground.outside_now()
    seen: set[str] = set()
    with swapping(exchange, exchange):
        for number in tries(seen):
            try:
                with jail.file(("swap", "secret.txt")) as handle:
                    seen.add(os.read(handle, 100).decode())
                jail.replace(("swap", f"new-{number % 7}.txt"), b"written")
            except ToolFailed:
                seen.add("refused")
    assert seen == {"inside\n", "refused"}
    assert ground.outside_now() == before


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_replaced_file_keeps_its_permissions_and_leaves_nothing_beside_it(jail: Jail, root: Path):
    assert jail.replace(("run.sh",), b"one") is True
    (root / "run.sh").chmod(0o750)
    assert jail.replace(("run.sh",), b"two") is False
    assert (root / "run.sh").read_bytes() == b"two"
    assert (root / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert os.listdir(root) == ["run.sh"]


def test_a_write_that_fails_half_way_leaves_the_old_content_and_nothing_else(jail: Jail, root: Path):
    jail.replace(("a.txt",), b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(ToolFailed) as caught:
            jail.replace(("a.txt",), b"new content")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.detail == "a.txt could not be written."
    assert (root / "a.txt").read_bytes() == b"old"
    assert os.listdir(root) == ["a.txt"]


def test_a_hard_link_to_the_outside_is_not_written_through(ground: Ground, jail: Jail):
    os.link(ground.outside / "secret.txt", ground.root / "hard.txt")
    jail.replace(("hard.txt",), b"written")
    assert (ground.root / "hard.txt").read_bytes() == b"written"
    assert (ground.outside / "secret.txt").read_text() == f"{CANARY}\n"


def test_a_read_only_file_stays_as_it_is(jail: Jail, root: Path):
    (root / "a.txt").write_text("old")
    (root / "a.txt").chmod(0o444)
    with pytest.raises(ToolFailed) as caught:
        jail.replace(("a.txt",), b"new")
    assert (caught.value.detail, caught.value.code) == ("a.txt is read-only.", DENIED)
    assert (root / "a.txt").read_text() == "old"


def test_what_a_dead_process_left_behind_is_in_nobodys_way(jail: Jail, root: Path):
    left = root / f"{TEMPORARY_PREFIX}{os.getpid()}-1{TEMPORARY_SUFFIX}"
    left.write_text("half")
    assert jail.replace(("a.txt",), b"whole") is True
    assert (root / "a.txt").read_bytes() == b"whole"
    assert left.read_text() == "half"


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (("nothing",), "There is no nothing in the workspace. list_files shows what there is."),
        (("folder", "nothing"), "There is no folder/nothing in the workspace. list_files shows what there is."),
        (("nothing", "x"), "There is no nothing in the workspace. list_files shows what there is."),
        (("folder",), "folder is a folder, not a file. list_files shows what is in it."),
        (("inside.txt", "x"), "inside.txt is not a folder."),
        (("link_file",), "link_file is a link, and links are not followed. Use the path of what it points to."),
        (("link_folder", "x"), "link_folder is a link, and links are not followed. Use the path of what it points to."),
        (("socket",), "socket is not a regular file (a pipe, socket or device)."),
    ],
)
def test_what_cannot_be_opened_is_told_in_a_sentence(ground: Ground, jail: Jail, parts: tuple[str, ...], sentence: str):
    with pytest.raises(ToolFailed) as caught, jail.file(parts):
        pass
    assert caught.value.detail == sentence
