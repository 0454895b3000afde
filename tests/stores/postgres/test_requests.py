import asyncio

import pytest

from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.names import ConversationId
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.stores.postgres.connection import Connection
from dragoman.stores.postgres.lookups import About
from dragoman.stores.postgres.requests import TRIES_MAX, Plan, Request, answer, fail, groups, keep
from tests.stores.talk import PROJECT


async def request(*, locked: bool = False, errand: bool = False) -> Request:
    made = Request(asyncio.get_running_loop().create_future(), About(PROJECT, ConversationId("c")))
    made.locked = locked
    if errand:
        made.errand = do_nothing
    return made


async def do_nothing(_: Connection) -> None: ...


async def test_requests_go_together_by_what_they_need():
    quick, locked, errand = await request(), await request(locked=True), await request(errand=True)
    second, other_errand = await request(), await request(errand=True)
    assert list(groups([errand, locked, quick, other_errand, second])) == [
        ([quick, second], False),
        ([locked], True),
        ([errand], True),
        ([other_errand], True),
    ]


async def test_each_gets_its_answer_and_an_error_of_its_own():
    first, second, third, gone = await request(), await request(), await request(), await request()
    gone.future.cancel()
    first.result = 7
    fail([second, third, gone], Conflict("no"))
    answer([first, second, third, gone])
    assert first.future.result() == 7
    errors = [each.future.exception() for each in (second, third)]
    assert [str(error) for error in errors] == ["no", "no"]
    assert errors[0] is not errors[1]


async def test_who_always_comes_second_is_told_in_the_end():
    tried = await request()
    for _ in range(TRIES_MAX):
        assert keep([tried]) == [tried]
    assert keep([tried]) == []
    with pytest.raises(Unavailable, match="Too many write to this conversation"):
        tried.future.result()


async def test_a_plan_has_a_fuse_on_both_sides_of_its_commit():
    made = await request()
    made.blow(0)
    made.plan = Plan(lambda books: books, fuses=("append.before_commit", "append.after_commit"))
    fuses.arm("append.after_commit=raise")
    try:
        made.blow(0)
        with pytest.raises(FuseBlown):
            made.blow(1)
    finally:
        fuses.arm("")
