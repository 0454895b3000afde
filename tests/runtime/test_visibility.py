"""Whose conversation it is: every kind of caller before every kind of conversation."""

import pytest
from msgspec.structs import replace

from dragoman.core.errors import NotAllowed, NotFound
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId, Scope, Tape
from dragoman.core.operations import ConversationInfo
from dragoman.runtime.visibility import may_read, may_write, no_run, only_owner, readable, writable

C = ConversationId("c")
INFO = ConversationInfo(C, Tape(1), "", "", 0.0, 0.0, 0, 0, 1, owner="anna")
SHARED = replace(INFO, shared=True)
NOBODYS = replace(INFO, owner="")

ANNA = Principal(ProjectId("p"), "key1", "key one", frozenset({Scope.CHAT_READ}), subject="anna")
KEY_CALLED_ANNA = Principal(ProjectId("p"), "anna", "key two", frozenset({Scope.CHAT_READ}))
BERT = Principal(ProjectId("p"), "bert", "bert", frozenset({Scope.CHAT_READ}))
ADMIN = Principal(ProjectId("p"), "root", "root", frozenset({Scope.ADMIN}))
NAMELESS = Principal(ProjectId("p"), "", "", frozenset({Scope.CHAT_READ}))


@pytest.mark.parametrize(
    ("principal", "info", "reads", "writes"),
    [
        (ANNA, INFO, True, True),
        (KEY_CALLED_ANNA, INFO, True, True),  # a credential that stands for nobody is its own owner
        (ANNA, replace(INFO, owner="key1"), False, False),  # and one that stands for somebody is not
        (BERT, INFO, False, False),
        (BERT, SHARED, True, False),
        (ANNA, SHARED, True, True),
        (ADMIN, INFO, True, True),
        (ADMIN, SHARED, True, True),
        (ADMIN, NOBODYS, True, True),
        (BERT, NOBODYS, False, False),
        (NAMELESS, NOBODYS, False, False),
        (BERT, replace(NOBODYS, shared=True), True, False),
    ],
)
def test_who_reads_and_who_writes(principal: Principal, info: ConversationInfo, reads: bool, writes: bool) -> None:
    assert (may_read(info, principal), may_write(info, principal)) == (reads, writes)
    for allowed, look in ((reads, readable), (writes, writable)):
        assert look(info, C, principal, private=False) is info
        if allowed:
            assert look(info, C, principal, private=True) is info
        else:
            with pytest.raises(NotFound) as missing:
                look(info, C, principal, private=True)
            with pytest.raises(NotFound) as absent:
                look(None, C, principal, private=True)
            assert (missing.value.detail, missing.value.what) == (absent.value.detail, absent.value.what)


def test_where_the_wire_tells_of_shared_ones_they_may_not_be_changed() -> None:
    with pytest.raises(NotAllowed) as refused:
        writable(SHARED, C, BERT, private=True, tell_shared=True, doing="Deleting")
    assert refused.value.detail == "Deleting a conversation is only allowed for the owner of the conversation."
    with pytest.raises(NotAllowed, match=r"^Changing a conversation is only"):
        writable(replace(NOBODYS, shared=True), C, BERT, private=True, tell_shared=True)
    for info in (INFO, NOBODYS, None):
        with pytest.raises(NotFound, match="There is no conversation c"):
            writable(info, C, BERT, private=True, tell_shared=True)
    assert writable(SHARED, C, ANNA, private=True, tell_shared=True) is SHARED
    assert writable(SHARED, C, BERT, private=False, tell_shared=True) is SHARED


def test_what_is_not_there_is_not_there_for_anybody() -> None:
    for look in (readable, writable):
        with pytest.raises(NotFound, match="There is no conversation c"):
            look(None, C, ADMIN, private=False)


def test_the_store_is_asked_for_the_owners_own_and_for_everybodys_by_an_admin() -> None:
    assert [only_owner(principal) for principal in (ANNA, BERT, ADMIN)] == ["anna", "bert", ""]


def test_a_run_that_is_missing_is_named() -> None:
    assert (no_run(RunId("r")).what, no_run(RunId("r")).detail) == ("run", "There is no run r.")
