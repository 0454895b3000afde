"""The configured models, and those that people set up as connectors. Fits `runtime.ports.Models`.

    name ─► configured? ─► the catalogue's
         └► a connector? ─► read its record ─► the line made of that very record, or a new one
                                               (the old one is retired)

A connector's id is a model's name at once, on every server: its record is read for each turn, and what was built of an
older one is never used for a new turn. A turn that holds the older one finishes with it.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

from dragoman.core.errors import BackendFailed, BadRequest, Unavailable
from dragoman.core.names import Clock, ProjectId
from dragoman.models.catalogue import Catalogue
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.models.retrying import Retrying
from dragoman.runtime.connector_checks import INFERENCE, OPENAI_URL, answers, headers_of, meant_as_model
from dragoman.runtime.connectors import Connectors, Kept, Opened
from dragoman.runtime.counters import Counters
from dragoman.runtime.ports import Model, Prompt, ReplyPiece
from dragoman.runtime.reach import Reach, never

LINES_MAX = 100
"""Models of connectors that are kept ready; of those beyond it, the one not asked for longest is put away."""
ATTEMPTS = 2
"""Elastic spec 1.7: one retry."""

AZURE = "Azure OpenAI"


class ConnectedModels:
    """Owns what it builds and the catalogue: `close` closes both. `wrap` is put around each model that is built."""

    def __init__(
        self,
        catalogue: Catalogue,
        connectors: Connectors,
        reach: Reach,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
        counters: Counters | None = None,
        wrap: Callable[[Model], Model] = lambda model: model,
        lines_max: int = LINES_MAX,
    ) -> None:
        self._catalogue = catalogue
        self._connectors = connectors
        self._reach = reach
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._counters = counters
        self._wrap = wrap
        self._lines_max = lines_max
        self._lines: OrderedDict[tuple[ProjectId, str], _Line] = OrderedDict()
        self._closed = False

    async def choose(self, project: ProjectId, name: str) -> tuple[Model, str]:
        """See the port. A connector goes by its own default model, hence "" as the name for the wire."""
        if name and not await self._catalogue.knows(project, name):
            kept = await self._connectors.kept(project, name)
            if kept is not None and meant_as_model(kept.body.type):
                return await self._line(kept), ""
            await self._retire((project, name))
        return await self._catalogue.choose(project, name)

    async def knows(self, project: ProjectId, name: str) -> bool:
        """Also a connector of a model that cannot be asked here: `choose` says why."""
        if await self._catalogue.knows(project, name):
            return True
        kept = await self._connectors.kept(project, name)
        return kept is not None and meant_as_model(kept.body.type)

    async def close(self) -> None:
        self._closed = True
        lines, self._lines = self._lines, OrderedDict()
        for line in lines.values():
            await line.close()
        await self._catalogue.close()

    # -- lines -----------------------------------------------------------------------------------------------------

    async def _line(self, kept: Kept) -> Model:
        """The line of that very record. Raises BackendFailed."""
        place = (kept.project, kept.id)
        line = self._lines.get(place)
        if line is not None and line.kept == kept:
            self._lines.move_to_end(place)
            return line
        made = self._lines[place] = self._made(kept)
        self._lines.move_to_end(place)
        old = [] if line is None else [line]
        old += [self._lines.popitem(last=False)[1] for _ in range(len(self._lines) - self._lines_max)]
        for each in old:
            await each.retire()
        return made

    async def _retire(self, place: tuple[ProjectId, str]) -> None:
        line = self._lines.pop(place, None)
        if line is not None:
            await line.retire()

    def _made(self, kept: Kept) -> "_Line":
        if self._closed:
            raise BackendFailed("The server is stopping. Ask again in a moment.", code="upstream_unreachable")
        body = kept.body
        if not answers(body.type, body.config):
            why = kept.kind.missing or "only taskType chat_completion of the provider openai is part of this version"
            raise _cannot_be_asked(kept, f"{why}.")
        try:
            options = _options(self._connectors.opened(kept))
            self._reach.check_url(options.url, field=f"the url of the connector {kept.id}")
            OpenAIChat(options, clock=self._clock)  # says now what is wrong with it; it opens nothing
        except (BadRequest, Unavailable) as error:
            # Secrets that cannot be opened stay so: no store is away, so the run is not to be tried again later.
            raise _cannot_be_asked(kept, error.detail) from None
        return _Line(kept, lambda: self._asked(options))

    def _asked(self, options: OpenAIChatOptions) -> Model:
        bare = OpenAIChat(options, clock=self._clock, counters=self._counters)
        retried = Retrying(bare, clock=self._clock, sleep=self._sleep, random=self._random, attempts=ATTEMPTS)
        return self._wrap(retried)


class _Line:
    """A connector's model as its record was. Fits `runtime.ports.Model`.

    Once it is retired, turns that still hold it can go on asking; between their replies it keeps no connection.
    """

    def __init__(self, kept: Kept, make: Callable[[], Model]) -> None:
        self.kept = kept
        self._make = make
        self._model: Model | None = None
        self._busy = 0
        self._retired = False
        self._closed = False

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port."""
        if self._closed:
            raise BackendFailed("The server is stopping. Ask again in a moment.", code="upstream_unreachable")
        if self._model is None:
            self._model = self._make()
        self._busy += 1
        try:
            asked = self._model.reply(prompt, stream=stream)
            async with aclosing(asked) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._busy -= 1
            if self._retired:
                await self._put_away()

    async def retire(self) -> None:
        self._retired = True
        await self._put_away()

    async def close(self) -> None:
        """Whatever is being said on it ends."""
        self._closed = True
        model, self._model = self._model, None
        if model is not None:
            await model.close()

    async def _put_away(self) -> None:
        if not self._busy:
            model, self._model = self._model, None
            if model is not None:
                await model.close()


def _cannot_be_asked(kept: Kept, why: str) -> BackendFailed:
    """`why` is a sentence."""
    return BackendFailed(f"The connector {kept.id} cannot be asked: {why}", code="upstream_refused")


def _options(connector: Opened) -> OpenAIChatOptions:
    """How to ask a connector that `answers`. Its address is taken as it is (elastic spec 3.6)."""
    config, secrets = connector.config, connector.secrets
    if connector.type == INFERENCE:
        provider = cast("dict[str, Any]", config.get("providerConfig") or {})
        key = cast("dict[str, Any]", secrets.get("providerSecrets") or {}).get("api_key")
        url, name = provider.get("url") or OPENAI_URL, provider.get("model_id")
        headers = _account(provider.get("organization_id"), None)
    else:
        key = secrets.get("apiKey")
        url, name = config["apiUrl"], config.get("defaultModel")
        headers = headers_of(config.get("headers")) + _account(config.get("organizationId"), config.get("projectId"))
    key = str(key or "").strip()
    if config.get("apiProvider") == AZURE and key:
        headers, key = (*headers, ("api-key", key)), ""
    temperature = config.get("temperature")
    return OpenAIChatOptions(
        url=str(url),
        verbatim_url=True,
        marker_suffices=True,  # as Kibana takes it: servers behind connectors are of every kind
        name=str(name or ""),
        key=key,
        headers=headers,
        params={} if temperature is None else {"temperature": temperature},
        refuses=never,
    )


def _account(organization: Any, project: Any) -> tuple[tuple[str, str], ...]:
    """Headers of OpenAI's that say whose account it is."""
    named = (("OpenAI-Organization", organization), ("OpenAI-Project", project))
    return tuple((name, str(value)) for name, value in named if value)
