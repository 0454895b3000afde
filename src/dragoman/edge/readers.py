"""Places for readers: how many streams of one conversation may be open at once, turns and followers alike."""

from dragoman.core.errors import LimitReached
from dragoman.core.names import ConversationId, ProjectId

RETRY_AFTER_S = 5.0


_Key = tuple[ProjectId, ConversationId]


class Place:
    """Held while a stream is open. A class, and slots: there are as many as there are readers."""

    __slots__ = ("_key", "_readers")

    def __init__(self, readers: "Readers", key: _Key | None) -> None:
        self._readers = readers
        self._key = key

    def __enter__(self) -> None:
        if self._key is not None:
            self._readers.take(self._key)

    def __exit__(self, *raised: object) -> None:
        if self._key is not None:
            self._readers.give_back(self._key)


class Readers:
    def __init__(self, *, per_conversation: int) -> None:
        self._per_conversation = per_conversation
        self._taken: dict[_Key, int] = {}

    def place(self, project: ProjectId, conversation: ConversationId | None) -> Place:
        """To be entered, which raises LimitReached when all are taken; for no conversation, none is."""
        return Place(self, None if conversation is None else (project, conversation))

    def take(self, key: _Key) -> None:
        taken = self._taken.get(key, 0)
        if taken >= self._per_conversation:
            raise LimitReached(
                f"This conversation has {taken} readers already.",
                limit="readers_per_conversation",
                retry_after_s=RETRY_AFTER_S,
            )
        self._taken[key] = taken + 1

    def give_back(self, key: _Key) -> None:
        left = self._taken[key] - 1
        if left:
            self._taken[key] = left
        else:
            del self._taken[key]

    def __len__(self) -> int:
        """Conversations that are being read."""
        return len(self._taken)
