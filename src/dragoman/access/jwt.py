"""JSON Web Tokens of the one kind that we sign and accept: HS256, compact (RFC 7515, 7519), by way of PyJWT.

Which algorithm it is, is said here with every call and never taken from a token. Times are compared by the caller's
clock, not by the library's. See docs/decisions/0045.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dragoman.core.errors import NotAuthenticated

if TYPE_CHECKING:
    from jwt.types import Options

TEXT_CHARS_MAX = 8192
SKEW_S = 60.0
"""Clocks differ: `exp` and `nbf` count only once they are this far off."""

ALGORITHM = "HS256"
REFUSED = "This token is not one that was signed here for this, or it has expired; ask for a new one."

_OPTIONS: "Options" = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""The signature is what the library checks; what else a token says is for who asks."""


def sign(claims: Mapping[str, Any], secret: str) -> str:
    """The token's text. Claims with times of their own (`iat`, `exp`: Unix seconds) are the caller's to set."""
    import jwt  # noqa: PLC0415 most servers sign nothing

    return jwt.encode(dict(claims), secret, algorithm=ALGORITHM)


def verify(text: str, secret: str, *, now: float) -> dict[str, Any]:
    """The claims of a token that was signed with the secret and is good now; `exp` need not be there. Raises
    NotAuthenticated, always with the same words."""
    import jwt  # noqa: PLC0415 as above

    if len(text) > TEXT_CHARS_MAX or not text.isascii() or not secret:
        raise NotAuthenticated(REFUSED)
    try:
        claims = jwt.decode(text, secret, algorithms=[ALGORITHM], options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        raise NotAuthenticated(REFUSED) from None
    until, since = claims.get("exp"), claims.get("nbf")
    if until is not None and not (_is_number(until) and now < until + SKEW_S):
        raise NotAuthenticated(REFUSED)
    if since is not None and not (_is_number(since) and now > since - SKEW_S):
        raise NotAuthenticated(REFUSED)
    return claims


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
