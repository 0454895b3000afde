"""The desk: takes an operation to the runtime or store call that answers it."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core import operations as ops
from dragoman.core.agents import AgentSpec
from dragoman.core.errors import BadRequest, Expired, NotAllowed, NotFound
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, Clock, Principal, RunId, Scope
from dragoman.core.operations import Mark, Operation
from dragoman.edge.following import RunExpired
from dragoman.edge.idempotency import NO_MARK
from dragoman.runtime.asking import check_known
from dragoman.runtime.conversations import Conversations, title_of
from dragoman.runtime.counters import Counters
from dragoman.runtime.loops import awaiting
from dragoman.runtime.ports import Models
from dragoman.runtime.readers import Reader, TapeReader
from dragoman.runtime.runs import Runs
from dragoman.runtime.tool_ports import CallContext, Tools

R = TypeVar("R")


class Facts(Struct, frozen=True):
    """What the desk knows of the process: for its status, and for what it may be asked."""

    version: str
    started_at: float
    default_model: str
    default_agent: str
    models: tuple[str, ...]
    workspace: Path
    steps_max: int
    message_chars_max: int
    """Code points of one message; config `[limits] message_chars`. A wire's own limit may be lower."""


Handler = Callable[[Principal, Any], Awaitable[object]]
"""Carries out one kind of operation for a principal."""
OpenHandler = Callable[[Any], Awaitable[object]]
"""…for anybody."""
Prepare = Callable[[Principal, ops.StartTurn], Awaitable[ops.StartTurn]]
"""What goes with a turn (what is `managed`, its `briefing`; its `staging`) is put into it."""
Retell = Callable[[Principal, ops.StartTurn], Awaitable[tuple[ops.StartTurn, str]]]
"""A `whole` turn, with only what is new in its messages, and the title that the conversation has. Raises NotFound,
NotAllowed."""


class Desk:
    """One per process. `runs` keep what they do; `ephemeral` ones leave nothing behind (design decision 8).

    `handlers` answer the operations of parts that the desk need not know; `open_handlers` those of open routes.
    """

    def __init__(
        self,
        *,
        runs: Runs,
        ephemeral: Runs,
        conversations: Conversations,
        tools: Tools,
        agents: Mapping[str, AgentSpec],
        counters: Counters,
        facts: Facts,
        clock: Clock,
        new_call: Callable[[], CallId],
        models: Models,
        stage: Prepare | None = None,
        prepare: Prepare | None = None,
        retell: Retell | None = None,
        handlers: Mapping[type[Operation[Any]], Handler] | None = None,
        open_handlers: Mapping[type[Operation[Any]], OpenHandler] | None = None,
    ) -> None:
        self._runs = runs
        self._ephemeral = ephemeral
        self._conversations = conversations
        self._tools = tools
        self._agents = agents
        self._counters = counters
        self._facts = facts
        self._clock = clock
        self._new_call = new_call
        self._models = models
        self._stage = stage
        self._prepare = prepare
        self._retell = retell
        self._handlers: dict[type[Operation[Any]], Handler] = {
            ops.FollowRun: self._follow,
            ops.CancelRun: self._cancel,
            ops.ReadRun: self._read_run,
            ops.ListTools: self._list_tools,
            ops.CallTool: self._call_tool,
            ops.ReadStatus: self._status,
            ops.FollowConversation: conversations.follow,
            ops.ReadConversation: conversations.read,
            ops.ListConversations: self._list_conversations,
            ops.BrowseConversations: conversations.browse,
            ops.UpdateConversation: conversations.update,
            ops.DeleteConversation: conversations.delete,
            **(handlers or {}),
        }
        self._open_handlers = open_handlers or {}

    @property
    def live_runs(self) -> int:
        return self._runs.live + self._ephemeral.live

    async def answer(self, principal: Principal, operation: Operation[R], mark: Mark = NO_MARK) -> R:
        """Carry the operation out for the principal; `mark` is that of a request that begins a turn.

        Raises errors of the tree.
        """
        # One table for all: each handler returns the result its operation names, which a type checker cannot follow.
        return cast("R", await self._answer(principal, operation, mark))

    async def answer_anybody(self, operation: Operation[R]) -> R:
        """Carry out an operation of an open route: nobody has said who asks. Raises errors of the tree."""
        handler = self._open_handlers.get(type(operation))
        if handler is None:
            raise RuntimeError(f"no desk answers {type(operation).__name__} for anybody")
        return cast("R", await handler(operation))

    async def _answer(self, principal: Principal, operation: Operation[Any], mark: Mark) -> object:
        if isinstance(operation, ops.StartTurn):
            return await self._start(principal, operation, mark)
        handler = self._handlers.get(type(operation))
        if handler is None:
            raise RuntimeError(f"no desk answers {type(operation).__name__}")
        return await handler(principal, operation)

    def reader(self, started: ops.Started, *, after: int | None = None, reader: Principal | None = None) -> Reader:
        """A reader of the run's entries beyond `after`; None = all but its TurnReceived. `reader`: of a private one,
        for as long as it is there for this principal."""
        return self._runs_of(started).reader(started, after=after, reader=reader)

    def tape_reader(self, principal: Principal, listening: ops.Listening, *, private: bool = False) -> TapeReader:
        """A reader of all that is said in a conversation; of a private one for as long as it is there for the
        principal."""
        return self._conversations.reader(principal, listening, private=private)

    async def outcome(self, started: ops.Started) -> ops.Outcome:
        return await self._runs_of(started).outcome(started)

    async def ended(self, principal: Principal, started: ops.Started) -> bool:
        return await self._runs_of(started).ended(principal.project, started.run)

    async def read_out(self, principal: Principal, following: ops.Following) -> bool:
        """The run has ended, and nothing of it stands behind the reader's cursor."""
        if not await self.ended(principal, following.started):
            return False
        return not await self.reader(following.started, after=following.after).batch()

    async def answer_kept(self, principal: Principal, started: ops.Started, key: str) -> bytes | None:
        return await self._runs_of(started).answer_kept(principal.project, key)

    async def keep_answer(self, principal: Principal, started: ops.Started, key: str, answer: bytes) -> None:
        await self._runs_of(started).keep_answer(principal.project, key, answer)

    def _runs_of(self, started: ops.Started) -> Runs:
        return self._ephemeral if started.ephemeral else self._runs

    async def _start(self, principal: Principal, turn: ops.StartTurn, mark: Mark) -> ops.Started:
        if turn.agent_or_default and turn.agent not in self._agents:
            turn = replace(turn, agent="")
        self._agent(turn.agent)
        if turn.workflow is not None:
            turn = await self._staged(principal, turn)
        self._check_messages(turn)
        _check_calls(principal, turn)
        await self._check_model(principal, turn)
        title = ""
        if turn.whole and self._retell is not None:
            turn = replace(turn, title=title_of(turn.title)) if turn.title else turn
            turn, title = await self._retell(principal, turn)
        if turn.fault is not None:
            raise turn.fault
        if (turn.managed or turn.briefing is not None) and self._prepare is not None:
            turn = await self._prepare(principal, turn)
        runs = self._ephemeral if turn.ephemeral else self._runs
        started = await self._begin(runs, principal, turn, mark)
        if not turn.whole:
            return started
        if turn.title and turn.title != title:
            await self._conversations.update(
                principal, ops.UpdateConversation(turn.conversation, title=turn.title, private=turn.private)
            )
        return replace(started, title=turn.title or title)

    async def _staged(self, principal: Principal, turn: ops.StartTurn) -> ops.StartTurn:
        """With the workflow that answers it. Raises NotFound."""
        if self._stage is None:
            raise RuntimeError("nobody here knows of workflows")
        return await self._stage(principal, turn)

    async def _check_model(self, principal: Principal, turn: ops.StartTurn) -> None:
        """Raises NotFound if the turn asks for a model that must be known, and is not."""
        if turn.known_model and turn.model:
            await check_known(self._models, principal.project, turn.model)

    async def _begin(self, runs: Runs, principal: Principal, turn: ops.StartTurn, mark: Mark) -> ops.Started:
        started = await runs.start(principal, turn, mark)
        if not started.replayed:
            return started
        if mark.key:
            self._counters.repeats_by_key += 1
            return started
        if (await runs.timeline(principal.project, started.run)).run.status == "failed":
            # The failure is what the library was told, and why it tries again: a new try, not a repeat.
            return await runs.start(principal, turn, Mark(mark.fingerprint))
        self._counters.repeats_in_window += 1
        return started

    async def _follow(self, principal: Principal, operation: ops.FollowRun) -> ops.Following:
        """Raises RunExpired when what is asked for is kept no longer."""
        await self._check_private(principal, operation, write=False)
        try:
            return await self._runs.follow(principal.project, operation)
        except Expired as error:
            view = (await self._runs.timeline(principal.project, operation.run)).run
            raise RunExpired(error.detail, run=view) from None
        except NotFound:
            await self._ephemeral.check_private(principal, operation.run, write=False)
            following = await self._ephemeral.follow(principal.project, operation)
            return ops.Following(replace(following.started, ephemeral=True), following.after)

    async def _cancel(self, principal: Principal, operation: ops.CancelRun) -> ops.RunView:
        await self._check_private(principal, operation, write=True)
        return await self._of_either(
            principal, operation.run, lambda runs: runs.cancel(principal, operation), write=True
        )

    async def _read_run(self, principal: Principal, operation: ops.ReadRun) -> ops.Timeline:
        await self._check_private(principal, operation, write=False)
        return await self._of_either(
            principal, operation.run, lambda runs: runs.timeline(principal.project, operation.run), write=False
        )

    async def _check_private(
        self, principal: Principal, operation: ops.FollowRun | ops.CancelRun | ops.ReadRun, *, write: bool
    ) -> None:
        """Raises NotFound if the operation is private and the run's conversation is not there for the principal."""
        if operation.private:
            run = operation.run
            await self._of_either(
                principal, run, lambda runs: runs.check_private(principal, run, write=write), write=write
            )

    async def _of_either(
        self, principal: Principal, run: RunId, ask: Callable[[Runs], Awaitable[R]], *, write: bool
    ) -> R:
        """A run's id does not tell who drives it: those that are kept are asked first, then those that are not. Those
        are there for who began them alone, on every wire: what leaves nothing behind was said to nobody else."""
        try:
            return await ask(self._runs)
        except NotFound:
            await self._ephemeral.check_private(principal, run, write=write)
            return await ask(self._ephemeral)

    def _agent(self, name: str) -> AgentSpec:
        wanted = name or self._facts.default_agent
        agent = self._agents.get(wanted)
        if agent is None:
            raise NotFound(f"There is no agent {wanted}.", what="agent")
        return agent

    def _check_messages(self, turn: ops.StartTurn) -> None:
        chars_max = self._facts.message_chars_max
        for message in turn.messages:
            if message.role == "assistant":
                continue  # callers that keep the history send answers back, however long these were
            if (chars := len(message.full_text)) > chars_max:
                raise BadRequest(f"A message may have at most {chars_max} characters; this one has {chars}.")

    async def _list_conversations(self, principal: Principal, operation: ops.ListConversations) -> ops.ConversationPage:
        return await self._conversations.page(principal.project, operation)

    async def _list_tools(self, principal: Principal, operation: ops.ListTools) -> ops.ToolList:
        return ops.ToolList(self._tools.specs(self._agent(operation.agent).tools))

    async def _call_tool(self, principal: Principal, operation: ops.CallTool) -> ops.ToolOutput:
        if self._tools.spec(operation.name) is None:
            raise NotFound(f"There is no tool {operation.name}.", what="tool")
        call = ToolCall(self._new_call(), operation.name, operation.arguments)
        wide = principal.may(Scope.RESOURCES_WRITE)
        context = CallContext(principal.project, call.id, principal.owner, principal.name, wide)
        outcome = await self._tools.call(call, context)
        self._counters.tool_calls += 1
        return ops.ToolOutput(operation.name, outcome.content, outcome.is_error, outcome.code)

    async def _status(self, principal: Principal, operation: ops.ReadStatus) -> ops.Status:
        facts = self._facts
        agent = self._agent("")
        return ops.Status(
            version=facts.version,
            uptime_s=self._clock.now() - facts.started_at,
            model=facts.default_model,
            models=facts.models,
            agents=tuple(self._agents),
            tools=tuple(tool.name for tool in self._tools.specs(agent.tools)),
            workspace=str(facts.workspace),
            conversations=await self._conversations.count(principal.project) if operation.counted else 0,
            live_runs=self.live_runs,
            steps_max=facts.steps_max,
            counters=self._counters.all(),
        )


def _check_calls(principal: Principal, turn: ops.StartTurn) -> None:
    """Raises NotAllowed if the messages end with a call that the server is to make, and the principal may call none."""
    if turn.loop is None or principal.may(Scope.TOOLS_USE):
        return
    theirs = {turn.loop.opening, *(tool.name for tool in turn.client_tools)}
    if any(call.name not in theirs for call in awaiting(turn.messages)):
        raise NotAllowed(f"Only a credential with the scope {Scope.TOOLS_USE} may have a tool called by name.")
