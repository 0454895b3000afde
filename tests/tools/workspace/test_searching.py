from pathlib import Path
from time import perf_counter

import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail
from dragoman.tools.workspace.searching import (
    FILE_BYTES_SEARCHED_MAX,
    LINE_CHARS_SEARCHED_MAX,
    LINE_CHARS_SHOWN_MAX,
    MATCHES_MAX,
    SearchFiles,
    search_files,
)


@pytest.fixture
def tree(root: Path, jail: Jail) -> Path:
    for name, text in {
        "README.md": "# TODO list\nnothing\n",
        "src/main.py": "def main():\n    # TODO: less\r\n    todo()\n",
        "src/pkg/util.py": "done\n",
        "src/pkg/TODO.txt": "by name only\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    (root / "image.bin").write_bytes(b"TODO\0TODO")
    return root


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        (SearchFiles("TODO"), ["README.md:1: # TODO list", "src/main.py:2: # TODO: less"]),
        (
            SearchFiles("todo", ignore_case=True),
            ["README.md:1: # TODO list", "src/main.py:2: # TODO: less", "src/main.py:3: todo()"],
        ),
        (SearchFiles(r"^def \w+", regex=True), ["src/main.py:1: def main():"]),
        (SearchFiles(r"LESS$", regex=True, ignore_case=True), ["src/main.py:2: # TODO: less"]),
        (SearchFiles("main()"), ["src/main.py:1: def main():"]),
        (SearchFiles("TODO", path="src"), ["src/main.py:2: # TODO: less"]),
        (SearchFiles("TODO", path="README.md"), ["README.md:1: # TODO list"]),
        (SearchFiles("TODO", path="README.md", files="*.py"), ["No line matches 'TODO'."]),
        (SearchFiles("TODO", files="*.md"), ["README.md:1: # TODO list"]),
        (SearchFiles("TODO", files="src/**"), ["src/main.py:2: # TODO: less"]),
        (SearchFiles("done", path="src", files="pkg/*.py"), ["src/pkg/util.py:1: done"]),
        (SearchFiles("absent"), ["No line matches 'absent'."]),
    ],
)
def test_lines_are_found(tree: Path, jail: Jail, deadline: Deadline, asked: SearchFiles, lines: list[str]):
    assert search_files(jail, asked, deadline).split("\n") == lines


@pytest.mark.parametrize("pattern", ["[", "a(?=b)"])
def test_a_bad_expression_is_told(tree: Path, jail: Jail, deadline: Deadline, pattern: str):
    with pytest.raises(ToolFailed) as caught:
        search_files(jail, SearchFiles(pattern, regex=True), deadline)
    assert caught.value.code == "bad_arguments"
    assert caught.value.detail.startswith("The regular expression is not valid here")


@pytest.mark.parametrize("path", ["absent", "absent/x", "src/main.py/x"])
def test_a_place_that_is_not_there_is_told(tree: Path, jail: Jail, deadline: Deadline, path: str):
    with pytest.raises(ToolFailed):
        search_files(jail, SearchFiles("x", path=path), deadline)


def test_the_most_matches_are_shown_whole_and_one_more_is_cut(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text("hit\n" * MATCHES_MAX)
    lines = [f"a.txt:{number}: hit" for number in range(1, MATCHES_MAX + 1)]
    assert search_files(jail, SearchFiles("hit"), deadline).split("\n") == lines
    (root / "b.txt").write_text("hit\n")
    assert search_files(jail, SearchFiles("hit"), deadline).split("\n") == [
        *lines,
        "[Not everything: only the first 200 matching lines are shown. Narrow it with path or files.]",
    ]


def test_a_search_out_of_time_says_so(tree: Path, jail: Jail, passed: Deadline):
    assert search_files(jail, SearchFiles("TODO"), passed) == (
        "No line matches 'TODO'.\n[Not everything: time is up. Narrow it with path or files.]"
    )


def test_time_may_run_out_between_two_lines(jail: Jail, root: Path):
    (root / "a.txt").write_text("hit\n" * 100)
    ticks = iter(range(1000))
    deadline = Deadline(wall_s=20, clock=lambda: float(next(ticks)))
    *lines, notice = search_files(jail, SearchFiles("hit"), deadline).split("\n")
    assert 0 < len(lines) < 20
    assert lines == [f"a.txt:{number}: hit" for number in range(1, len(lines) + 1)]
    assert notice == "[Not everything: time is up. Narrow it with path or files.]"


def test_a_long_line_is_searched_to_a_bound_and_shown_to_a_shorter_one(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text(
        "x" * (LINE_CHARS_SEARCHED_MAX - 3) + "hit" + "\n" + "y" * LINE_CHARS_SEARCHED_MAX + "hit"
    )
    assert search_files(jail, SearchFiles("hit"), deadline) == f"a.txt:1: {'x' * LINE_CHARS_SHOWN_MAX}…"


def test_a_large_file_is_searched_to_a_bound_and_that_is_said(jail: Jail, root: Path, deadline: Deadline):
    filler = ("z" * 1023 + "\n") * (FILE_BYTES_SEARCHED_MAX // 1024)
    (root / "a.txt").write_text("hit\n" + filler + "hit\n")
    assert search_files(jail, SearchFiles("hit"), deadline) == (
        "a.txt:1: hit\n[Large files were searched in their first 8 MiB only: 1.]"
    )


def test_an_expression_that_would_hang_does_not(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text(("a" * 5_000 + "!\n") * 50)
    began = perf_counter()
    assert search_files(jail, SearchFiles("(a+)+$", regex=True), deadline) == "No line matches '(a+)+$'."
    assert perf_counter() - began < 2.0
