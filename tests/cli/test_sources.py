"""`dragoman sources`."""

import io
import re

import pytest

from dragoman.cli.sources import FILE_BYTES_MAX


@pytest.fixture
def shelf(cli):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    (cli.folder / "refunds.md").write_text("\ufeffSee below.\n\n## Refunds ##\n\nMoney goes back in five days.\n")
    (cli.folder / "shipping.txt").write_text("# no heading\nParcels leave every morning.\n")
    return cli


def test_a_source_is_made_of_files_and_texts(shelf):
    done = shelf.ok(
        *("sources", "create", "Handbook", "refunds.md", "shipping.txt", "--text", "We are open on Sundays."),
        *("--description", "All of it.", "--project", "shop", "--json"),
    ).json

    assert re.fullmatch("[0-9a-f]{24}", done["id"])
    assert (done["name"], done["description"], done["active"]) == ("Handbook", "All of it.", True)
    assert [(each["title"], each["name"]) for each in done["documents"]] == [
        ("Refunds", "refunds.md"),
        ("shipping.txt", "shipping.txt"),
        ("text 1", None),
    ]
    assert all(re.fullmatch("[0-9a-f]{24}", each["id"]) for each in done["documents"])
    (listed,) = shelf.ok("sources", "ls", "--project", "shop", "--json").json
    assert (listed["id"], listed["name"], listed["documents"], listed["active"]) == (done["id"], "Handbook", 3, True)
    assert shelf.ok("sources", "ls", "--json").json == []
    knowledge = shelf.ok("knowledge", "ls", "--project", "shop", "--json").json
    assert {(each["public"], each["owner"]) for each in knowledge} == {(False, f"source:{done['id']}")}


def test_more_is_added_and_it_can_be_set_aside_and_deleted(shelf, monkeypatch):
    made = shelf.ok("sources", "create", "Handbook", "--json").json
    assert made["documents"] == []
    added = shelf.ok("sources", "add", made["id"], "refunds.md", "--json").json
    assert (added["id"], len(added["documents"])) == (made["id"], 1)
    assert "1 documents are in" in shelf.ok("sources", "add", made["id"], "--text", "x").out
    assert shelf.ok("sources", "set", made["id"], "--inactive", "--json").json["active"] is False
    assert "not searched" in shelf.ok("sources", "ls").out
    assert shelf.ok("sources", "set", made["id"], "--active").out == f"Handbook ({made['id']}) is searched.\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert shelf.run("sources", "rm", made["id"]).code == 130
    assert shelf.ok("sources", "rm", made["id"], "--yes", "--json").json == {"id": made["id"], "deleted": True}
    assert shelf.ok("sources", "ls", "--json").json == []
    assert shelf.ok("knowledge", "ls", "--json").json == []


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("a.pdf", b"%PDF", "a.pdf: a PDF is not read here. Turn it into text or Markdown first, and give that."),
        ("a.DOCX", b"PK", "a.DOCX: a document of a word processor is not read here."),
        ("a.txt", b"\xff\xfe", "a.txt is no text in UTF-8; save it in that encoding."),
        ("a.txt", b"a\0b", "a.txt is no text: it has NUL characters in it."),
        ("a.txt", b" \n", "The document 'a.txt' has no text."),
        ("a.txt", b"x" * (FILE_BYTES_MAX + 1), f"a.txt is larger than {FILE_BYTES_MAX} bytes; split it."),
    ],
)
def test_a_file_that_is_no_text_is_refused_and_no_source_is_made(shelf, name, body, sentence):
    (shelf.folder / name).write_bytes(body)
    done = shelf.run("sources", "create", "Handbook", "refunds.md", name)

    assert done.code == 2 and sentence in done.err
    assert shelf.ok("sources", "ls", "--json").json == []


def test_documents_that_are_too_much_leave_no_empty_source_behind(shelf, monkeypatch):
    monkeypatch.setattr("dragoman.runtime.sources.ADDED_CHARS_MAX", 50)
    done = shelf.run("sources", "create", "Handbook", "refunds.md", "shipping.txt")

    assert done.code == 2 and "At most 50 characters are added at once" in done.err
    assert shelf.ok("sources", "ls", "--json").json == []
    assert shelf.ok("sources", "create", "Handbook", "--text", "Money goes back.", "--json").json["name"] == "Handbook"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("https://example.com/a.md", "https://example.com/a.md: pages are not fetched. Save it as text or Markdown"),
        ("nowhere.md", "There is no file nowhere.md."),
        (".", ". is a folder; name the files in it."),
    ],
)
def test_what_is_no_file_is_refused(shelf, given, sentence):
    done = shelf.run("sources", "create", "Handbook", given)

    assert done.code == 2 and sentence in done.err


def test_what_is_not_there_is_not_found(shelf):
    nowhere = "0" * 24
    for verb in (("add", nowhere, "refunds.md"), ("rm", nowhere, "--yes"), ("set", nowhere, "--active")):
        done = shelf.run("sources", *verb)
        assert (done.code, done.err) == (3, f"dragoman: There is no source {nowhere}.\n")


def test_nothing_to_add_is_a_slip(shelf):
    made = shelf.ok("sources", "create", "Handbook", "--json").json

    assert shelf.run("sources", "add", made["id"]).code == 2


def test_a_name_is_there_once(shelf):
    shelf.ok("sources", "create", "Handbook")
    done = shelf.run("sources", "create", "Handbook")

    assert done.code == 2 and "The project has a source Handbook already" in done.err


def test_line_ends_of_windows_are_not_in_titles(shelf):
    (shelf.folder / "w.md").write_bytes(b"# Berths #\r\n\r\nA berth costs 14 a night.\r\n")
    done = shelf.ok("sources", "create", "Handbook", "w.md", "--json").json
    assert [each["title"] for each in done["documents"]] == ["Berths"]


@pytest.mark.parametrize("verb", [("create", "X", "--text", "x"), ("ls",), ("add", "0" * 24, "--text", "x")])
def test_a_project_that_is_not_there_gets_nothing(shelf, verb):
    done = shelf.run("sources", *verb, "--project", "nobody")
    assert done.code == 3 and "There is no project nobody" in done.err


def test_the_id_may_be_said(shelf):
    wanted = "6650f0c2a1b2c3d4e5f60718"
    assert shelf.ok("sources", "create", "Handbook", "refunds.md", "--id", wanted, "--json").json["id"] == wanted
    again = shelf.run("sources", "create", "Other", "refunds.md", "--id", wanted)
    assert again.code == 2 and "already" in again.err
    assert shelf.ok("sources", "ls", "--json").json[0]["documents"] == 1
