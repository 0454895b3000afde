"""Making calls by the rules of a loop."""

from dragoman.core import events as ev
from dragoman.core.agents import Loop
from tests.parts import call_reply, text_reply
from tests.runtime.looping import ContextTools, Talker
from tests.runtime.scene import asked, scene_of


async def test_what_is_never_offered_is_not_run_for_the_model() -> None:
    model = Talker(call_reply(("context", "{}")), text_reply("Then not."))
    loop = Loop(checked=False)
    async with scene_of(model, tools=ContextTools()) as s:
        await s.drive(asked(loop=loop))
        [returned] = [event for event in await s.events() if isinstance(event, ev.ToolReturned)]
        assert returned.code == "unknown_tool" and not s.tools.effects
