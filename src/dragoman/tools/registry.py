"""The tools of this process: names, schemas, and the one way a call is carried out.

    arguments ─parse, check─► run, within its timeout ─► text, within the cap
        │ bad_arguments          │ timeout, tool_failed, or the code a tool gives

Whatever goes wrong becomes an outcome the model can read. What an unexpected exception says is for the log alone: it
may hold a path, an address or a secret.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from msgspec import Struct

from dragoman.core.agents import Offered, Repeat, ToolSpec
from dragoman.core.errors import ToolFailed, Unavailable
from dragoman.core.messages import ToolCall
from dragoman.runtime.tool_ports import CallContext, Told, ToolOutcome
from dragoman.tools.arguments import Arguments, BadArguments, Checker, Run, parse
from dragoman.tools.brought_schemas import BroughtCheckers

logger = logging.getLogger("dragoman.tools")

OUTPUT_BYTES_MAX = 1024 * 1024
CUT_NOTICE_BYTES_MAX = 200
"""Room for the line that says how much was left out; it counts towards OUTPUT_BYTES_MAX."""
PATTERN_SETS_MAX = 256
"""Sets of patterns whose answer is remembered; agents are few."""
BROUGHT_MAX = 64
"""Schemas of callers that are remembered."""
NAME_CHARS_SHOWN_MAX = 100
CLOSEST_NAMES_MAX = 3

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every provider takes as a function's name."""


class _Tool(Struct, frozen=True):
    spec: ToolSpec
    run: Run
    checker: Checker

    @property
    def full_name(self) -> str:
        return f"{self.spec.toolset}.{self.spec.name}" if self.spec.toolset else self.spec.name


class Registry:
    """Fits `runtime.ports.Tools`. Tools are registered at start-up and keep that order."""

    def __init__(self) -> None:
        self._tools: dict[str, _Tool] = {}
        self._chosen: dict[tuple[tuple[str, ...], bool], tuple[ToolSpec, ...]] = {}
        self._brought = BroughtCheckers(BROUGHT_MAX)

    def register(self, spec: ToolSpec, run: Run) -> None:
        """Offer a tool. Raises ValueError if the name is taken or unusable, or the schema is none."""
        if not _NAME.fullmatch(spec.name):
            raise ValueError(f"tool {spec.name!r}: a name is 1 to 64 letters, digits, _ or -")
        if spec.name in self._tools:
            raise ValueError(f"tool {spec.name!r} is already registered")
        try:
            checker = Checker(spec.parameters)
        except ValueError as error:
            raise ValueError(f"tool {spec.name!r}: {error}") from None
        self._tools[spec.name] = _Tool(spec, run, checker)
        self._chosen.clear()

    def specs(self, patterns: Sequence[str], *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        """Those whose `toolset.name`, or plain name, matches a pattern. The same tuple for the same question."""
        wanted = tuple(patterns)
        key = (wanted, on_screen)
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) >= PATTERN_SETS_MAX:
                self._chosen.clear()
            offered = (Offered.ALWAYS, Offered.ON_SCREEN) if on_screen else (Offered.ALWAYS,)
            chosen = self._chosen[key] = tuple(
                tool.spec for tool in self._tools.values() if tool.spec.offered in offered and _matches(tool, wanted)
            )
        return chosen

    def spec(self, name: str) -> ToolSpec | None:
        tool = self._tools.get(name)
        return None if tool is None else tool.spec

    def check(self, spec: ToolSpec, arguments: str) -> str:
        """See `runtime.tool_ports.Tools.check`. A caller's schema that is none, or takes too long, lets everything pass
        but what is no object."""
        tool = self._tools.get(spec.name)
        try:
            parsed = parse(arguments)
            if tool is not None and tool.spec is spec:
                tool.checker.check(parsed)
            elif (brought := self._brought.of(spec.parameters)) is not None:
                brought.check(parsed, chars=len(arguments))
        except BadArguments as error:
            return str(error)
        return ""

    async def call(self, call: ToolCall, context: CallContext) -> ToolOutcome:
        """See `runtime.ports.Tools.call`: never raises but for cancellation."""
        tool = self._tools.get(call.name)
        if tool is None:
            return ToolOutcome(self._unknown(call.name), True, "unknown_tool")
        return await carried_out(tool.spec, tool.checker.check, tool.run, call, context)

    def _unknown(self, name: str) -> str:
        closest = get_close_matches(name[:NAME_CHARS_SHOWN_MAX], self._tools, n=CLOSEST_NAMES_MAX, cutoff=0.5)
        shown = ascii(name[:NAME_CHARS_SHOWN_MAX])
        hint = f"The closest names are: {', '.join(closest)}." if closest else "No name is close to it."
        return f"There is no tool {shown}. {hint}"


def _matches(tool: _Tool, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(tool.full_name, pattern) or fnmatchcase(tool.spec.name, pattern) for pattern in patterns)


async def carried_out(
    spec: ToolSpec,
    check: Callable[[Arguments], None],
    run: Run,
    call: ToolCall,
    context: CallContext,
    *,
    outside: str = "",
) -> ToolOutcome:
    """What comes of a call: its arguments are read and checked, then it runs. Never raises but for cancellation;
    `check` raises BadArguments. `outside` is which outside system a workflow has asked by it: when that fails, whoever
    runs the server is told, since the turn may have left nothing else to look at."""
    try:
        arguments = parse(call.arguments)
        check(arguments)
    except BadArguments as error:
        return ToolOutcome(f"{error} Correct them and call {call.name} again.", True, "bad_arguments")
    try:
        return await _run(spec, run, arguments, context)
    except ToolFailed as error:
        # Not its sentence, nor what was denied: they show arguments, and a run may be one that leaves nothing.
        why = f" ({error.internal})" if error.internal and error.code != "denied" else ""
        whose = f"; project {context.project}, {outside}" if outside else ""
        level = logging.WARNING if outside and error.code != "denied" else logging.INFO
        logger.log(level, "tool %s (%s) could not: %s%s%s", call.name, context.key, error.code, why, whose)
        return ToolOutcome(_capped(error.detail), True, error.code)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled us: something the tool waited for was. To the run that is a failure like any other.
        logger.exception("tool %s (%s) was cancelled from inside", call.name, context.key)
    except Unavailable as error:  # of our own: the store is away, or a secret cannot be read; it says what to do
        logger.error("tool %s (%s) failed: %s; project %s", call.name, context.key, error, context.project)
    except Exception:
        logger.exception("tool %s (%s) failed", call.name, context.key)
    return ToolOutcome(
        f"{call.name} failed for a reason of its own; the server's log has it. Go on without it, or say so.",
        True,
        "tool_failed",
    )


async def _run(spec: ToolSpec, run: Run, arguments: Arguments, context: CallContext) -> ToolOutcome:
    within = asyncio.timeout(spec.timeout_s)
    try:
        async with within:
            told = await run(arguments, context)
        if isinstance(told, Told):
            return ToolOutcome(_capped(told.content), shown=told.shown)
        return ToolOutcome(_capped(told))
    except TimeoutError:
        if not within.expired():
            raise
    effect = "" if spec.repeat is Repeat.PURE else " It may still have had its effect: look before you repeat it."
    sentence = f"{spec.name} did not finish within {spec.timeout_s:g} s and was stopped.{effect}"
    return ToolOutcome(sentence, True, "timeout")


def _capped(content: str) -> str:
    """`content` within OUTPUT_BYTES_MAX, cut at a code point boundary; lone surrogates, which no wire takes, as `?`."""
    if content.isascii() and len(content) <= OUTPUT_BYTES_MAX:
        return content
    body = content.encode("utf-8", "replace")
    if len(body) <= OUTPUT_BYTES_MAX:
        return body.decode()
    kept = body[: OUTPUT_BYTES_MAX - CUT_NOTICE_BYTES_MAX].decode("utf-8", "ignore")
    left_out = len(body) - len(kept.encode())
    return f"{kept}\n[{left_out:,} bytes more were left out here. Ask for less at a time.]"
