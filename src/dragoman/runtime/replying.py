"""Asking a run's model: for a reply, piece by piece onto the tape, and for what is no reply of the run.

That is a title for the conversation, or what a tool wants to know of the model.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import assert_never

from dragoman.core import events as ev
from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed, DragomanError, Unavailable
from dragoman.core.messages import Message, ToolCall
from dragoman.core.workflows import TRANSFER
from dragoman.runtime import history, loops, machine, titles, workflow_view
from dragoman.runtime.asking import known_model
from dragoman.runtime.attempt import Attempt
from dragoman.runtime.counters import Counters
from dragoman.runtime.ports import (
    Model,
    Models,
    Prompt,
    ReplyDone,
    ReplyPiece,
    Retracted,
    TextPiece,
    ThinkingPiece,
)
from dragoman.runtime.tool_ports import Tools

logger = logging.getLogger("dragoman.runtime")


class Replying:
    def __init__(self, models: Models, tools: Tools, counters: Counters) -> None:
        self._models = models
        self._tools = tools
        self._counters = counters

    async def ask(self, attempt: Attempt, step: machine.AskModel) -> ev.RunFailed | None:
        """One model call, put on the tape. The run's end if it failed for good: what was said so far stays."""
        try:
            model, model_name = await self._model(attempt)
        except Unavailable:
            raise  # of the store: the run is put down, and taken up again
        except DragomanError as error:
            return _failed(attempt, error)
        self._begin_title(attempt)
        attempt.model_name = model_name
        attempt.note(ev.ReplyStarted(attempt.agent.name, model_name))
        prompt = _prompt(attempt, step, model_name)
        pieces = model.reply(prompt, stream=attempt.received.deltas)
        async with aclosing(pieces):  # closes its connection too, which is how a cancel reaches the socket
            while True:
                try:  # around the model alone: what the store raises means something else
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return ev.RunFailed("upstream_truncated", machine.NO_ANSWER, attempt.state.usage)
                except DragomanError as error:
                    run, whose = attempt.claim.run, _whose(attempt)
                    logger.warning("run %s: reply %d failed: %s: %s; %s", run, step.number, error.code, error, whose)
                    return _failed(attempt, error)
                if await self._take(attempt, piece, closing=step.closing):
                    return None

    async def _model(self, attempt: Attempt) -> tuple[Model, str]:
        """The model that answers this run. It may be a record of the store, so a store that is away is waited for."""
        return await attempt.insist(lambda: self._look_up(attempt))

    async def _look_up(self, attempt: Attempt) -> tuple[Model, str]:
        received = attempt.received
        if received.loop is not None and received.model:  # of such a wire: looked up before the turn was taken
            return await known_model(self._models, attempt.claim.project, received.model), ""
        return await self._models.choose(attempt.claim.project, received.model or attempt.agent.model)

    async def _take(self, attempt: Attempt, piece: ReplyPiece, *, closing: bool) -> bool:
        """Put a piece on the tape; True when it was the last."""
        match piece:
            case TextPiece() | ThinkingPiece() if _is_internal(attempt):
                pass  # it goes to other agents, and they read it whole
            case TextPiece(text=text):
                attempt.note(ev.TextAdded(text))
                await attempt.commit()
            case ThinkingPiece(text=text):
                attempt.note(ev.ThinkingAdded(text))
                await attempt.commit()
            case Retracted():
                await self._retract(attempt)
            case ReplyDone():
                self._counters.replied(piece.usage)
                self._finish(attempt, piece, closing=closing)
                return True
            case _:
                assert_never(piece)
        return False

    def _finish(self, attempt: Attempt, done: ReplyDone, *, closing: bool) -> None:
        """Note the reply, and the answers to those of its calls that cannot be made (`Loop.checked`)."""
        text, closed_by = done.text, None
        calls = machine.distinct_calls(attempt.state, done.calls, attempt.past)
        if closing and (tool := attempt.state.loop.closing) is not None:
            text, closed_by = loops.closed(tool, text, calls)
            calls = ()
        internal = _is_internal(attempt)
        attempt.note(
            ev.ReplyFinished(
                "" if internal else text,
                calls,
                done.usage,
                done.finish_reason,
                done.thinking,
                closing=None if internal else closed_by,  # its arguments are the text
                masked=done.masked,
                internal=text if internal else "",
            )
        )
        self._check(attempt, calls)

    def check_brought(self, attempt: Attempt) -> None:
        """The same for calls of the caller's own tools with which its messages end (elastic spec 4.2, step 2)."""
        state = attempt.state
        if state.replies == 0 and state.end is None:
            self._check(attempt, [call for call in state.open_calls.values() if call.name in state.client_tools])

    def _check(self, attempt: Attempt, calls: Sequence[ToolCall]) -> None:
        if attempt.state.loop.checked:
            for call in calls:
                if (refused := self._refused(attempt, call)) is not None:
                    attempt.note(refused)

    def _refused(self, attempt: Attempt, call: ToolCall) -> ev.ToolReturned | None:
        offered = attempt.state.loop.tools
        going_over = attempt.cast is not None and call.name == TRANSFER
        theirs = None if going_over else attempt.state.client_tools.get(call.name)
        if theirs is not None and offered:
            fault = self._tools.check(theirs, call.arguments)
            content, code = f"Function arguments are invalid. {fault}" if fault else "", "bad_arguments"
        else:
            known = offered and any(tool.name == call.name for tool in attempt.tools)
            content, code = "" if known else f'Function "{call.name}" called but was not available', "unknown_tool"
        if not content:
            return None
        content = loops.as_result(attempt.state.loop, content, is_error=True, code=code)
        return ev.ToolReturned(call.id, content, is_error=True, code=code)

    async def _retract(self, attempt: Attempt) -> None:
        if attempt.state.reply_seq is not None:  # else nothing of it was shown
            attempt.note(ev.AttemptReset(attempt.state.reply_seq))
            attempt.note(ev.ReplyStarted(attempt.agent.name, attempt.model_name))
            await attempt.commit()

    # -- by the way ------------------------------------------------------------------------------------------------

    async def aside(
        self,
        attempt: Attempt,
        messages: tuple[Message, ...],
        tools: tuple[ToolSpec, ...] = (),
        choice: str = "",
        plain: str = "",
    ) -> ReplyDone:
        """Ask the run's model something that is no reply of the run. Nothing of it goes onto the tape; its LLM tokens
        are counted for the server and not for the run. Raises errors of the tree."""
        model, model_name = await self._model(attempt)
        return await self._by_the_way(model, Prompt(messages, tools, model_name, choice=choice, plain=plain), attempt)

    async def _by_the_way(self, model: Model, prompt: Prompt, attempt: Attempt) -> ReplyDone:
        prompt = Prompt(
            prompt.messages,
            prompt.tools,
            prompt.model_name,
            key=f"{attempt.claim.run}:aside",
            choice=prompt.choice,
            temperature=attempt.state.loop.temperature,
            plain=prompt.plain,
        )
        pieces = model.reply(prompt, stream=True)
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, ReplyDone):
                    self._counters.replied(piece.usage)
                    return piece
        raise BackendFailed(machine.NO_ANSWER, code="upstream_truncated")

    def _begin_title(self, attempt: Attempt) -> None:
        """While the model answers, it thinks of a title too."""
        if attempt.state.loop.titled and not attempt.state.title_given and attempt.titling is None:
            # Owned by the attempt, which ends it: see `put_down`.
            attempt.titling = asyncio.create_task(self._title(attempt))  # noqa: TID251

    async def _title(self, attempt: Attempt) -> str:
        asked = attempt.received.messages
        try:
            done = await self.aside(attempt, titles.question(asked), (titles.TOOL,), titles.TOOL.name)
        except DragomanError as error:
            logger.info("run %s: no title: %s", attempt.claim.run, error)
            return titles.NO_TITLE
        except Exception:
            logger.exception("run %s: no title", attempt.claim.run)
            return titles.NO_TITLE
        return titles.title_of(done)

    async def put_down(self, attempt: Attempt) -> None:
        """The run ended, or is no longer ours: nothing goes on behind its back."""
        if attempt.titling is not None:
            attempt.titling.cancel()
            await asyncio.wait([attempt.titling])

    async def give_title(self, attempt: Attempt) -> None:
        """Note the title that the model thought of."""
        self._begin_title(attempt)
        if attempt.titling is not None:
            if not attempt.titling.done():
                await attempt.commit()  # the answer is whole, and does not wait for its title
            attempt.note(ev.TitleGiven(await attempt.titling))


def _whose(attempt: Attempt) -> str:
    """For the log: whose reply it was. The names that people give come escaped."""
    staging = attempt.received.staging
    workflow = f", workflow {staging.workflow}" if staging is not None else ""
    return f"project {attempt.claim.project}{workflow}, agent {attempt.agent.name!a}"


def _failed(attempt: Attempt, error: DragomanError) -> ev.RunFailed:
    return ev.RunFailed(error.code, error.detail, attempt.state.usage)


def _is_internal(attempt: Attempt) -> bool:
    """What is said now, is said to other agents."""
    return attempt.cast is not None and attempt.cast.member(attempt.agent.name).internal


def _prompt(attempt: Attempt, step: machine.AskModel, model_name: str) -> Prompt:
    received, agent, loop = attempt.received, attempt.agent, attempt.state.loop
    own = received.system or loop.once
    instructions = (received.system,) if own else (agent.instructions, *received.instructions)
    turn: Sequence[Message] = attempt.state.messages
    at_hand = attempt.at_hand
    if attempt.cast is not None and at_hand is not None:
        instructions = (agent.instructions, received.system, *received.instructions)
        turn = workflow_view.turn_messages(
            (*at_hand.messages, *turn[len(received.messages) :]),
            (*at_hand.handings, *attempt.state.handings),
            received=at_hand.asked,
            viewer=agent.name,
            nobody="" if attempt.cast.has(received.agent) else received.agent,
        )
    tools, choice = attempt.tools, ""
    if received.loop is not None:
        tools, choice = _offer(attempt, step)
    return Prompt(
        history.prompt(instructions, attempt.shown, turn, tokens_max=agent.history_tokens),
        tools,
        model_name=model_name,
        key=f"{attempt.claim.run}:{step.number}",
        choice=choice,
        temperature=loop.temperature,
    )


def _offer(attempt: Attempt, step: machine.AskModel) -> tuple[tuple[ToolSpec, ...], str]:
    """The tools that a loop offers for this reply, and which of them must be called."""
    loop = attempt.state.loop
    if not loop.tools:
        return (), ""
    if step.closing and loop.closing is not None:
        return (loop.closing,), loop.closing.name
    if not attempt.tools:
        return (), ""
    return attempt.tools, (loop.choice if step.number == 1 and loop.choice else "auto")
