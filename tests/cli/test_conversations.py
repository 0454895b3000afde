"""`dragoman conversations`."""

import asyncio
import io
import json
import re

import pytest

from dragoman.cli.conversations import own_name
from dragoman.cli.opening import local_principal
from dragoman.core.names import ConversationId
from dragoman.core.operations import UpdateConversation
from dragoman.server.assemble import open_house
from dragoman.server.config import load_config


def talked(cli, key: str = "team:42") -> None:
    cli.ok("ask", "which files are there?", "--conversation", key)


def test_they_are_listed_in_order_of_their_keys_and_by_pages(cli):
    for key in ("b", "a", "c"):
        cli.ok("ask", "hello", "--conversation", key)

    assert [each["id"] for each in cli.ok("conversations", "ls", "--json").json] == ["a", "b", "c"]
    page = cli.ok("conversations", "ls", "--limit", "2")
    assert [line.split()[0] for line in page.out.splitlines()] == ["a", "b"]
    assert page.err == "More follow: dragoman conversations ls --after b --limit 2\n"
    assert [each["id"] for each in cli.ok("conversations", "ls", "--after", "b", "--json").json] == ["c"]


def test_one_is_shown_as_it_was_held(cli):
    talked(cli)
    lines = cli.ok("conversations", "show", "team:42").out.splitlines()

    assert lines[0].startswith("team:42  2 messages  begun ")
    assert lines[1:] == [
        "user: which files are there?",
        "assistant: I look.",
        "  list_files  {}",
        lines[4],
        "assistant: There is notes.txt.",
    ]


def test_whose_it_is_and_what_is_not_as_usual_is_told(cli):
    cli.ok("ask", "hello", "--conversation", "k")
    cli.ok("ask", "hello", "--conversation", "plain")

    async def change() -> None:
        async with open_house(load_config(cli.home, cwd=cli.folder), cli.home) as house:
            change = UpdateConversation(ConversationId("k"), title="up\x1b[2J", shared=True, archived=True)
            await house.desk.answer(local_principal(house.config), change)

    asyncio.run(change())
    assert [line.split()[5:] for line in cli.ok("conversations", "ls").out.splitlines()] == [
        ["cli", "local", "shared", "archived", "up", "[2J"],
        ["cli", "local"],
    ]
    k, plain = cli.ok("conversations", "ls", "--json").json
    assert [(each["owner"], each["shared"], each["archived"]) for each in (k, plain)] == [
        ("local", True, True),
        ("local", False, False),
    ]
    head = cli.ok("conversations", "show", "k").out.splitlines()[0]
    assert head.endswith(" UTC  of local  shared archived  up [2J") and head.isprintable()


def test_a_turn_that_failed_is_marked(cli):
    cli.run("ask", "break it", "--conversation", "k")
    assert cli.ok("conversations", "show", "k").out.splitlines()[-1].endswith(": failed)")


def test_our_own_format_goes_out_and_comes_back(cli, tmp_path):
    talked(cli)
    done = cli.ok("conversations", "export", "team:42", "--to", str(tmp_path / "out"), "--json").json
    path = tmp_path / "out" / "team:42.json"
    assert (done["file"], done["bytes"]) == (str(path), len(path.read_bytes()))
    assert cli.ok("conversations", "export", "team:42").out == path.read_text()
    before = cli.ok("conversations", "show", "team:42").out.splitlines()[1:]

    cli.ok("conversations", "rm", "team:42", "--yes")
    (imported,) = cli.ok("conversations", "import", str(path), "--json").json
    assert (imported["file"], imported["conversation"]) == (str(path), "team:42")
    assert cli.ok("conversations", "show", "team:42").out.splitlines()[1:] == before


def test_a_dialects_files_go_out_and_come_back(cli, tmp_path):
    talked(cli)
    cli.ok("conversations", "export", "team:42", "--format", "grip", "--to", str(tmp_path / "sessions"))
    (file,) = (tmp_path / "sessions").iterdir()
    assert json.loads(file.read_text())["key"] == "team:42"
    cli.ok("conversations", "rm", "team:42", "--yes")

    imported = cli.ok("conversations", "import", "--format", "grip", str(tmp_path / "sessions"), "--json").json
    assert imported == [{"file": str(file), "conversation": "team:42", "messages": 2}]


def test_an_import_goes_on_after_a_file_that_is_none(cli, tmp_path):
    cli.ok("ask", "hello", "--conversation", "a")
    folder = tmp_path / "in"
    cli.ok("conversations", "export", "a", "--to", str(folder))
    (folder / "0.json").write_text("{}")
    cli.ok("conversations", "rm", "a", "--yes")
    done = cli.run("conversations", "import", str(folder))

    assert done.code == 2
    assert done.out == f"a  2 messages  from {folder / 'a.json'}\n"
    assert done.err.startswith(f"dragoman: {folder / '0.json'}: This is no conversation as ")


def test_one_that_exists_already_is_left_alone(cli, tmp_path):
    talked(cli, "a")
    cli.ok("conversations", "export", "a", "--to", str(tmp_path / "x"))

    assert cli.run("conversations", "import", str(tmp_path / "x" / "a.json")).code == 2
    assert cli.ok("conversations", "ls", "--json").json[0]["turns"] == 1


def test_a_format_that_nobody_has_is_not_found(cli):
    talked(cli)
    done = cli.run("conversations", "export", "team:42", "--format", "word")

    assert done.code == 3
    assert done.err.startswith("dragoman: There is no file format word; known are: json, ")


def test_what_does_not_exist_is_not_found(cli):
    for args in (("show", "x"), ("export", "x"), ("rm", "x", "--yes")):
        done = cli.run("conversations", *args)
        assert (done.code, done.err) == (3, "dragoman: There is no conversation x.\n")


def test_removing_asks_first(cli, monkeypatch):
    talked(cli)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert cli.run("conversations", "rm", "team:42").code == 130
    assert len(cli.ok("conversations", "ls", "--json").json) == 1
    assert cli.ok("conversations", "rm", "team:42", "--yes").out == "team:42 is deleted.\n"
    assert cli.ok("conversations", "ls", "--json").json == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("team:42", "team:42.json"),
        ("a.b@c-d_e", "a.b@c-d_e.json"),
        ("../x", "key-d6b96a97d147daaae49eb87a5ca7bfbc.json"),
    ],
)
def test_a_file_name_is_the_key_where_that_is_safe(key: str, name: str):
    assert own_name(ConversationId(key)) == name


@pytest.mark.parametrize("key", ["..", ".hidden", "key-1", "ключ", "a/b", "a b", "x" * 129])
def test_a_file_name_is_a_digest_where_it_is_not(key: str):
    assert re.fullmatch(r"key-[0-9a-f]{32}\.json", own_name(ConversationId(key)))
