"""Models that are asked for by name: the one that was meant, and no other."""

from collections.abc import AsyncGenerator

import pytest

from dragoman.core.errors import BackendFailed, NotFound
from dragoman.core.messages import said
from dragoman.core.names import ProjectId
from dragoman.models.catalogue import Catalogue
from dragoman.runtime.asking import Asking, check_known, known_model
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece
from tests.parts import text_reply

P = ProjectId("p")
ASKED = (said("user", "Hello"),)


class Speaker:
    """A model that says `pieces`, whoever asks."""

    def __init__(self, *pieces: ReplyPiece) -> None:
        self.pieces = pieces
        self.prompts: list[tuple[Prompt, bool]] = []
        self.ended = False

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append((prompt, stream))
        try:
            for piece in self.pieces:
                yield piece
        finally:
            self.ended = True

    async def close(self) -> None: ...


async def test_a_model_that_is_known_is_the_one_of_that_name():
    main, small = Speaker(), Speaker()
    models = Catalogue({"main": main, "small": small}, "main")
    await check_known(models, P, "small")
    assert await known_model(models, P, "small") is small


@pytest.mark.parametrize("name", ["gone", "x" * 5000])
async def test_one_that_is_not_known_is_not_the_default_one(name: str):
    main = Speaker(*text_reply("Hi."))
    models = Catalogue({"main": main}, "main")
    with pytest.raises(NotFound) as missing:
        await check_known(models, P, name)
    with pytest.raises(NotFound) as gone:
        await known_model(models, P, name)
    with pytest.raises(NotFound):
        await Asking(models, P, name)(ASKED)
    assert (missing.value.what, gone.value.what) == ("model", "model")
    assert missing.value.detail == f"There is no model {name[:200]}."
    assert gone.value.detail == f"The model {name[:200]} is not there any more."
    assert main.prompts == []


async def test_it_is_asked_in_a_stream_for_its_whole_reply():
    main = Speaker(*text_reply("Hi ", "there."))
    done = await Asking(Catalogue({"main": main}, "main"), P, "main")(ASKED, (), "auto")
    assert isinstance(done, ReplyDone) and done.text == "Hi there."
    assert main.prompts == [(Prompt(ASKED, choice="auto"), True)]
    assert main.ended


async def test_a_reply_that_breaks_off_is_none():
    main = Speaker(*text_reply("Hi.")[:-1])
    with pytest.raises(BackendFailed) as failed:
        await Asking(Catalogue({"main": main}, "main"), P, "main")(ASKED)
    assert failed.value.code == "upstream_truncated"
