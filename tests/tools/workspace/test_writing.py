import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core.errors import ToolFailed
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail
from dragoman.tools.workspace.writing import WRITE_BYTES_MAX, EditFile, WriteFile, edit_file, write_file
from tests.tools.conftest import Call


def edited(jail: Jail, deadline: Deadline, old: str, new: str, *, replace_all: bool = False) -> str:
    return edit_file(jail, EditFile("a.txt", old, new, replace_all), deadline)


def test_a_file_is_made_with_its_folders_and_replaced_whole(jail: Jail, root: Path, deadline: Deadline):
    assert write_file(jail, WriteFile("a/b/c.md", "é\n"), deadline) == "Created a/b/c.md (3 bytes)."
    assert (root / "a/b/c.md").read_text() == "é\n"
    assert write_file(jail, WriteFile("a/b/c.md", ""), deadline) == "Replaced a/b/c.md (0 bytes)."
    assert (root / "a/b/c.md").read_text() == ""
    assert os.listdir(root / "a/b") == ["c.md"]


def test_content_is_written_exactly(jail: Jail, root: Path, deadline: Deadline):
    write_file(jail, WriteFile("a.txt", "\ufeffa\r\nb\n\0\u2028"), deadline)
    assert (root / "a.txt").read_bytes() == "\ufeffa\r\nb\n\0\u2028".encode()


def test_content_of_the_largest_size_is_written_and_one_byte_more_is_not(jail: Jail, root: Path, deadline: Deadline):
    write_file(jail, WriteFile("a.txt", "x" * WRITE_BYTES_MAX), deadline)
    with pytest.raises(ToolFailed) as caught:
        write_file(jail, WriteFile("a.txt", "x" * (WRITE_BYTES_MAX - 1) + "é"), deadline)
    assert caught.value.detail == (
        "a.txt would be 1,048,577 bytes; at most 1,048,576 are written. Nothing was changed."
    )
    assert (root / "a.txt").stat().st_size == WRITE_BYTES_MAX


def test_half_a_character_is_not_written(jail: Jail, root: Path, deadline: Deadline):
    with pytest.raises(ToolFailed, match="half a character"):
        write_file(jail, WriteFile("a.txt", "\ud800"), deadline)
    assert os.listdir(root) == []


def test_a_folder_is_not_overwritten(jail: Jail, root: Path, deadline: Deadline):
    (root / "a").mkdir()
    with pytest.raises(ToolFailed, match=r"^a is a folder, not a file\."):
        write_file(jail, WriteFile("a", "x"), deadline)
    (root / "b.txt").write_text("b")
    with pytest.raises(ToolFailed, match=r"^b\.txt is not a folder\.$"):
        write_file(jail, WriteFile("b.txt/c", "x"), deadline)


def test_an_edit_replaces_the_one_place(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text("port = 8080\nhost = x\n")
    assert edited(jail, deadline, "port = 8080", "port = 9090") == "Replaced 1 occurrence in a.txt."
    assert (root / "a.txt").read_text() == "port = 9090\nhost = x\n"
    assert edited(jail, deadline, "host = x\n", "") == "Replaced 1 occurrence in a.txt."
    assert (root / "a.txt").read_text() == "port = 9090\n"


@pytest.mark.parametrize(("content", "old"), [("a b a", "a"), ("aaa", "aa")])
def test_an_edit_of_more_than_one_place_must_be_meant(
    jail: Jail, root: Path, deadline: Deadline, content: str, old: str
):
    (root / "a.txt").write_text(content)
    with pytest.raises(ToolFailed) as caught:
        edited(jail, deadline, old, "z")
    assert caught.value.detail == (
        "The text to replace stands in a.txt more than once. Give more of what surrounds it, or set replace_all. "
        "Nothing was changed."
    )
    assert (root / "a.txt").read_text() == content


def test_every_place_is_replaced_when_asked(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text("a b a b a")
    assert edited(jail, deadline, "a", "aa", replace_all=True) == "Replaced 3 occurrences in a.txt."
    assert (root / "a.txt").read_text() == "aa b aa b aa"


def test_text_that_is_not_there_is_told(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text("a  b")
    for replace_all in (False, True):
        with pytest.raises(ToolFailed) as caught:
            edited(jail, deadline, "a b", "c", replace_all=replace_all)
        assert caught.value.detail == (
            "The text to replace was not found in a.txt. Read the file again and copy the text exactly, "
            "with its spaces and line ends. Nothing was changed."
        )


def test_line_ends_that_differ_are_told_as_such(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    with pytest.raises(ToolFailed, match=r"^The lines of a\.txt end in CRLF: "):
        edited(jail, deadline, "one\ntwo", "three")
    assert edited(jail, deadline, "one\r\ntwo", "three") == "Replaced 1 occurrence in a.txt."


def test_an_edit_that_changes_nothing_is_told(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text("a")
    with pytest.raises(ToolFailed, match="are the same text"):
        edited(jail, deadline, "a", "a")


def test_a_file_too_large_to_edit_or_grown_too_large_is_left_alone(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_text("a" + "b" * (WRITE_BYTES_MAX - 1))
    with pytest.raises(ToolFailed, match=r"^a\.txt would be 1,048,577 bytes"):
        edited(jail, deadline, "a", "xx")
    assert edited(jail, deadline, "ab", "xx") == "Replaced 1 occurrence in a.txt."
    (root / "a.txt").write_text("a" + "b" * WRITE_BYTES_MAX)
    with pytest.raises(ToolFailed, match=r"^a\.txt is larger than 1,048,576 bytes"):
        edited(jail, deadline, "ab", "x")


def test_what_is_not_text_is_not_edited(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_bytes(b"a\0b")
    with pytest.raises(ToolFailed, match="is not a text file"):
        edited(jail, deadline, "a", "c")


def test_bytes_of_an_old_encoding_elsewhere_in_the_file_survive_an_edit(jail: Jail, root: Path, deadline: Deadline):
    (root / "a.txt").write_bytes(b"caf\xe9 = 1\nport = 8080\n" + b"# plain text goes on here\n")
    edited(jail, deadline, "8080", "9090")
    assert (root / "a.txt").read_bytes() == b"caf\xe9 = 1\nport = 9090\n" + b"# plain text goes on here\n"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text(alphabet="aé\n ", max_size=20), old=st.text(alphabet="aé\n ", min_size=1, max_size=3))
def test_an_edit_is_what_replacing_in_the_text_gives(jail: Jail, root: Path, content: str, old: str):
    (root / "a.txt").write_bytes(content.encode())
    try:
        edit_file(jail, EditFile("a.txt", old, "NEW", True), Deadline())
    except ToolFailed:
        assert old not in content
    assert (root / "a.txt").read_bytes() == content.replace(old, "NEW").encode()


async def test_edits_side_by_side_all_have_their_effect(workspace: Path, call: Call):
    (workspace / "a.txt").write_text("".join(f"<{number}>\n" for number in range(40)))
    edits = (call("edit_file", path="a.txt", old=f"<{number}>", new=f"[{number}]") for number in range(40))
    outcomes = await asyncio.gather(*edits)
    assert not [outcome for outcome in outcomes if outcome.is_error]
    assert (workspace / "a.txt").read_text() == "".join(f"[{number}]\n" for number in range(40))
