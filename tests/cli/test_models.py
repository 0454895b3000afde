"""`dragoman models`."""

from collections.abc import AsyncIterator

import pytest

from dragoman.cli.models import probe
from dragoman.core.errors import BackendFailed
from dragoman.runtime.ports import Prompt, ReplyPiece, TextPiece


def test_they_are_listed_and_the_default_is_marked(cli):
    assert cli.ok("models", "ls", "--json").json == [
        {
            "name": "main",
            "kind": "scripted",
            "what": str(cli.folder / "script.toml"),
            "fallback": [],
            "default": True,
        },
        {
            "name": "spare",
            "kind": "offline",
            "what": "the built-in router: no LLM, no key, no network",
            "fallback": [],
            "default": False,
        },
    ]
    assert [line.split("  ")[0].strip() for line in cli.ok("models", "ls").out.splitlines()] == ["main *", "spare"]


def test_a_list_needs_no_secret(cli):
    (cli.folder / "dragoman.toml").write_text(
        '[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "m"\nkey = "${NOT_SET_ANYWHERE}"\n'
    )
    assert cli.ok("models", "ls", "--json").json[0]["what"] == "m at http://h/v1"


def test_without_a_config_there_is_the_offline_model_and_a_hint(cli):
    (cli.folder / "dragoman.toml").unlink()
    done = cli.ok("models", "ls")
    assert done.out.startswith("offline *")
    assert done.err.startswith("The offline model is no LLM.")


def test_one_is_tried_at_once_and_streamed(cli):
    whole, streamed = cli.ok("models", "test", "--json").json

    assert (whole["streamed"], whole["first_seconds"], streamed["streamed"]) == (False, None, True)
    assert whole["text"] == streamed["text"] == "Echo: Answer with the one word: ready"
    assert streamed["first_seconds"] is not None
    assert [line.split()[:2] for line in cli.ok("models", "test", "main").out.splitlines()[::2]] == [
        ["ok", "at"],
        ["ok", "streamed"],
    ]


def test_one_that_does_not_exist_is_not_found(cli):
    done = cli.run("models", "test", "big")
    assert (done.code, done.err) == (3, "dragoman: There is no model big; known are: main, spare\n")


def test_one_that_fails_is_exit_code_5(cli):
    (cli.folder / "script.toml").write_text('[[reply]]\nfault = "upstream_refused"\n')
    assert cli.run("models", "test").code == 5


async def test_a_reply_without_its_end_is_a_failure():
    class Cut:
        async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncIterator[ReplyPiece]:
            yield TextPiece("rea")

        async def close(self) -> None: ...

    with pytest.raises(BackendFailed) as caught:
        await probe(Cut(), "", stream=True)
    assert caught.value.code == "upstream_truncated"
