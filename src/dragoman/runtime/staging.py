"""Which workflow answers a turn, and how: what a caller wants (`WorkflowWanted`) -> what the tape says (`Staging`).

    a version is named ─► that one                                       else not found
    the conversation exists ─► the version it began with, whatever was published since (rowboat spec 3.4)
    else ─► the published one                                            else not found

A test profile's context takes the place of the turn's system message, its mocks that of the tools (rowboat spec 6.3).
"""

from typing import Protocol

from msgspec.structs import replace

from dragoman.core.errors import NotFound
from dragoman.core.events import ConversationCreated
from dragoman.core.names import Principal, ProjectId
from dragoman.core.operations import StartTurn
from dragoman.core.simulations import TestProfile
from dragoman.core.workflows import Staging, Workflow
from dragoman.runtime.ports import Store

NO_WORKFLOW = "Workflow not found"
NOT_PUBLISHED = "No workflow id provided in request or project has no published workflow"
NO_PROFILE = "Test profile not found"
"""Sentences that the callers of these APIs know (rowboat spec 1.2)."""


class KeptWorkflows(Protocol):
    """The workflows of projects."""

    async def workflow(self, project: ProjectId, name: str, /) -> Workflow | None: ...

    async def live(self, project: ProjectId) -> str:
        """The id of the published version, "" if none is."""
        ...


class KeptProfiles(Protocol):
    async def get(self, project: ProjectId, profile_id: str, /) -> TestProfile | None: ...


class Stagings:
    def __init__(self, workflows: KeptWorkflows, profiles: KeptProfiles, store: Store) -> None:
        self._workflows = workflows
        self._profiles = profiles
        self._store = store

    async def prepare(self, principal: Principal, turn: StartTurn) -> StartTurn:
        """The turn with its staging. Raises NotFound, `what` = workflow, published_workflow or test_profile."""
        wanted, project = turn.workflow, principal.project
        if wanted is None:
            return turn
        version = wanted.version
        if version:
            if await self._workflows.workflow(project, version) is None:
                raise NotFound(NO_WORKFLOW, what="workflow")
        else:
            version = await self._begun_with(project, turn) or await self._workflows.live(project)
            if not version:
                raise NotFound(NOT_PUBLISHED, what="published_workflow")
        profile = None
        if wanted.test_profile:
            profile = await self._profiles.get(project, wanted.test_profile)
            if profile is None:
                raise NotFound(NO_PROFILE, what="test_profile")
        if profile is None:
            return replace(turn, staging=Staging(version, wanted.last, wanted.mocks))
        staging = Staging(version, wanted.last, wanted.mocks, profile.mock_tools, profile.mock_prompt)
        if not profile.context:
            return replace(turn, staging=staging)
        first = turn.messages[0] if turn.messages else None
        messages = turn.messages[1:] if first is not None and first.role == "system" else turn.messages
        return replace(turn, staging=staging, instructions=(profile.context,), messages=messages)

    async def _begun_with(self, project: ProjectId, turn: StartTurn) -> str:
        """The workflow of the conversation, if it is there and has one: the first entry of its tape says so."""
        info = None if turn.ephemeral else await self._store.get(project, turn.conversation)
        if info is None:
            return ""
        first = await self._store.read(info.tape, after=0, limit=1)
        created = first[0].event if first else None
        return created.workflow if isinstance(created, ConversationCreated) else ""
