import os
from pathlib import Path

import pytest

from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import DEPTH_MAX, TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Jail
from dragoman.tools.workspace.walking import FOLDER_ENTRIES_MAX, FOLDERS_SKIPPED, Found, Walk
from tests.tools.workspace.conftest import Ground


def walked(jail: Jail, deadline: Deadline, *, recursive: bool = True) -> tuple[list[tuple[str, str, int]], str]:
    walk = Walk(deadline, recursive=recursive)
    with jail.folder(()) as folder:
        seen = [("/".join(found.parts), found.kind, found.bytes) for found in walk.below(folder, ())]
    return seen, walk.cut


def test_entries_come_in_order_of_name_each_folder_before_what_it_holds(jail: Jail, root: Path, deadline: Deadline):
    for name in ("b/2.txt", "b/1.txt", "a.txt", "b/c/3.txt", "c.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    assert walked(jail, deadline) == (
        [
            ("a.txt", "file", 5),
            ("b", "folder", 0),
            ("b/1.txt", "file", 7),
            ("b/2.txt", "file", 7),
            ("b/c", "folder", 0),
            ("b/c/3.txt", "file", 9),
            ("c.txt", "file", 5),
        ],
        "",
    )
    assert walked(jail, deadline, recursive=False)[0] == [
        ("a.txt", "file", 5),
        ("b", "folder", 0),
        ("c.txt", "file", 5),
    ]


def test_links_and_special_files_are_shown_and_not_followed(ground: Ground, jail: Jail, deadline: Deadline):
    seen = {path: kind for path, kind, _ in walked(jail, deadline)[0]}
    assert seen.pop("pipe") == "special"
    assert seen.pop("socket") == "special"
    assert {path for path, kind in seen.items() if kind != "link"} == {"folder", "folder/inside.txt", "inside.txt"}


@pytest.mark.parametrize("name", sorted(FOLDERS_SKIPPED))
def test_what_people_did_not_write_is_shown_and_not_entered(jail: Jail, root: Path, deadline: Deadline, name: str):
    (root / name).mkdir()
    (root / name / "x").write_text("x")
    assert walked(jail, deadline)[0] == [(name, "folder", 0)]


def test_files_being_written_are_not_shown(jail: Jail, root: Path, deadline: Deadline):
    (root / f"{TEMPORARY_PREFIX}1-1{TEMPORARY_SUFFIX}").write_text("half")
    assert walked(jail, deadline) == ([], "")


def test_a_walk_ends_when_time_is_up(jail: Jail, root: Path, passed: Deadline):
    (root / "a.txt").write_text("a")
    assert walked(jail, passed) == ([], "time is up")


def test_a_walk_goes_no_deeper_than_a_path_may(jail: Jail, root: Path, deadline: Deadline):
    deep = root.joinpath(*["d"] * (DEPTH_MAX + 3))
    deep.mkdir(parents=True)
    seen, cut = walked(jail, deadline)
    assert (len(seen), cut) == (DEPTH_MAX, "")


def test_a_folder_with_more_entries_than_are_looked_at_does_not_hide_the_next(
    jail: Jail, root: Path, deadline: Deadline
):
    (root / "many").mkdir()
    for number in range(FOLDER_ENTRIES_MAX + 1):
        os.close(os.open(root / "many" / f"{number}", os.O_CREAT | os.O_WRONLY))
    (root / "next").mkdir()
    seen, cut = walked(jail, deadline)
    assert cut == "there are too many entries"
    assert len(seen) == FOLDER_ENTRIES_MAX + 2
    assert seen[-1] == ("next", "folder", 0)


def test_a_folder_that_is_gone_or_became_a_link_is_passed_over(ground: Ground, jail: Jail, deadline: Deadline):
    walk = Walk(deadline, recursive=True)
    seen: list[Found] = []
    with jail.folder(()) as folder:
        for found in walk.below(folder, ()):
            seen.append(found)
            if found.parts == ("folder",):
                os.rename(ground.root / "folder", ground.root / "zz")
                os.symlink("../outside", ground.root / "folder")
    assert not any(found.parts[0] == "folder" and len(found.parts) > 1 for found in seen)


def test_a_walk_left_early_gives_its_handles_back(jail: Jail, root: Path, deadline: Deadline):
    (root / "a" / "b" / "c").mkdir(parents=True)
    before = os.listdir("/proc/self/fd")
    with jail.folder(()) as folder:
        entries = Walk(deadline, recursive=True).below(folder, ())
        assert [next(entries).parts for _ in range(3)][-1] == ("a", "b", "c")
        entries.close()
    assert os.listdir("/proc/self/fd") == before
