from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core.errors import ToolFailed
from dragoman.tools.registry import OUTPUT_BYTES_MAX
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail
from dragoman.tools.workspace.reading import (
    CHUNK_BYTES,
    LIST_ENTRIES_MAX,
    READ_BYTES_MAX,
    READ_LINES_DEFAULT,
    FindFiles,
    ListFiles,
    ReadFile,
    find_files,
    list_files,
    read_file,
)


@pytest.fixture
def tree(root: Path, jail: Jail) -> Path:
    for name, text in {
        "README.md": "# Title\n",
        "src/main.py": "print(1)\n",
        "src/pkg/util.py": "x = 1\n",
        "src/pkg/data.json": "{}",
        "empty/.keep": "",
        "été/naïve.txt": "ä",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# -- list_files ------------------------------------------------------------------------------------------------------


def test_the_top_level_is_listed_one_path_per_line(tree: Path, jail: Jail, deadline: Deadline):
    assert list_files(jail, ListFiles(), deadline) == "README.md\nempty/\nsrc/\nété/"


def test_everything_is_listed_with_paths_from_the_root(tree: Path, jail: Jail, deadline: Deadline):
    assert list_files(jail, ListFiles(recursive=True), deadline).split("\n") == [
        "README.md",
        "empty/",
        "empty/.keep",
        "src/",
        "src/main.py",
        "src/pkg/",
        "src/pkg/data.json",
        "src/pkg/util.py",
        "été/",
        "été/naïve.txt",
    ]


def test_one_folder_is_listed_with_sizes(tree: Path, jail: Jail, deadline: Deadline):
    (tree / "src" / "big.bin").write_bytes(b"\0" * 12_345)
    assert list_files(jail, ListFiles(path="src", sizes=True), deadline) == (
        "src/big.bin (12,345 bytes)\nsrc/main.py (9 bytes)\nsrc/pkg/"
    )


def test_emptiness_is_said(tree: Path, jail: Jail, deadline: Deadline, tmp_path: Path):
    (tree / "void").mkdir()
    assert list_files(jail, ListFiles(path="void"), deadline) == "void/ is empty."
    assert list_files(Jail(tmp_path / "other"), ListFiles(), deadline) == "The workspace is empty."


def test_a_file_is_no_folder(tree: Path, jail: Jail, deadline: Deadline):
    with pytest.raises(ToolFailed, match=r"^README\.md is not a folder\.$"):
        list_files(jail, ListFiles(path="README.md"), deadline)


def test_the_most_entries_are_listed_whole_and_one_more_is_cut(jail: Jail, root: Path, deadline: Deadline):
    for number in range(LIST_ENTRIES_MAX):
        (root / f"{number:05}").touch()
    names = [f"{number:05}" for number in range(LIST_ENTRIES_MAX)]
    assert list_files(jail, ListFiles(), deadline).split("\n") == names
    (root / "zzz").touch()
    assert list_files(jail, ListFiles(), deadline).split("\n") == [
        *names,
        "[Not everything: only the first 1,000 are shown. List one of the folders, or look for names with find_files.]",
    ]


def test_a_listing_out_of_time_says_so(tree: Path, jail: Jail, passed: Deadline):
    assert list_files(jail, ListFiles(), passed) == (
        "[Not everything: time is up. List one of the folders, or look for names with find_files.]"
    )


def test_a_name_cannot_forge_a_line(tree: Path, jail: Jail, deadline: Deadline):
    (tree / "src" / "a\nforged.txt").touch()
    assert list_files(jail, ListFiles(path="src"), deadline) == "src/a\\u000aforged.txt\nsrc/main.py\nsrc/pkg/"


# -- find_files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "lines"),
    [
        ("*.py", "", ["src/main.py", "src/pkg/util.py"]),
        ("*.py", "src/pkg", ["src/pkg/util.py"]),
        ("src/*.py", "", ["src/main.py"]),
        ("./src/*.py", "", ["src/main.py"]),
        ("pkg/*", "src", ["src/pkg/data.json", "src/pkg/util.py"]),
        ("**/*.{py,md}", "", ["README.md", "src/main.py", "src/pkg/util.py"]),
        (".keep", "", ["empty/.keep"]),
        ("src", "", ["No file's name fits 'src'."]),
        ("*.rs", "", ["No file's name fits '*.rs'."]),
    ],
)
def test_files_are_found_by_glob(tree: Path, jail: Jail, deadline: Deadline, pattern: str, path: str, lines: list[str]):
    assert find_files(jail, FindFiles(pattern, path), deadline).split("\n") == lines


def test_a_bad_glob_is_told(tree: Path, jail: Jail, deadline: Deadline):
    with pytest.raises(ToolFailed, match="A glob has 1 to 500 characters"):
        find_files(jail, FindFiles(""), deadline)


# -- read_file -------------------------------------------------------------------------------------------------------


def put(root: Path, content: bytes | str) -> None:
    (root / "a.txt").write_bytes(content.encode() if isinstance(content, str) else content)


def read(jail: Jail, deadline: Deadline, **asked: int) -> str:
    return read_file(jail, ReadFile("a.txt", **asked), deadline)


@pytest.mark.parametrize(
    "content", ["one\ntwo\n", "no end", "crlf\r\nends\r\n", "\ufeffmark", "\u2028 and \x0c", "é€😀\n"]
)
def test_a_text_is_read_exactly_as_it_stands(jail: Jail, root: Path, deadline: Deadline, content: str):
    put(root, content)
    assert read(jail, deadline) == content


@pytest.mark.parametrize(
    ("offset", "limit", "text"),
    [
        (1, 2, "1\n2\n[Lines 1 to 2. There are more: read on with offset=3.]"),
        (3, 2, "3\n4\n[Lines 3 to 4. There are more: read on with offset=5.]"),
        (4, 2, "4\n5"),
        (5, 1, "5"),
        (2, 9, "2\n3\n4\n5"),
    ],
)
def test_part_of_a_text_is_read_by_lines(
    jail: Jail, root: Path, deadline: Deadline, offset: int, limit: int, text: str
):
    put(root, "1\n2\n3\n4\n5")
    assert read(jail, deadline, offset=offset, limit=limit) == text


def test_reading_on_from_where_it_stopped_gives_the_whole(jail: Jail, root: Path, deadline: Deadline):
    lines = [f"line {number} " + "x" * (number % 700) for number in range(1, 5 * READ_LINES_DEFAULT)]
    put(root, "\n".join(lines))
    seen: list[str] = []
    offset = 1
    while True:
        got = read(jail, deadline, offset=offset).split("\n")
        if not got[-1].startswith("[Lines "):
            break
        seen += got[:-1]
        offset = int(got[-1].split("offset=")[1].rstrip(".]"))
    assert seen + got == lines


def test_an_empty_text_is_said_to_be_empty(jail: Jail, root: Path, deadline: Deadline):
    put(root, "")
    assert read(jail, deadline) == "a.txt is empty."
    assert read(jail, deadline, offset=7) == "a.txt is empty."


@pytest.mark.parametrize("content", ["1\n2\n", "1\n2"])
def test_an_offset_beyond_the_end_is_told(jail: Jail, root: Path, deadline: Deadline, content: str):
    put(root, content)
    with pytest.raises(ToolFailed, match=r"^a\.txt ends before line 3; choose a smaller offset\.$"):
        read(jail, deadline, offset=3)


def test_a_text_of_the_largest_size_is_read_whole_and_one_byte_more_is_cut_at_a_line(
    jail: Jail, root: Path, deadline: Deadline
):
    line = "x" * 1023 + "\n"
    whole = line * (READ_BYTES_MAX // 1024)
    put(root, whole)
    assert read(jail, deadline) == whole
    put(root, whole + "y")
    text = read(jail, deadline)
    assert text == whole + "[Lines 1 to 1023. There are more: read on with offset=1024.]"
    assert len(text.encode()) <= OUTPUT_BYTES_MAX
    assert read(jail, deadline, offset=1024) == "y"


def test_one_endless_line_is_cut_between_characters(jail: Jail, root: Path, deadline: Deadline):
    put(root, "€" * READ_BYTES_MAX)
    text, notice = read(jail, deadline).split("\n")
    assert text == "€" * (READ_BYTES_MAX // 3)
    assert notice == "[Line 1 is longer than 1,047,552 bytes; its rest is left out.]"


def test_a_line_far_into_a_large_file_is_found(jail: Jail, root: Path, deadline: Deadline):
    put(root, "".join(f"{number}\n" for number in range(1, 200_001)))
    assert (root / "a.txt").stat().st_size > 4 * CHUNK_BYTES
    assert read(jail, deadline, offset=199_999) == "199999\n200000\n"
    assert read(jail, deadline, offset=100_000, limit=1).startswith("100000\n")


def test_looking_for_a_line_out_of_time_is_told(jail: Jail, root: Path, passed: Deadline):
    put(root, "1\n2\n3\n")
    with pytest.raises(ToolFailed, match="took too long"):
        read(jail, passed, offset=3)


@pytest.mark.parametrize(
    "content",
    [b"\0", b"GIF89a\0\0", bytes(range(256)), b"\xff\xd8\xff\xe0" * 50, "utf-16".encode("utf-16"), b"x" * 9000 + b"\0"],
)
def test_what_is_not_text_is_refused(jail: Jail, root: Path, deadline: Deadline, content: bytes):
    put(root, content)
    with pytest.raises(ToolFailed, match=r"^a\.txt is not a text file; only text can be read\.$"):
        read(jail, deadline)


def test_a_few_bytes_of_an_old_encoding_do_not_make_a_text_unreadable(jail: Jail, root: Path, deadline: Deadline):
    put(root, "Grüße aus München\n".encode("latin-1"))
    assert read(jail, deadline) == "Gr\ufffd\ufffde aus M\ufffdnchen\n"


def test_a_character_across_the_end_of_the_beginning_is_still_text(jail: Jail, root: Path, deadline: Deadline):
    for shift in range(4):
        content = "x" * shift + "😀" * 10_000
        put(root, content)
        assert read(jail, deadline) == content


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text(alphabet="ab\né€\r", max_size=40), offset=st.integers(1, 9), limit=st.integers(1, 9))
def test_lines_are_what_splitting_at_newlines_gives(jail: Jail, root: Path, content: str, offset: int, limit: int):
    put(root, content)
    lines = (
        content.splitlines(keepends=True)
        if "\r" not in content
        else [
            *(line + "\n" for line in content.split("\n")[:-1]),
            *([content.split("\n")[-1]] if content.split("\n")[-1] else []),
        ]
    )
    wanted = "".join(lines[offset - 1 : offset - 1 + limit])
    try:
        text = read_file(jail, ReadFile("a.txt", offset, limit), Deadline())
    except ToolFailed:
        assert content
        assert offset > len(lines)
        return
    if not content:
        assert text == "a.txt is empty."
    elif offset - 1 + limit < len(lines):
        assert (
            text
            == wanted
            + f"[Lines {offset} to {offset + limit - 1}. There are more: read on with offset={offset + limit}.]"
        )
    else:
        assert text == wanted
