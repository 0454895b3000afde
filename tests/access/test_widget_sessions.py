"""Sessions of visitors: who gets one, whom it proves and for how long, and what it does not prove."""

import msgspec
import pytest

from dragoman.access import jwt
from dragoman.access.pepper import Pepper
from dragoman.access.widget_sessions import (
    CLIENT_ID_CHARS_MAX,
    PROJECT_KNOWN_S,
    PROJECTS_KNOWN_MAX,
    REFUSED,
    SESSION_S,
    WidgetSessions,
)
from dragoman.core.errors import NotAuthenticated, NotFound
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.widget import OpenGuestSession, OpenUserSession
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PEPPER = Pepper("p1", b"k" * 32)
SECRET = "5" * 64


class Site(msgspec.Struct, frozen=True):
    secret: str


class Sites:
    """Projects by client id. `asked` are the client ids that were looked up."""

    def __init__(self) -> None:
        self.projects = {"c1": ProjectId("default"), "c2": ProjectId("other"), "c3": ProjectId("gone")}
        self.asked: list[str] = []

    async def project_of_client(self, client_id: str, /) -> ProjectId | None:
        self.asked.append(client_id)
        return self.projects.get(client_id)

    async def of(self, project: ProjectId, /) -> Site:
        return Site(SECRET if project == "default" else "7" * 64)


class House:
    def __init__(self, pepper: Pepper = PEPPER) -> None:
        self.sites = Sites()
        self.store = MemoryAccess("default", "other")
        self.clock = FixedClock(1000.0)
        self.sessions = self.of(pepper)

    def of(self, pepper: Pepper) -> WidgetSessions:
        return WidgetSessions(self.sites, self.store, pepper, self.clock, new_guest=lambda: "0001")

    async def guest(self, client_id: str = "c1") -> str:
        return (await self.sessions.open_guest(OpenGuestSession(client_id))).text

    async def user(self, client_id: str = "c1", **claims: object) -> str:
        token = jwt.sign(claims, SECRET)
        return (await self.sessions.open_user(OpenUserSession(client_id, token))).text

    async def lets_in(self, text: str) -> bool:
        try:
            await self.sessions.prove(text)
        except NotAuthenticated as error:
            assert error.detail == REFUSED
            return False
        return True


@pytest.fixture
def house() -> House:
    return House()


async def test_a_guest_may_chat_and_nothing_else(house: House):
    opened = await house.sessions.open_guest(OpenGuestSession("c1"))

    assert opened.expires_at == 1000 + SESSION_S
    assert await house.sessions.prove(opened.text) == Principal(
        ProjectId("default"),
        "widget:guest-0001@default",
        "Guest User",
        frozenset({Scope.CHAT_RUN}),
        subject="widget:guest-0001",
    )


async def test_the_claims_are_those_of_the_wire_and_what_ends_it(house: House):
    key = PEPPER.digest(b"dragoman widget session 1\n").hex()
    assert jwt.verify(await house.user(userId="u", userName="Ana"), key, now=1000.0) == {
        "userId": "u",
        "userName": "Ana",
        "projectId": "default",
        "clientId": "c1",
        "iat": 1000,
        "exp": 1000 + SESSION_S,
    }


@pytest.mark.parametrize("name", [{}, {"userName": None}, {"userName": ""}])
async def test_a_user_without_a_name_goes_by_its_id(house: House, name: dict[str, object]):
    assert (await house.sessions.prove(await house.user(userId="u-1", **name))).name == "u-1"


async def test_users_of_two_projects_are_two_however_they_are_called(house: House):
    token = jwt.sign({"userId": "u"}, "7" * 64)
    other = await house.sessions.prove((await house.sessions.open_user(OpenUserSession("c2", token))).text)
    ours = await house.sessions.prove(await house.user(userId="u"))

    assert ours.owner == other.owner and ours.project != other.project
    assert ours.credential_id != other.credential_id


async def test_it_is_good_for_a_day_to_the_second(house: House):
    session = await house.guest()
    house.clock.move(SESSION_S - 0.5)
    assert await house.lets_in(session)
    house.clock.move(0.5)
    assert not await house.lets_in(session)


async def test_it_ends_with_the_client_id(house: House):
    session = await house.guest()
    house.sites.projects["c9"] = house.sites.projects.pop("c1")
    assert not await house.lets_in(session)
    house.sites.projects["c1"] = ProjectId("other")
    assert not await house.lets_in(session)


async def test_it_ends_with_the_project_within_five_seconds(house: House):
    session = await house.guest()
    await house.store.delete_project(ProjectId("default"))
    house.clock.move(PROJECT_KNOWN_S - 0.1)
    assert await house.lets_in(session)
    house.clock.move(0.1)
    assert not await house.lets_in(session)


@pytest.mark.parametrize("client_id", ["", "nobody", "c3", "x" * (CLIENT_ID_CHARS_MAX + 1), "c\n1", "é"])
async def test_a_client_id_that_no_project_has_opens_nothing(house: House, client_id: str):
    for opening in (
        house.sessions.open_guest(OpenGuestSession(client_id)),
        house.sessions.open_user(OpenUserSession(client_id, jwt.sign({"userId": "u"}, SECRET))),
    ):
        with pytest.raises(NotFound) as refused:
            await opening
        assert refused.value.what == "widget_client"
    assert not set(house.sites.asked) - {"nobody", "c3"}, "what can be no client id is not looked up"


async def test_the_longest_client_id_is_looked_up(house: House):
    house.sites.projects["x" * CLIENT_ID_CHARS_MAX] = ProjectId("default")
    assert await house.lets_in(await house.guest("x" * CLIENT_ID_CHARS_MAX))


async def test_what_another_server_signed_is_junk_and_is_not_looked_up(house: House):
    theirs = House(Pepper("p2", b"z" * 32))
    forged = [await theirs.guest(), jwt.sign({"userId": "u"}, SECRET), "", "x", "a.b.c", "\ud800.b.c", "x" * 9000]
    for text in forged:
        assert not await house.lets_in(text)
    assert house.sites.asked == []


@pytest.mark.parametrize("missing", ["userId", "userName", "projectId", "clientId", "iat", "exp"])
async def test_a_session_of_another_version_is_none(house: House, missing: str):
    key = PEPPER.digest(b"dragoman widget session 1\n").hex()
    claims = jwt.verify(await house.guest(), key, now=1000.0)
    del claims[missing]
    assert not await house.lets_in(jwt.sign(claims, key))


async def test_known_projects_are_not_looked_up_again_and_do_not_pile_up(house: House):
    house.store = MemoryAccess(*(f"p{n}" for n in range(PROJECTS_KNOWN_MAX + 1)))
    house.sessions = house.of(PEPPER)
    house.sites.projects = {f"c{n}": ProjectId(f"p{n}") for n in range(PROJECTS_KNOWN_MAX + 1)}
    sessions = [await house.guest(f"c{n}") for n in range(PROJECTS_KNOWN_MAX + 1)]

    await house.store.delete_project(ProjectId(f"p{PROJECTS_KNOWN_MAX}"))
    assert await house.lets_in(sessions[-1]), "it was known"
    await house.store.delete_project(ProjectId("p0"))
    assert not await house.lets_in(sessions[0]), "the one that was too many made it forget the others"


def test_a_session_is_opened_by_anybody(house: House):
    assert set(house.sessions.open_handlers()) == {OpenGuestSession, OpenUserSession}
