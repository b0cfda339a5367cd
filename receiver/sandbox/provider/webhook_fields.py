"""A webhook's fields: as they are sent, what the rules make of them, and as they are shown (contract, section 3)."""

from __future__ import annotations

import ipaddress
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import httpx

from receiver.sandbox.provider.events import FLAGS
from receiver.sandbox.provider.refusals import against_the_rules, malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.sandbox.provider.resources import ProviderWebhook

AUTHENTICATION_TYPES: Final = ("none", "basic", "oauth", "custom")

_CREDENTIALS: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    "basic": ("basic_username", "basic_password"),
    "oauth": ("oauth_access_token_url",),
    "custom": ("custom_key", "custom_value"),
}
"""Authentication type → what it cannot do without."""

_NULLABLE: Final = (
    "basic_username",
    "basic_password",
    "custom_key",
    "custom_value",
    "oauth_access_token_url",
    "oauth_client_id",
    "oauth_client_secret",
)
_TEXTS: Final = ("url", "secret", "authentication_type", *_NULLABLE)
_SECRET: Final = ("secret", "basic_password", "custom_value", "oauth_client_secret")
_SHOWN: Final = (
    "id",
    "organization_id",
    "url",
    "enabled",
    "active",
    "authentication_type",
    "basic_username",
    "custom_key",
    "oauth_access_token_url",
    "oauth_client_id",
)


def changes_in(body: Mapping[str, Any], flags: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the fields that *body* sets; *flags* are those that are on before.

    What it does not know, and what is read-only, it passes over. Raises ``Refused`` (400) for a wrong type.
    """
    changes: dict[str, Any] = {}
    for name in _TEXTS:
        if name in body:
            value = body[name]
            if not isinstance(value, str) and not (value is None and name in _NULLABLE):
                raise malformed(f"The {name} must be a string.")
            changes[name] = value
    for name in ("enabled", *FLAGS):
        if name in body and not isinstance(body[name], bool):
            raise malformed(f"The {name} must be true or false.")
    if "enabled" in body:
        changes["enabled"] = body["enabled"]
    on = {flag for flag in FLAGS if body.get(flag, flag in flags)}
    return {**changes, "flags": frozenset(on)}


def check(fields_set: Mapping[str, Any]) -> None:
    """Raise ``Refused`` (422) when a business rule forbids a webhook with these fields."""
    if not _may_be_called(fields_set["url"]):
        raise against_the_rules("The url must be HTTPS and reachable.")
    if fields_set.get("secret") == "":
        raise against_the_rules("The secret must not be empty.")
    kind = fields_set.get("authentication_type", "none")
    if kind not in AUTHENTICATION_TYPES:
        raise against_the_rules(f"The authentication_type must be one of {', '.join(AUTHENTICATION_TYPES)}.")
    for name in _CREDENTIALS[kind]:
        if not fields_set.get(name):
            raise against_the_rules(f"The {name} is required when authentication_type is {kind}.")


def all_fields(webhook: ProviderWebhook) -> dict[str, Any]:
    """Return every field of *webhook*, by name."""
    return {field.name: getattr(webhook, field.name) for field in fields(webhook)}


def shown(webhook: ProviderWebhook, *, secrets: bool, secret: bool = False) -> dict[str, object]:
    """Return *webhook* as the API shows it: without secrets, unless *secrets*, or for the one time *secret*."""
    sent = {name for name in _SECRET if secrets or (secret and name == "secret")}
    return {
        **{name: getattr(webhook, name) for name in (*_SHOWN, *sorted(sent))},
        **{flag: flag in webhook.flags for flag in FLAGS},
        # unknown to the contract, so that its readers prove their tolerance
        "api_version": "1",
        "failures_in_a_row": 0,
        "links": {"self": f"/webhooks/{webhook.id}"},
    }


def _may_be_called(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    if not parsed.host:
        return False
    return parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(parsed.host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
