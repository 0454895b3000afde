"""Whose conversation it is, for operations that are `private`: who may read it, and who may change it. Pure.

    owner      reads and changes it
    admin      reads and changes every one
    others     read it while it is shared; to them it is not there otherwise. To change a shared one is not allowed
               where their wire tells of it (`tell_shared`); elsewhere it is not there for that either

A conversation whose owner is not known ("", made before owners were kept) is nobody's: only an admin sees it.
"""

from dragoman.core.errors import NotAllowed, NotFound
from dragoman.core.names import ConversationId, Principal, RunId, Scope
from dragoman.core.operations import ConversationInfo
from dragoman.runtime.keeping import no_conversation


def may_read(info: ConversationInfo, principal: Principal) -> bool:
    return info.shared or may_write(info, principal)


def may_write(info: ConversationInfo, principal: Principal) -> bool:
    """Continue, change, cancel, delete: sharing gives nobody that."""
    return principal.may(Scope.ADMIN) or (info.owner != "" and info.owner == principal.owner)


def only_owner(principal: Principal) -> str:
    """Whose conversations a private operation reaches, as stores are asked: "" = anybody's."""
    return "" if principal.may(Scope.ADMIN) else principal.owner


def no_run(run: RunId) -> NotFound:
    return NotFound(f"There is no run {run}.", what="run")


def readable(
    info: ConversationInfo | None, conversation: ConversationId, principal: Principal, *, private: bool
) -> ConversationInfo:
    """The conversation, if it is there for this reader. Raises NotFound, in the same words whether it does not exist or
    is another's."""
    if info is None or (private and not may_read(info, principal)):
        raise no_conversation(conversation)
    return info


def writable(
    info: ConversationInfo | None,
    conversation: ConversationId,
    principal: Principal,
    *,
    private: bool,
    tell_shared: bool = False,
    doing: str = "Changing",
) -> ConversationInfo:
    """The conversation, if it is there for whoever wants to change it. Raises NotFound, in those words; NotAllowed, if
    `tell_shared`, for one that may be read. `doing` begins that sentence."""
    if info is None or (private and not may_read(info, principal)):
        raise no_conversation(conversation)
    if private and not may_write(info, principal):
        raise only_for_owner(doing) if tell_shared else no_conversation(conversation)
    return info


def only_for_owner(doing: str) -> NotAllowed:
    """What `doing` (such as "Deleting") a conversation that one may only read is answered with."""
    return NotAllowed(f"{doing} a conversation is only allowed for the owner of the conversation.")
