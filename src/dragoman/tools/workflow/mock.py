"""Mocks: a model invents what a tool would have returned (rowboat spec 7.2)."""

import msgspec

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed, ToolFailed
from dragoman.core.messages import said
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import Arguments

INSTRUCTIONS_CHARS_MAX = 20_000
"""Longer ones are cut."""

_ROLE = (
    "You stand in for a tool that is not called now. Invent what it could have returned for the call below, true to its"
    " description and to the instructions, and in keeping with what it was asked. Answer with that result alone: no"
    " introduction, no comment, and no word about it being invented. Use JSON if the tool would."
)


async def invented(spec: ToolSpec, instructions: str, arguments: Arguments, context: CallContext) -> str:
    """The result. A stand-in for a model says the instructions, or what was called if there are none. Raises
    ToolFailed: there is no model to ask, or it failed."""
    if context.ask is None:
        raise ToolFailed(f"{spec.name} is mocked, and outside a turn there is no model that could invent its result.")
    instructions = instructions.strip()[:INSTRUCTIONS_CHARS_MAX]
    called = msgspec.json.encode(arguments).decode()
    plain = instructions or msgspec.json.encode({"tool": spec.name, "arguments": arguments, "mocked": True}).decode()
    system = "\n\n".join(
        (
            _ROLE,
            f"Tool: {spec.name}",
            f"What it does: {spec.description or 'nobody said.'}",
            f"Its parameters: {msgspec.json.encode(spec.parameters).decode()}",
            f"Instructions: {instructions or 'none; choose what is likely.'}",
        )
    )
    try:
        done = await context.ask((said("system", system), said("user", f"Arguments: {called}")), plain=plain)
    except BackendFailed as error:
        raise ToolFailed(
            f"{spec.name} is mocked, and the model that was to invent its result failed: {error.detail}",
            internal=error.internal,
        ) from None
    if not done.text.strip():
        raise ToolFailed(f"{spec.name} is mocked, and the model that was to invent its result said nothing.")
    return done.text
