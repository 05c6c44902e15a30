"""Tokens of web identities: JSON Web Tokens, checked against the key of their issuer."""

from __future__ import annotations

from typing import Any

from cosfs.emulator.accounts import Provider


class TokenError(Exception):
    """A token proves nothing; the text says why."""


def verify(token: str, provider: Provider, now: float) -> dict[str, Any]:
    """Return the claims of a token. Its times are compared with the emulator's clock, not the machine's."""
    import jwt  # only needed here, and slow to import

    options: Any = {"verify_signature": bool(provider.key), "verify_aud": bool(provider.audience)}
    options |= dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            provider.key,
            algorithms=list(provider.algorithms),
            audience=provider.audience or None,
            options=options,
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise TokenError(f"The token is not valid: {error}.") from error
    for name, sign in (("exp", 1), ("nbf", -1)):
        value = claims.get(name)
        if value is not None and (not isinstance(value, int | float) or (value - now) * sign <= 0):
            raise TokenError("The token has expired." if name == "exp" else "The token is not valid yet.")
    return claims
