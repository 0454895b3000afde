"""A prompt's text -> a message: what the client added by itself is told from what the person wrote.

Clients append `<context>…</context>` blocks to prompts: the time, what is on the screen. The model reads them; no title
and no view of the conversation shows them (Q19).
"""

from dragoman.core.messages import Message, Text

TITLE_CHARS_MAX = 80
NO_TITLE = "New conversation"

_OPENS = "<context>"
_CLOSES = "</context>"


def user_message(text: str) -> Message:
    """The person's message. Its parts, joined, are the text as it came.

    A block is hidden together with the white space before it. One that is never closed is text like any other.
    """
    parts: list[Text] = []
    read = 0
    while (opens := text.find(_OPENS, read)) >= 0 and (closes := text.find(_CLOSES, opens)) >= 0:
        ends = closes + len(_CLOSES)
        shown = text[read:opens].rstrip()
        if shown:
            parts.append(Text(shown))
        parts.append(Text(text[read + len(shown) : ends], hidden=True))
        read = ends
    if read < len(text) or not parts:
        parts.append(Text(text[read:]))
    return Message("user", tuple(parts))


def title_of(message: Message) -> str:
    """What a conversation that begins with this message is called: the first line of what is shown of it."""
    lines = message.text.strip().splitlines()
    line = " ".join(lines[0].split()) if lines else ""
    if len(line) <= TITLE_CHARS_MAX:
        return line or NO_TITLE
    kept = line[:TITLE_CHARS_MAX]  # the last of these makes room for the ellipsis, or shows that a word ends here
    words, _, _ = kept.rpartition(" ")
    return f"{words or kept[:-1]}…"
