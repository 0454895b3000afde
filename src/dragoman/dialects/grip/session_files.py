"""Grip's session files: one conversation as `<workspace>/sessions/<session_key>.json`, written and read.

What such a file holds is what was said: the user's messages and the final answers of turns that ended well. Tool calls
and their results are in no file that a released server wrote (WIRE.md, section 5).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

import msgspec

from dragoman.core.errors import BadRequest
from dragoman.core.events import MessagesImported
from dragoman.core.messages import Message, Text, said
from dragoman.core.names import CONVERSATION_ID_CHARS_MAX, ConversationId
from dragoman.core.operations import ConversationView, TurnView
from dragoman.core.transcript import ended_well
from dragoman.dialects.grip.shapes import FileMessage, SessionFile
from dragoman.wire import structs
from dragoman.wire.dialect import ConversationFiles, LoadedConversation

SUFFIX = ".json"
NAME_BYTES_MAX = 255
"""The longest file name that common file systems take."""

DIGEST_DIGITS = 32
FILE_VALUES_MAX = 1_000_000
"""JSON values in one file: some 300,000 messages."""

SUMMARY_INTRODUCTION = "Summary of this conversation before its first message here:\n"
"""Begins the system message that a file's `summary` becomes, so that a model sees it and `dump` finds it again."""

SOURCE = "grip"
_UNSAFE = re.compile(r"[^\w:.@-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def name(conversation: ConversationId) -> str:
    """The file's name: the key itself and `.json`.

    What no Grip key can hold (`/` in a key that another dialect made) is percent-encoded. A name of more than 255 bytes
    is cut and gets `~` and a digest of the key: `~` stands in no other name, so no two keys share a file.
    """
    stem = _UNSAFE.sub(_percent, conversation)
    if len(stem.encode()) + len(SUFFIX) <= NAME_BYTES_MAX:
        return stem + SUFFIX
    digest = hashlib.sha256(conversation.encode()).hexdigest()[:DIGEST_DIGITS]
    kept = stem.encode()[: NAME_BYTES_MAX - len(SUFFIX) - len(digest) - 1].decode(errors="ignore")
    return f"{kept}~{digest}{SUFFIX}"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


# -- write -----------------------------------------------------------------------------------------------------------


def dump(view: ConversationView) -> bytes:
    info = view.info
    messages = tuple(message for turn in view.turns if ended_well(turn) for message in _spoken(turn))
    file = SessionFile(
        key=info.id,
        messages=messages,
        summary=_summary(view.turns),
        created_at=float(info.created_at),
        updated_at=float(info.updated_at),
    )
    return msgspec.json.encode(file)


def _spoken(turn: TurnView) -> Iterator[FileMessage]:
    """What was asked, and the final answer. A reply that only calls tools is no answer, nor is what agents said to each
    other; an empty text can be one."""
    for message in turn.asked:
        if message.role == "user" or (message.role == "assistant" and not message.calls and not message.is_internal):
            yield FileMessage(message.role, message.text)
    replies = [message for message in turn.answered if message.role == "assistant" and not message.is_internal]
    if replies and (replies[-1].text or not replies[-1].calls):
        yield FileMessage("assistant", replies[-1].text)


def _summary(turns: Sequence[TurnView]) -> str | None:
    for turn in turns:
        if isinstance(turn.end, MessagesImported) and turn.asked and turn.asked[0].role == "system":
            text = turn.asked[0].text
            if text.startswith(SUMMARY_INTRODUCTION):
                return text.removeprefix(SUMMARY_INTRODUCTION)
    return None


# -- read ------------------------------------------------------------------------------------------------------------


def load(content: bytes) -> LoadedConversation:
    """The conversation a file holds. The key is taken from inside: file names of released servers are lossy.

    Messages of tools, and those without a text, are left out. Raises BadRequest saying what is wrong.
    """
    file = structs.decode(content, SessionFile, values_max=FILE_VALUES_MAX)
    if not 1 <= len(file.key) <= CONVERSATION_ID_CHARS_MAX:
        raise BadRequest(
            f"key: a session key has 1 to {CONVERSATION_ID_CHARS_MAX} characters, this one {len(file.key)}"
        )
    if _CONTROL.search(file.key):
        raise BadRequest("key: a session key has no control characters")
    if file.created_at < 0 or file.updated_at < 0:
        raise BadRequest("created_at, updated_at: expected seconds since 1970")
    messages = [
        Message(message.role, (Text(message.content),) if message.content else ())
        for message in file.messages
        if message.role != "tool" and message.content is not None
    ]
    if file.summary:
        messages.insert(0, said("system", SUMMARY_INTRODUCTION + file.summary))
    imported = MessagesImported(tuple(messages), source=SOURCE)
    return LoadedConversation(ConversationId(file.key), imported, file.created_at, file.updated_at)


SESSION_FILES = ConversationFiles("sessions", SUFFIX, name, dump, load)
