"""What is on the screen of whoever asks: told by a client with its turn, for tools that look at it."""

from msgspec import Struct


class ScreenItem(Struct, frozen=True, gc=False):
    """One thing that is shown. `value` is JSON text."""

    name: str
    description: str
    value: str


class Screen(Struct, frozen=True, omit_defaults=True, gc=False):
    description: str = ""
    """In words, for the model; "" = nothing is known of the screen."""
    items: tuple[ScreenItem, ...] = ()


NO_SCREEN = Screen()
