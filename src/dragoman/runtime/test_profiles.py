"""Test profiles: who a simulated user is, and which tools are only played while that user is served (rowboat spec 6.3).

Those that are created stay until they are removed. A file of simulations brings its own along: they are lent to the
project for a while, under an id that follows from what they say, so that the same file can be run by many at once.
"""

import hashlib
import re
from collections.abc import Callable

import msgspec
from msgspec.structs import asdict

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, Records
from dragoman.core.simulations import ProfileDraft, TestProfile

KIND = "test_profile"
NAME_CHARS_MAX = 200
TEXT_CHARS_MAX = 20_000
"""Of a context, and of a mock prompt."""
PROFILES_MAX = 500
"""Of a project; those that are lent are not counted."""

_ID = re.compile(r"[0-9a-f]{24}")

_bodies = msgspec.json.Decoder(ProfileDraft)


class TestProfiles:
    """`new_id` gives 24 hex digits."""

    __test__ = False

    def __init__(self, records: Records, *, new_id: Callable[[], str]) -> None:
        self._records = records
        self._new_id = new_id

    async def create(
        self, project: ProjectId, *, name: str, context: str = "", mock_tools: bool = False, mock_prompt: str = ""
    ) -> TestProfile:
        """Raises BadRequest; Conflict if there are PROFILES_MAX. Names need not differ."""
        draft = ProfileDraft(name, context, mock_tools, mock_prompt)
        check_profile(draft)
        there = await self._records.page(project, KIND, wide=True, limit=1, offset=0)
        if there.total >= PROFILES_MAX:
            raise Conflict(
                f"The project has {there.total} test profiles, and {PROFILES_MAX} is as many as may be; remove one"
                " first: dragoman test-profiles rm ID"
            )
        record = Record(project, KIND, self._new_id(), msgspec.json.encode(draft).decode(), wide=True)
        return _profile(await self._records.put(record, expect=0))

    async def lend(self, project: ProjectId, draft: ProfileDraft, *, until: float) -> TestProfile:
        """One that is there until then (Unix seconds), and is in no list. The same draft has the same id, and who lends
        it last says until when. Raises BadRequest."""
        check_profile(draft)
        body = msgspec.json.encode(draft)
        lent_id = hashlib.sha256(b"lent:" + body).hexdigest()[:24]
        return _profile(
            await self._records.put(Record(project, KIND, lent_id, body.decode(), expires_at=until), expect=None)
        )

    async def get(self, project: ProjectId, profile_id: str) -> TestProfile | None:
        """None also for what cannot be an id."""
        if _ID.fullmatch(profile_id) is None:
            return None
        record = await self._records.get(project, KIND, profile_id)
        return None if record is None else _profile(record)

    async def ls(self, project: ProjectId) -> tuple[TestProfile, ...]:
        """Those that were created, oldest first."""
        page = await self._records.page(project, KIND, wide=True, limit=0, offset=0)
        return tuple(map(_profile, page.items))

    async def remove(self, project: ProjectId, profile_id: str) -> None:
        """Raises NotFound."""
        known = _ID.fullmatch(profile_id) is not None
        if not known or not await self._records.delete(project, KIND, profile_id):
            raise NotFound(f"There is no test profile {profile_id[:100]}.", what="test_profile")


def check_profile(draft: ProfileDraft) -> None:
    """Raises BadRequest naming what is missing or too long."""
    if not draft.name.strip():
        raise BadRequest("A test profile needs a name.")
    for noun, text, chars_max in (
        ("name", draft.name, NAME_CHARS_MAX),
        ("context", draft.context, TEXT_CHARS_MAX),
        ("mock prompt", draft.mock_prompt, TEXT_CHARS_MAX),
    ):
        if len(text) > chars_max:
            raise BadRequest(
                f"The test profile {draft.name[:60]!a} has a {noun} of {len(text)} characters; {chars_max} at most."
            )


def _profile(record: Record) -> TestProfile:
    return TestProfile(
        record.id, **asdict(_bodies.decode(record.body)), created_at=record.created_at, updated_at=record.updated_at
    )
