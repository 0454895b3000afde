"""Models that somebody asks for by name: the one that was meant and no other, also if it is deleted in between.

A name that is not known goes to the default model's provider (`Models.choose`). What is said to a model that somebody
set up is meant for that one alone: when it is gone the question is refused here.
"""

from contextlib import aclosing

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed, NotFound
from dragoman.core.messages import Message
from dragoman.core.names import ProjectId
from dragoman.runtime.ports import Model, Models, Prompt, ReplyDone


async def check_known(models: Models, project: ProjectId, name: str) -> None:
    """Raises NotFound(what="model"), Unavailable."""
    if not await models.knows(project, name):
        raise NotFound(f"There is no model {name[:200]}.", what="model")


async def known_model(models: Models, project: ProjectId, name: str) -> Model:
    """The model of that name, after `check_known`. Raises NotFound(what="model") if it is gone since; BackendFailed if
    it cannot be asked; Unavailable."""
    model, wire_name = await models.choose(project, name)
    if wire_name:  # a model that is known has a name of its own for the wire
        raise NotFound(f"The model {name[:200]} is not there any more.", what="model")
    return model


class Asking:
    """Asks a known model something outside of any turn. Fits `runtime.tool_ports.Ask`. It streams: some servers behind
    connectors do nothing else (elastic spec 4.1)."""

    def __init__(self, models: Models, project: ProjectId, name: str) -> None:
        self._models = models
        self._project = project
        self._name = name

    async def __call__(
        self, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), choice: str = "", plain: str = ""
    ) -> ReplyDone:
        """Raises as `known_model` does, and what the model raises."""
        model = await known_model(self._models, self._project, self._name)
        async with aclosing(model.reply(Prompt(messages, tools, choice=choice, plain=plain), stream=True)) as pieces:
            async for piece in pieces:
                if isinstance(piece, ReplyDone):
                    return piece
        raise BackendFailed("The model ended without an answer.", code="upstream_truncated")
