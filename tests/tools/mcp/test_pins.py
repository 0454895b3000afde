import pytest

from dragoman.core.errors import BadRequest, ToolFailed
from dragoman.core.names import ProjectId
from dragoman.tools.mcp.definitions import Definition
from dragoman.tools.mcp.pins import NOBODY, PIN_BYTES_MAX, Pin, Pins, held
from tests.support import FixedClock

P = ProjectId("p-1")
ECHO = Definition("echo", "1" * 64, "Say it.", {"type": "object"}, read_only=True)
FIND = Definition("find", "2" * 64)


async def test_what_is_pinned_is_found_again_and_belongs_to_one_project(pins: Pins, clock: FixedClock) -> None:
    put = await pins.put(P, "helpdesk", (ECHO, FIND))

    assert await pins.get(P, "helpdesk") == put
    assert (put.tools, put.pinned_at, put.tool("find"), put.tool("x")) == ((ECHO, FIND), clock.now(), FIND, None)
    assert await pins.get(NOBODY, "helpdesk") is None
    assert await pins.all(P) == {"helpdesk": put}
    assert await pins.all(NOBODY) == {}


async def test_pinning_again_takes_the_place_of_the_first_pin(pins: Pins) -> None:
    first = await pins.put(P, "helpdesk", (ECHO, FIND))
    same = await pins.put(P, "helpdesk", (FIND, ECHO))
    other = await pins.put(P, "helpdesk", (ECHO,))

    assert first.digest == same.digest != other.digest
    assert await pins.all(P) == {"helpdesk": other}


async def test_names_of_servers_may_be_anything(pins: Pins) -> None:
    name = "Help/Desk " + "ü" * 80
    await pins.put(P, name, (ECHO,))
    assert list(await pins.all(P)) == [name]


async def test_a_pin_can_be_taken_away_once(pins: Pins) -> None:
    await pins.put(P, "helpdesk", (ECHO,))
    assert await pins.remove(P, "helpdesk")
    assert not await pins.remove(P, "helpdesk")
    assert await pins.get(P, "helpdesk") is None


async def test_a_pin_has_a_limit(pins: Pins) -> None:
    def tool(chars: int) -> Definition:
        return Definition("echo", "1" * 64, parameters={"x": "y" * chars})

    with pytest.raises(BadRequest, match="can be pinned") as caught:
        await pins.put(P, "helpdesk", (tool(PIN_BYTES_MAX),))
    over = int(caught.value.detail.split(" are ")[1].split(" ")[0].replace(",", "")) - PIN_BYTES_MAX
    await pins.put(P, "helpdesk", (tool(PIN_BYTES_MAX - over),))
    with pytest.raises(BadRequest):
        await pins.put(P, "helpdesk", (tool(PIN_BYTES_MAX - over + 1),))


def test_a_tool_is_held_against_its_pin() -> None:
    pin = Pin("helpdesk", (ECHO,), "d")
    held(pin, "echo", ECHO, again="x")
    for tool, now, code in (
        ("find", FIND, "not_pinned"),
        ("echo", None, "unknown_tool"),
        ("echo", Definition("echo", "3" * 64), "changed"),
    ):
        with pytest.raises(ToolFailed) as caught:
            held(pin, tool, now, again="dragoman mcp pin helpdesk")
        assert caught.value.code == code
