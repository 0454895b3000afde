"""Places for readers: so many for each conversation, and given back."""

import pytest

from dragoman.core.errors import LimitReached
from dragoman.core.names import ConversationId, ProjectId
from dragoman.edge.readers import Readers

DEFAULT, OTHER = ProjectId("default"), ProjectId("other")
K, L = ConversationId("k"), ConversationId("l")


def test_a_conversation_has_so_many_places_and_no_more() -> None:
    readers = Readers(per_conversation=2)
    with readers.place(DEFAULT, K), readers.place(DEFAULT, K):
        with pytest.raises(LimitReached) as refused, readers.place(DEFAULT, K):
            raise AssertionError("there is no third place")
        with readers.place(DEFAULT, L), readers.place(OTHER, K):
            assert len(readers) == 3
    assert (refused.value.limit, refused.value.detail) == (
        "readers_per_conversation",
        "This conversation has 2 readers already.",
    )
    assert len(readers) == 0


def test_a_place_is_given_back_however_it_is_left() -> None:
    readers = Readers(per_conversation=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), readers.place(DEFAULT, K):
            raise ValueError("x")
    assert len(readers) == 0


def test_where_there_is_no_place_nobody_reads() -> None:
    with pytest.raises(LimitReached), Readers(per_conversation=0).place(DEFAULT, K):
        raise AssertionError("there is no place")


def test_where_no_conversation_is_named_no_place_is_taken() -> None:
    with Readers(per_conversation=0).place(DEFAULT, None):
        pass
