"""Typed names: ids, who asks (Principal), what they may (Scope), and what time it is (Clock)."""

from enum import StrEnum
from typing import NewType, Protocol

from msgspec import Struct

ProjectId = NewType("ProjectId", str)
"""The tenant. A slug such as `default`, or a UUID where a wire demands one."""

ConversationId = NewType("ConversationId", str)
"""Names a conversation inside its project: 1 to 128 characters, compared exactly. What a
dialect calls a session or a chat *is* a conversation, and its key the id, so it can go on in another dialect."""

Tape = NewType("Tape", int)
"""Number of one conversation's tape in its store. Never reused: a conversation deleted and made anew has another."""

RunId = NewType("RunId", str)
CallId = NewType("CallId", str)

CONVERSATION_ID_CHARS_MAX = 128


class Scope(StrEnum):
    """What a credential may do. `ADMIN` contains all others."""

    ADMIN = "admin"
    CHAT_RUN = "chat:run"
    CHAT_READ = "chat:read"
    CONVERSATIONS_READ = "conversations:read"
    CONVERSATIONS_WRITE = "conversations:write"
    RUNS_CANCEL = "runs:cancel"
    TOOLS_USE = "tools:use"
    TOOLS_APPROVE = "tools:approve"
    TUNNEL_CONNECT = "tunnel:connect"
    RESOURCES_WRITE = "resources:write"
    """Change what belongs to the whole project: its rules, skills, connectors."""
    PLUGINS_APP_ACCESS = "plugins.app:access"
    GRAFANA_CHATS_ACCESS = "grafana-assistant-app.chats:access"
    METRICS_READ = "metrics:read"
    CREDENTIALS_READ = "credentials:read"
    CREDENTIALS_WRITE = "credentials:write"


class Principal(Struct, frozen=True):
    """Who asks: a credential that was proven, and the project it belongs to."""

    project: ProjectId
    credential_id: str
    name: str
    scopes: frozenset[Scope]
    rpm: int | None = None
    """Requests per minute of this credential; None = the configured default, 0 = unlimited."""
    subject: str = ""
    """Who that is, where one person or service has several credentials, or one that changes; "" = the credential."""

    @property
    def owner(self) -> str:
        """Whom conversations and whatever else belong to that this principal makes."""
        return self.subject or self.credential_id

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Clock(Protocol):
    """The time. Only the composition root holds a real one; tests hold one they can set."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...
