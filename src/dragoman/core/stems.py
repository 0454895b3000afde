"""English words without their endings, so that a word meets itself in another form: `failing` and `failed`.

Stores keep stems of what they index. Another rule here means that what is stored must be indexed anew.
"""

from functools import lru_cache


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """A word, in lower case, without its commonest English endings."""
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 4 and word[-1] in "ey" else word
