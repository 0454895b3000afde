"""The wire's own structs for managed resources, named and spelled as there.

A PUT says only what it changes: what is not sent stays. Null is sent by some clients for what is empty.
"""

from typing import Any, Literal, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType

from dragoman.dialects.grafana.shapes import Pagination

Scope = Literal["user", "tenant"]
T = TypeVar("T")

Said = T | UnsetType | None

# -- requests --------------------------------------------------------------------------------------------------------


class RuleRequest(Struct, frozen=True, kw_only=True):
    scope: Said[Scope] = UNSET
    name: Said[str] = UNSET
    description: Said[str] = UNSET
    ruleContent: Said[str] = UNSET
    enabled: Said[bool] = UNSET
    priority: Said[int] = UNSET
    applications: Said[tuple[str, ...]] = UNSET


class AllowedTool(Struct, frozen=True):
    integrationId: str
    toolName: str


class SkillRequest(Struct, frozen=True, kw_only=True):
    scope: Said[Scope] = UNSET
    name: Said[str] = UNSET
    body: Said[str] = UNSET
    includeInKnowledgebase: Said[bool] = UNSET
    contextItems: Said[list[Any]] = UNSET
    allowedTools: Said[tuple[AllowedTool, ...]] = UNSET


class SkillCommand(Struct, frozen=True):
    """Null or "" takes the command away."""

    commandName: str | None


class ContextItems(Struct, frozen=True):
    """What a skill or quickstart is asked with, but for these left as text."""

    contextItems: Raw


class QuickstartRequest(Struct, frozen=True, kw_only=True):
    scope: Said[Scope] = UNSET
    title: Said[str] = UNSET
    prompt: Said[str] = UNSET
    contextItems: Said[list[Any]] = UNSET
    enabled: Said[bool] = UNSET


class KeyedHeader(Struct, frozen=True):
    """Without a value: the one it has."""

    key: str
    value: str = ""


class NamedHeader(Struct, frozen=True):
    name: str
    value: str = ""


class IntegrationRequest(Struct, frozen=True, kw_only=True):
    """Two clients spell headers in two ways (Q22); `customHeaders` wins over `custom_headers`."""

    type: Said[str] = UNSET
    scope: Said[Scope] = UNSET
    name: Said[str] = UNSET
    description: Said[str] = UNSET
    enabled: Said[bool] = UNSET
    applications: Said[tuple[str, ...]] = UNSET
    configuration: Said[dict[str, Any]] = UNSET
    customHeaders: Said[tuple[KeyedHeader, ...]] = UNSET
    custom_headers: Said[tuple[NamedHeader, ...]] = UNSET


class TermsRequest(Struct, frozen=True):
    acceptedTermsAndConditions: bool


class FeedbackRequest(Struct, frozen=True):
    targetKind: str
    targetId: str
    rating: int
    comment: str | None = None
    metadata: dict[str, Any] | None = None


# -- answers: what is empty is left out ------------------------------------------------------------------------------


class Rule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    created: str
    modified: str
    createdBy: str
    updatedBy: str
    userId: str = ""
    name: str
    description: str = ""
    ruleContent: str
    enabled: bool
    priority: int
    scope: Scope
    applications: tuple[str, ...] = ()


class Skill(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    name: str
    body: str
    commandName: str | UnsetType = UNSET
    commandEnabledAt: str | UnsetType = UNSET
    commandEnabledBy: str | UnsetType = UNSET
    created: str
    createdBy: str
    modified: str
    updatedBy: str
    userId: str = ""
    version: int
    includeInKnowledgebase: bool
    contextItems: Raw | UnsetType = UNSET
    allowedTools: tuple[AllowedTool, ...] = ()
    scope: Scope


class Quickstart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    created: str
    modified: str
    createdBy: str
    updatedBy: str
    userId: str = ""
    title: str = ""
    prompt: str
    contextItems: Raw | UnsetType = UNSET
    enabled: bool
    scope: Scope


class Integration(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    created: str
    modified: str
    createdBy: str
    updatedBy: str
    userId: str = ""
    name: str
    description: str = ""
    type: str
    enabled: bool
    scope: Scope
    applications: tuple[str, ...] = ()
    configuration: Raw
    customHeaders: tuple[KeyedHeader, ...] = ()
    custom_headers: tuple[NamedHeader, ...] = ()


class IntegrationWritten(Integration, frozen=True, kw_only=True, omit_defaults=True):
    """One client reads the fields beside this one, another those inside it (Q22)."""

    integration: Integration


class Rules(Struct, frozen=True):
    rules: tuple[Rule, ...]
    pagination: Pagination
    total: int


class Skills(Struct, frozen=True):
    skills: tuple[Skill, ...]
    pagination: Pagination
    total: int


class Quickstarts(Struct, frozen=True):
    quickstarts: tuple[Quickstart, ...]
    pagination: Pagination
    total: int


class Integrations(Struct, frozen=True):
    integrations: tuple[Integration, ...]
    pagination: Pagination
    total: int


class ResourceDeleted(Struct, frozen=True):
    id: str


class ValidationResult(Struct, frozen=True):
    status: str
    message: str


class Validation(Struct, frozen=True):
    result: ValidationResult


class Terms(Struct, frozen=True):
    """`termsType` msa: clients look at the boolean only."""

    acceptedTermsAndConditions: bool
    acceptedVersion: int
    version: int
    termsType: str = "msa"


class PromptLimit(Struct, frozen=True):
    """`limit` 0 = there is none."""

    total: int
    limit: int
    month: str


class TokenLimits(Struct, frozen=True):
    """In millions of LLM tokens; 0 = there is no limit."""

    stackTotalMtok: int
    perUserDefaultMtok: int
    serviceAccountPoolMtok: int
    teams: tuple[str, ...]


class FeedbackGiven(Struct, frozen=True):
    id: str
