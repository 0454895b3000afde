"""What the knowledge and functions routes take and give, spelled as on the wire (elastic spec 3.3, 3.4)."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from dragoman.core.knowledge import EntryRole

Flag = bool | int | float | str | None
"""Read by `errors.truth`."""
Role = Literal["assistant_summarization", "user_entry", "elastic"]
ROLES: Mapping[EntryRole, Role] = {
    EntryRole.ASSISTANT: "assistant_summarization",
    EntryRole.PROGRAM: "elastic",
    EntryRole.USER: "user_entry",
}
ROLES_MEANT = {role: meant for meant, role in ROLES.items()}
State = Literal[
    "NOT_INSTALLED", "MODEL_PENDING_DEPLOYMENT", "DEPLOYING_MODEL", "MODEL_PENDING_ALLOCATION", "READY", "ERROR"
]

# -- entries -----------------------------------------------------------------------------------------------------------


class GivenEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """To be saved. `confidence` and `is_correction` are taken of older callers and mean nothing (K4)."""

    id: str
    text: str
    title: str = ""
    public: Flag = True
    labels: dict[str, str] = field(default_factory=dict[str, str])
    role: Role = "user_entry"
    confidence: str | UnsetType = UNSET
    is_correction: Flag | UnsetType = UNSET


class GivenEntries(Struct, frozen=True, forbid_unknown_fields=True):
    entries: tuple[GivenEntry, ...]


class Author(Struct, frozen=True):
    name: str


class Entry(Struct, frozen=True, omit_defaults=True):
    timestamp: str = field(name="@timestamp")
    id: str
    text: str
    type: Literal["contextual"]
    public: bool
    labels: dict[str, str]
    role: Role
    title: str = ""
    user: Author | UnsetType = UNSET


class Entries(Struct, frozen=True):
    entries: tuple[Entry, ...]


# -- instructions ------------------------------------------------------------------------------------------------------


class UserInstruction(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    text: str
    public: Flag


class UserInstructions(Struct, frozen=True):
    userInstructions: tuple[UserInstruction, ...]


# -- the knowledge base itself -----------------------------------------------------------------------------------------


class KnowledgeBaseStatus(Struct, frozen=True):
    """`kbState` is the state under the name that older callers read."""

    enabled: bool
    inferenceModelState: State
    kbState: State
    currentInferenceId: str
    concreteWriteIndex: str
    isReIndexing: bool
    productDocStatus: str


class SetUp(Struct, frozen=True):
    reindex: bool
    currentInferenceId: str
    nextInferenceId: str


class InferenceEndpoint(Struct, frozen=True):
    inference_id: str
    task_type: str
    service: str
    service_settings: dict[str, Any]


class InferenceEndpoints(Struct, frozen=True):
    endpoints: tuple[InferenceEndpoint, ...]


class Reindexed(Struct, frozen=True):
    success: bool


class Done(Struct, frozen=True):
    """`{}`: it was done."""


# -- functions ---------------------------------------------------------------------------------------------------------


class Definition(Struct, frozen=True, omit_defaults=True):
    name: str
    description: str
    parameters: dict[str, Any]
    isInternal: bool = False
    """No model is offered it."""


class Functions(Struct, frozen=True):
    functionDefinitions: tuple[Definition, ...]
    systemMessage: str


class RecallQuery(Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    boost: float = 1.0


class Recall(Struct, frozen=True, forbid_unknown_fields=True):
    """`categories`: of entries with a label `category`, only those that have one of these."""

    queries: tuple[RecallQuery, ...]
    categories: tuple[str, ...] = ()


class Recalled(Struct, frozen=True, omit_defaults=True):
    id: str
    text: str
    esScore: float
    title: str = ""
    labels: dict[str, str] = {}


class RecalledEntries(Struct, frozen=True):
    entries: tuple[Recalled, ...]


class Summary(Struct, frozen=True, forbid_unknown_fields=True):
    """To be remembered. `confidence` and `is_correction` as in `GivenEntry`."""

    title: str
    text: str
    public: Flag
    labels: dict[str, str] = field(default_factory=dict[str, str])
    confidence: str | UnsetType = UNSET
    is_correction: Flag | UnsetType = UNSET
