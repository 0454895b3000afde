"""Putting a workflow on: which one answers a run, and what its driver works with whenever the word changes hands.

    the turn is staged ────────────────► the version that its staging names
    it is one reply and no more ───────► none: its caller plays the agent
    its agent is a configured workflow ► that one
    else ──────────────────────────────► none: the run is one agent's

It holds from the first entry of the run to its end, whoever carries the run on.
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ProjectId
from dragoman.core.workflows import TRANSFER, Staging, Workflow
from dragoman.runtime import workflow_view
from dragoman.runtime.attempt import Attempt
from dragoman.runtime.machine import distinct_calls
from dragoman.runtime.resuming import take_up
from dragoman.runtime.tool_ports import Tools
from dragoman.runtime.waiting import policy_of
from dragoman.runtime.workflow import HandOver, transfer_text, transfer_tool

GONE = "The workflow that answers this conversation is not there any more."
CHANGED = "The workflow was changed while it answered. Ask again."


class WorkflowSource(Protocol):
    """Where workflows are found."""

    async def workflow(self, project: ProjectId, name: str, /) -> Workflow | None:
        """The version of that id, or the configured workflow of that name. Raises Unavailable."""
        ...


class Casting:
    def __init__(
        self,
        workflows: WorkflowSource | None,
        tools: Tools,
        agents: Mapping[str, AgentSpec],
        configured: Mapping[str, Workflow],
        *,
        default_agent: str,
    ) -> None:
        self._workflows = workflows
        self._tools = tools
        self._agents = agents
        self._configured = configured
        self._default_agent = default_agent

    async def look_up(self, attempt: Attempt) -> None:
        """Find the workflow of the run, if one answers it; `open` puts it on. Raises Unavailable."""
        received = attempt.received
        attempt.agent = self._agents.get(received.agent) or self._agents[self._default_agent]
        if received.staging is None:
            if not attempt.state.loop.once:
                attempt.workflow = self._configured.get(received.agent or self._default_agent)
            return
        source, name = self._workflows, received.staging.workflow
        if source is None:
            attempt.fault = GONE
            return
        attempt.workflow = await attempt.insist(lambda: source.workflow(attempt.claim.project, name))
        attempt.fault = "" if attempt.workflow is not None else GONE

    def open(self, attempt: Attempt) -> None:
        """Give the word to who has it, once the earlier turns are known."""
        workflow, messages = attempt.workflow, attempt.received.messages
        brings = bool(messages) and messages[0].role == "tool"
        if workflow is not None:
            staging = attempt.received.staging or Staging(workflow.name)
            attempt.cast, attempt.at_hand = take_up(workflow, staging, attempt.past, messages)
            earlier = attempt.at_hand.past
            attempt.shown = workflow_view.past_texts(earlier, brings=brings and len(earlier) == len(attempt.past))
            if not attempt.cast.knows(attempt.state.handings):
                attempt.fault = CHANGED
                return
        else:
            attempt.shown = workflow_view.as_one_agent(attempt.past, brings=brings)
        self.equip(attempt)

    def equip(self, attempt: Attempt) -> None:
        """The agent that has the word, with its tools and policy. `hand_over` changes who that is."""
        theirs, cast = attempt.received.client_tools, attempt.cast
        if cast is not None:
            theirs = tuple(tool for tool in theirs if tool.name != TRANSFER)  # by that one the workflow itself goes on
        held = self._held(attempt)
        if theirs:
            # The caller's own tool comes before ours of that name: a call can only mean one of them.
            names = {tool.name for tool in theirs}
            held = (*(tool for tool in held if tool.name not in names), *theirs)
        attempt.tools = held
        policy = policy_of(attempt.agent, held)
        if cast is not None and policy.ask:  # what is only invented need not be approved
            policy = replace(policy, ask=frozenset(name for name in policy.ask if not cast.mocks(name)))
        attempt.policy = policy

    def _held(self, attempt: Attempt) -> tuple[ToolSpec, ...]:
        """The tools, but for the caller's, that this turn's model is offered."""
        loop, cast = attempt.state.loop, attempt.cast
        if cast is None:
            return self._servers(attempt)
        stage = cast.stage(attempt.state.handings)
        attempt.agent = cast.member(stage.speaker).agent
        if not loop.tools:
            return ()
        own = cast.own_tools(stage.speaker)
        taken = {TRANSFER, *(tool.name for tool in own)}
        servers = [tool for tool in self._servers(attempt) if tool.name not in taken]
        targets = cast.targets(stage)
        offered = (*own, *servers, *((transfer_tool(targets),) if targets else ()))
        return offered if loop.own_tools else tuple(tool for tool in offered if tool.name in loop.only)

    def _servers(self, attempt: Attempt) -> tuple[ToolSpec, ...]:
        loop = attempt.state.loop
        if not loop.tools or not (loop.own_tools or loop.only):
            return ()
        held = self._tools.specs(attempt.agent.tools, on_screen=bool(attempt.received.screen.items))
        return held if loop.own_tools else tuple(tool for tool in held if tool.name in loop.only)

    def hand_over(self, attempt: Attempt, step: HandOver) -> None:
        """Note that the word goes on, with the pair of messages that says so."""
        state = attempt.state
        before = attempt.agent.name
        call = step.call
        if call is None:
            wanted = CallId(f"call_{attempt.claim.run}_{len(state.handings) + 1}")
            call = ToolCall(wanted, TRANSFER, transfer_text(step.to))
            (call,) = distinct_calls(state, (call,), attempt.past)
            attempt.note(ev.CallAdded(call))
        attempt.note(ev.ToolReturned(call.id, transfer_text(step.to)))
        for result in step.refused:
            attempt.note(result)
        attempt.note(ev.HandedOver(before, step.to, step.how, step.pipeline))
        self.equip(attempt)

    def rules(self, attempt: Attempt) -> Mapping[str, Repeat]:
        """Of calls that a dead attempt began, whether or not the agent still holds those tools."""
        state = attempt.state
        if not state.interrupted_calls:
            return {}
        names = {call.name for call in state.open_calls.values() if call.id in state.interrupted_calls}
        return {name: rule for name in names if (rule := self._rule(attempt, name)) is not None}

    def _rule(self, attempt: Attempt, name: str) -> Repeat | None:
        if attempt.cast is not None and (rule := attempt.cast.repeat(name, attempt.agent.name)) is not None:
            return rule
        spec = self._tools.spec(name)
        return None if spec is None else spec.repeat
