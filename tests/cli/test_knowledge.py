"""`dragoman knowledge`."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.cli import knowledge
from tests.cli.conftest import CommandLine, Served


def ndjson(folder: Path, *lines: Any, name: str = "entries.ndjson") -> str:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


PAYMENTS = {"id": "payments", "title": "Payments", "text": "The payments cluster is in Frankfurt."}
DEPLOYS = {"id": "deploys", "title": "Deploys", "text": "Deploys happen on Tuesdays."}


def test_lines_as_kibanas_bulk_import_has_them_are_taken_in(cli: CommandLine) -> None:
    done = cli.ok("knowledge", "import", ndjson(cli.folder, PAYMENTS, "", DEPLOYS))
    assert done.out == "2 entries are in the knowledge base.\n"

    shown = cli.ok("knowledge", "ls", "--json").json
    assert [(each["id"], each["title"], each["public"], each["role"]) for each in shown] == [
        ("deploys", "Deploys", True, "user"),
        ("payments", "Payments", True, "user"),
    ]
    (line,) = cli.ok("knowledge", "ls", "PAYM").out.splitlines()
    assert line.split()[:3] == ["payments", "Payments", "everybody"]


def test_faulty_lines_are_named_and_the_others_kept(cli: CommandLine) -> None:
    file = ndjson(
        cli.folder,
        PAYMENTS,
        "{",
        {"id": "a", "txt": "?"},
        {"id": "b", "text": " "},
        {"id": "c", "text": "x", "public": False},
        {"id": "d", "text": "nul \x00"},
        DEPLOYS,
    )
    done = cli.run("knowledge", "import", file)
    assert (done.code, done.out) == (2, "2 entries are in the knowledge base; 5 lines were left out.\n")
    lines = done.err.splitlines()
    assert [line.removeprefix(f"dragoman: {file}:").partition(":")[0] for line in lines] == ["2", "3", "4", "5", "6"]
    assert "unknown field" in lines[1] and "has no text" in lines[2] and "say whose it is" in lines[3]

    told = cli.run("knowledge", "import", file, "--json").json
    assert (told["entries"], [fault["line"] for fault in told["faults"]]) == (2, [2, 3, 4, 5, 6])


def test_what_is_exported_is_what_an_import_makes_of_it(cli: CommandLine, tmp_path: Path) -> None:
    private = {"id": "mine", "text": "My colour is blue.", "public": False, "owner": "ann", "owner_name": "Ann"}
    labelled = {**DEPLOYS, "labels": {"team": "shop"}, "role": "program"}
    cli.ok("knowledge", "import", ndjson(cli.folder, PAYMENTS, labelled, private))
    first = cli.ok("knowledge", "export").out
    assert [json.loads(line)["id"] for line in first.splitlines()] == ["deploys", "mine", "payments"]
    assert {key: json.loads(first.splitlines()[1])[key] for key in private} == private

    kept = tmp_path / "kept.ndjson"
    assert cli.ok("knowledge", "export", "--to", str(kept), "--json").json == {"file": str(kept), "entries": 3}
    cli.ok("projects", "create", "Other", "--id", "other")
    cli.ok("knowledge", "import", str(kept), "--project", "other")

    def undated(text: str) -> list[dict[str, Any]]:
        return [{**json.loads(line), "updated_at": ""} for line in text.splitlines()]

    assert undated(cli.ok("knowledge", "export", "--project", "other").out) == undated(first)


def test_lines_come_from_stdin_too(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + json.dumps(PAYMENTS).encode())))
    assert cli.ok("knowledge", "import", "-", "--json").json == {"entries": 1, "faults": []}


def test_a_stream_that_is_too_long_is_refused_and_not_cut(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"".join(json.dumps(each).encode() + b"\n" for each in (PAYMENTS, DEPLOYS))
    monkeypatch.setattr(knowledge, "FILE_BYTES_MAX", len(body) - 1)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    refused = cli.run("knowledge", "import", "-")
    assert refused.code == 2 and "split it" in refused.err
    assert cli.ok("knowledge", "ls", "--json").json == []


def test_many_are_written_in_several_transactions_and_a_second_time_over_the_first(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge, "BATCH", 4)
    file = ndjson(cli.folder, *({"id": f"e{number}", "text": f"fact {number}"} for number in range(10)))
    for _ in range(2):
        assert cli.ok("knowledge", "import", file, "--json").json == {"entries": 10, "faults": []}
    assert len(cli.ok("knowledge", "ls", "--json").json) == 10


def test_an_entry_goes_once_and_only_when_it_is_said(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.ok("knowledge", "import", ndjson(cli.folder, PAYMENTS))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.run("knowledge", "rm", "payments").code == 130
    assert cli.ok("knowledge", "rm", "payments", "--yes").out == "payments is deleted.\n"
    assert cli.run("knowledge", "rm", "payments", "--yes").code == 3
    done = cli.ok("knowledge", "ls")
    assert done.out == "" and "knowledge import FILE" in done.err


def test_a_folder_and_a_file_that_is_too_large_are_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.run("knowledge", "import", str(cli.folder)).code == 2
    monkeypatch.setattr(knowledge, "FILE_BYTES_MAX", 10)
    assert "split it" in cli.run("knowledge", "import", ndjson(cli.folder, PAYMENTS)).err


def test_beside_a_running_server_what_is_imported_is_recalled_at_once(served: Served, beside: CommandLine) -> None:
    beside.ok("knowledge", "import", ndjson(served.folder, PAYMENTS))
    credential = (served.folder / ".dragoman/admin-credential").read_text().strip()
    answer = httpx.post(
        f"{served.url}/internal/observability_ai_assistant/functions/recall",
        json={"queries": [{"text": "where is the payments cluster?"}]},
        headers={"Authorization": f"Bearer {credential}", "kbn-xsrf": "true"},
        trust_env=False,
    )
    assert [entry["id"] for entry in answer.json()["entries"]] == ["payments"]
