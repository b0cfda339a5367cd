"""What an ID token has to prove, and what its claims say of a user. No request is made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from receiver.ops.openid.answers import ProviderRefused
from receiver.variables import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from joserfc.jwt import ClaimsOption

Claims = dict[str, Any]

CLOCK_SKEW: Final = 60
"""Seconds by which the clocks of provider and receiver may differ."""
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Only those whose keys a provider publishes; neither ``none`` nor a shared secret."""
MAX_NAME: Final = 255


def signed_claims(id_token: str, keys: KeySet) -> Claims:
    """Return the claims of a token that one of *keys* signed. Raises ``InvalidKeyIdError`` for an unknown key.

    Raises another ``JoseError`` or a ``ValueError`` for a token that is not what it should be.
    """
    return jwt.decode(id_token, keys, ALGORITHMS).claims


def check_claims(
    claims: Claims, *, issuer: str, client_id: str, now: int, nonce: str | None = None, subject: str | None = None
) -> None:
    """Return when the claims are for this client, now, and for the *nonce* or *subject* that was expected.

    Raises ``ProviderRefused``.
    """
    required: dict[str, ClaimsOption] = {
        "iss": {"essential": True, "value": issuer},
        "aud": {"essential": True, "value": client_id},
        "sub": {"essential": True},
        "exp": {"essential": True},
        "iat": {"essential": True},
    }
    if nonce is not None:
        required["nonce"] = {"essential": True, "value": nonce}
    if subject is not None:
        required["sub"] = {"essential": True, "value": subject}
    try:
        jwt.JWTClaimsRegistry(now=now, leeway=CLOCK_SKEW, **required).validate(claims)
    except JoseError as error:
        raise ProviderRefused(f"its ID token is not accepted ({error})") from None
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise ProviderRefused("its ID token was issued for another client")


def role_of(groups: object, roles: Mapping[str, Role]) -> Role | None:
    """Return the role that allows most among those of *groups*, a claim of any form."""
    member_of: Iterable[object] = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    found = {roles[group] for group in member_of if isinstance(group, str) and group in roles}
    return Role.OPERATOR if Role.OPERATOR in found else next(iter(found), None)


def name_of(claims: Claims) -> str:
    """Return what a user is called in lists and records."""
    verified = claims.get("email_verified", True) in {True, "true"}
    for name in (claims.get("email") if verified else None, claims.get("preferred_username"), claims.get("sub")):
        if isinstance(name, str) and 0 < len(name.strip()) <= MAX_NAME and name.isprintable():
            return name.strip()
    raise ProviderRefused("it gives the user neither an e-mail address nor a name that can be shown")


def usable_keys(keys: Iterable[dict[str, Any]]) -> KeySet:
    """Return those keys that can be read; a provider may publish kinds that are not known here."""
    usable = []
    for key in keys:
        try:
            usable.append(JWKRegistry.import_key(key))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return KeySet(usable)
