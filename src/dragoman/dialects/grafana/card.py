"""Agent cards of A2A 0.3: how generic clients find out where and how to talk. The wire's own clients read none."""

from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import quote

from msgspec import Struct

from dragoman.core.about import AboutServer, ServerAbout
from dragoman.dialects.grafana.a2a_shapes import CLIENT_TOOLS, PROTOCOL_VERSION, REMOTE_TOOLS, TOKEN_STREAMING
from dragoman.wire.dialect import Reply, Request, Route, json_reply

PLACES = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""Today's, and that of A2A before 0.3."""
TEXT_MODES = ("text/plain",)


class Extension(Struct, frozen=True):
    uri: str
    description: str
    required: bool = False


class Capabilities(Struct, frozen=True, rename="camel"):
    streaming: bool
    push_notifications: bool
    state_transition_history: bool
    extensions: tuple[Extension, ...]


class Skill(Struct, frozen=True):
    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    examples: tuple[str, ...]


class SecurityScheme(Struct, frozen=True):
    type: Literal["http"]
    scheme: Literal["bearer"]
    description: str


class Card(Struct, frozen=True, rename="camel"):
    protocol_version: str
    name: str
    description: str
    url: str
    preferred_transport: Literal["JSONRPC"]
    version: str
    capabilities: Capabilities
    default_input_modes: tuple[str, ...]
    default_output_modes: tuple[str, ...]
    skills: tuple[Skill, ...]
    security_schemes: dict[str, SecurityScheme]
    security: tuple[dict[str, tuple[str, ...]], ...]


_CAPABILITIES = Capabilities(
    streaming=True,
    push_notifications=False,
    state_transition_history=False,
    extensions=(
        Extension(TOKEN_STREAMING, "Messages are shown as they grow, besides being sent whole."),
        Extension(REMOTE_TOOLS, "The client can be asked to run a tool while the stream stays open."),
        Extension(CLIENT_TOOLS, "The client may bring tools of its own, in the request's metadata."),
    ),
)
_BEARER = SecurityScheme("http", "bearer", "A credential of this server: a service account token, or one from a login.")


def about(request: Request) -> AboutServer:
    return AboutServer()


def routes(base: str) -> tuple[Route[Any], ...]:
    """A card for each agent, under one base."""
    return tuple(
        Route(
            "GET",
            f"{base}/a2a/agents/{{agentId}}{place}",
            about,
            answer=_card_at(base),
            open=True,
            summary="An agent's card (A2A)",
            gives=Card,
        )
        for place in PLACES
    )


def root_routes(base: str) -> tuple[Route[Any], ...]:
    """The server's card, where clients look that know its address only; it names the default agent under `base`."""
    return tuple(
        Route("GET", place, about, answer=_card_at(base), open=True, summary="The server's card (A2A)", gives=Card)
        for place in PLACES
    )


def _card_at(base: str) -> Callable[[ServerAbout, Request], Reply]:
    def card(server: ServerAbout, request: Request) -> Reply:
        asked = request.params.get("agentId")
        url = f"{request.origin}{base}/a2a/agents/{quote(asked or server.agents[0], safe='')}"
        shown = (asked,) if asked in server.agents else server.agents
        return json_reply(
            Card(
                protocol_version=PROTOCOL_VERSION,
                name="Dragoman",
                description="An assistant that answers questions in plain language, with the tools its server has.",
                url=url,
                preferred_transport="JSONRPC",
                version=server.version,
                capabilities=_CAPABILITIES,
                default_input_modes=TEXT_MODES,
                default_output_modes=TEXT_MODES,
                skills=tuple(map(_skill, shown)),
                security_schemes={"bearer": _BEARER},
                security=({"bearer": ()},),
            )
        )

    return card


def _skill(agent: str) -> Skill:
    return Skill(
        id=agent,
        name=agent,
        description=f"Ask the agent {agent} anything; it answers in text, and uses its tools where they help.",
        tags=("assistant", "question-answering"),
        examples=("How many data sources do I have?", "Why did the error rate rise this morning?"),
    )
