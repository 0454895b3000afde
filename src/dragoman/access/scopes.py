"""Scope names: reading them from text, what a new credential gets, and what one credential may hand to another."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from dragoman.core.errors import BadRequest, NotAllowed
from dragoman.core.names import Scope

DEFAULT_SCOPES: tuple[Scope, ...] = (
    Scope.CHAT_RUN,
    Scope.CHAT_READ,
    Scope.CONVERSATIONS_READ,
    Scope.CONVERSATIONS_WRITE,
    Scope.TOOLS_USE,
    Scope.TOOLS_APPROVE,
    Scope.RUNS_CANCEL,
    Scope.TUNNEL_CONNECT,
    Scope.PLUGINS_APP_ACCESS,
    Scope.GRAFANA_CHATS_ACCESS,
)
"""What a client of any dialect needs, and nothing that reaches other people's credentials or metrics."""


def parse_scope(text: str) -> Scope:
    """The scope of that name. Raises BadRequest naming the nearest one, or all of them if none is near."""
    try:
        return Scope(text)
    except ValueError:
        near = get_close_matches(text, list(Scope), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(Scope)}"
        raise BadRequest(f'There is no scope "{text}"; {hint}') from None


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Scopes in the order given, repeats left out; the default ones if `texts` is empty. Raises BadRequest."""
    return tuple(dict.fromkeys(parse_scope(text) for text in texts)) or DEFAULT_SCOPES


def check_child(parent: Collection[Scope], child: Collection[Scope]) -> None:
    """A credential may hand on only what it holds itself. Raises NotAllowed naming what it lacks."""
    if Scope.ADMIN in parent:
        return
    lacking = [scope for scope in child if scope not in parent]
    if lacking:
        raise NotAllowed(f"A credential cannot grant what it does not hold itself: {', '.join(lacking)}.")


def held(parent: Collection[Scope], wanted: Iterable[Scope]) -> tuple[Scope, ...]:
    """Of what is wanted, what the parent holds and may hand on."""
    return tuple(dict.fromkeys(scope for scope in wanted if scope in parent or Scope.ADMIN in parent))
