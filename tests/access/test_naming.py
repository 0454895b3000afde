"""Names of those to whom things belong."""

from msgspec.structs import replace

from dragoman.access.naming import Naming
from dragoman.access.ports import Credential
from dragoman.core.names import ProjectId
from tests.access_memory import MemoryAccess

DEFAULT, OPS = ProjectId("default"), ProjectId("ops")
ANNA = Credential("k1", DEFAULT, "anna", (), b"", "p", 0.0)


async def test_a_name_is_that_of_the_credential_or_of_one_that_stands_for_the_same_person() -> None:
    store = MemoryAccess(DEFAULT, OPS)
    for credential in (ANNA, replace(ANNA, id="k2", name="anna's phone", subject="s1", revoked_at=1.0)):
        await store.put_credential(credential)
    naming = Naming(store)
    assert await naming.name_of(DEFAULT, "k1") == "anna"
    assert await naming.name_of(DEFAULT, "s1") == "anna's phone"
    assert await naming.name_of(DEFAULT, "k3") == ""
    assert await naming.name_of(OPS, "k1") == "" and await naming.name_of(OPS, "s1") == ""
