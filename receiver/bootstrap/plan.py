"""Wanted, stored, registered → changes. Pure: no database, no network, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from receiver.webhooks.addresses import endpoint_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from receiver.bootstrap.desired import DesiredWebhook
    from receiver.bootstrap.match import Match
    from receiver.opencard.webhooks import RegisteredGroup, RegisteredHeader, RegisteredWebhook
    from receiver.webhooks.managed import ManagedWebhook

MASK: Final = "***"
MASKED: Final = re.compile(r"[*•]+.{0,4}")
"""The form of a masked value in an answer."""


class Action(StrEnum):
    """The action on a webhook."""

    CREATE = "create"
    UPDATE = "update"
    CHALLENGE = "challenge"
    """It is inactive: give it a new URL, which triggers a new challenge."""
    DISABLE = "disable"
    ADD_HEADER = "add-header"
    REPLACE_HEADER = "replace-header"
    REMOVE_HEADER = "remove-header"
    ADD_GROUP = "add-group"
    REMOVE_GROUP = "remove-group"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field that differs; secret values are masked."""

    field: str
    registered: Any
    desired: Any


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """One call to OpenCard, or two that belong together."""

    action: Action
    differences: tuple[FieldDifference, ...] = ()
    opencard_webhook_id: int | None = None
    subject: str = ""
    """The header's name or the buyer party that is added, replaced or removed."""
    subject_id: int | str | None = None
    """OpenCard's id of the header or group that is replaced or removed."""


@dataclass(frozen=True, slots=True)
class Extras:
    """The headers and groups of a registered webhook; ``None`` if they were not read."""

    headers: tuple[RegisteredHeader, ...] | None = None
    groups: tuple[RegisteredGroup, ...] | None = None
    unlisted: frozenset[str] = frozenset()
    """``headers``, ``groups``, or both, where OpenCard has no route that lists them.

    Those that this service registered are listed instead, without ids: others can be added, but none replaced or
    removed.
    """


def plan(
    desired: DesiredWebhook | None, matched: Match, extras: Extras, *, public_url: str, prune: bool
) -> list[WebhookChange]:
    """Return the changes for one organization, in the order in which to apply them.

    *desired* is ``None`` for an organization that is left out: with *prune* its webhook is disabled. *prune* also
    removes headers and groups that are not desired.
    """
    surplus = [_disable(webhook) for webhook in matched.surplus if webhook.enabled is not False]
    if desired is None:
        webhook = matched.registered
        own = [_disable(webhook)] if webhook is not None and webhook.enabled is not False else []
        return [*own, *surplus] if prune else []
    headers = _header_changes(desired, matched, extras.headers or (), prune=prune and "headers" not in extras.unlisted)
    groups = _group_changes(desired, matched, extras.groups or (), prune=prune and "groups" not in extras.unlisted)
    return [
        *_webhook_changes(desired, matched.stored, matched.registered, public_url),
        *headers,
        *groups,
        *surplus,
    ]


def _disable(webhook: RegisteredWebhook) -> WebhookChange:
    return WebhookChange(
        Action.DISABLE, (FieldDifference("enabled", registered=webhook.enabled, desired=False),), webhook.id
    )


def _webhook_changes(
    desired: DesiredWebhook, stored: ManagedWebhook | None, registered: RegisteredWebhook | None, public_url: str
) -> Iterator[WebhookChange]:
    if registered is None:
        yield WebhookChange(Action.CREATE, tuple(_everything(desired, stored, public_url)))
        return
    differences = tuple(_differences(desired, stored, registered, public_url))
    inactive = (FieldDifference("active", registered=False, desired=True),) if registered.active is False else ()
    if "url" in {difference.field for difference in differences}:  # which triggers a new challenge, too
        differences, inactive = (*differences, *inactive), ()
    if differences:
        yield WebhookChange(Action.UPDATE, differences, registered.id)
    if inactive:
        yield WebhookChange(Action.CHALLENGE, inactive, registered.id)


def _everything(desired: DesiredWebhook, stored: ManagedWebhook | None, public_url: str) -> Iterator[FieldDifference]:
    yield FieldDifference("url", None, endpoint_url(public_url, stored.endpoint_key) if stored else "new")
    yield FieldDifference("authentication_type", None, desired.authentication_type.value)
    yield FieldDifference("events", None, len(desired.flags_on))


def _differences(
    desired: DesiredWebhook, stored: ManagedWebhook | None, registered: RegisteredWebhook, public_url: str
) -> Iterator[FieldDifference]:
    """Yield what an update corrects. A field that the answer lacks counts as correct."""
    if stored is None:
        yield FieldDifference("url", registered.url, "new")
        yield FieldDifference("secret", "not stored", "new")
    else:
        url = endpoint_url(public_url, stored.endpoint_key)
        if registered.url != url:
            yield FieldDifference("url", registered.url, url)
        if not stored.acknowledged or stored.opencard_webhook_id != registered.id:
            yield FieldDifference("secret", "unknown", "as stored")
    if registered.enabled is False:
        yield FieldDifference("enabled", registered=False, desired=True)
    kinds = [registered.authentication_type or desired.authentication_type.value]
    if stored is not None:
        kinds.append(stored.authentication_type.value)
    other = next((kind for kind in kinds if kind != desired.authentication_type.value), None)
    if other is not None:
        yield FieldDifference("authentication_type", other, desired.authentication_type.value)
    elif stored is not None:
        yield from _credential_differences(desired, stored, registered)
    for flag, on in desired.flags.items():
        if flag not in desired.unavailable and registered.flags.get(flag, on) != on:
            yield FieldDifference(flag, registered.flags[flag], on)


def _credential_differences(
    desired: DesiredWebhook, stored: ManagedWebhook, registered: RegisteredWebhook
) -> Iterator[FieldDifference]:
    reported = {"basic_username": registered.basic_username, "custom_key": registered.custom_key}
    for name in ("basic_username", "basic_password", "custom_key", "custom_value"):
        stored_value = getattr(stored.credentials, name)
        expected = desired.given_credentials.get(name, stored_value)
        if stored_value != expected:
            yield FieldDifference(name, *_shown(name, stored_value, expected))
        elif stored_value and reported.get(name) not in (None, stored_value):
            yield FieldDifference(name, reported[name], stored_value)


def _shown(name: str, stored_value: str, expected: str) -> tuple[str, str]:
    return (MASK, MASK) if name in {"basic_password", "custom_value"} else (stored_value, expected)


def credentials_differ(desired: DesiredWebhook, stored: ManagedWebhook) -> bool:
    """Whether the credentials of the webhook's deliveries have to be replaced."""
    return desired.authentication_type is not stored.authentication_type or any(
        getattr(stored.credentials, name) != value for name, value in desired.given_credentials.items()
    )


def _header_changes(
    desired: DesiredWebhook, matched: Match, registered: Iterable[RegisteredHeader], *, prune: bool
) -> Iterator[WebhookChange]:
    webhook_id = matched.registered.id if matched.registered else None
    known = {header.key.lower(): header for header in registered}
    remembered = {} if matched.stored is None else matched.stored.headers
    for key, value in desired.headers.items():
        header = known.pop(key.lower(), None)
        if header is None:
            yield WebhookChange(Action.ADD_HEADER, (FieldDifference(f"headers.{key}", None, MASK),), webhook_id, key)
        elif _value_of(header, remembered) != value:
            differences = (FieldDifference(f"headers.{key}", MASK, MASK),)
            yield WebhookChange(Action.REPLACE_HEADER, differences, webhook_id, key, header.id or None)
    if prune:
        for header in known.values():
            yield WebhookChange(
                Action.REMOVE_HEADER,
                (FieldDifference(f"headers.{header.key}", MASK, None),),
                webhook_id,
                header.key,
                header.id,
            )


def _value_of(header: RegisteredHeader, remembered: Mapping[str, str]) -> str | None:
    """Return a registered header's value: as OpenCard reports it, else as this service registered it."""
    if header.value is None or MASKED.fullmatch(header.value):
        return remembered.get(header.key.lower(), header.value)
    return header.value


def _group_changes(
    desired: DesiredWebhook, matched: Match, registered: Iterable[RegisteredGroup], *, prune: bool
) -> Iterator[WebhookChange]:
    webhook_id = matched.registered.id if matched.registered else None
    known = {str(group.buyer_party): group for group in registered}
    for party in desired.groups:
        if known.pop(party, None) is None:
            yield WebhookChange(Action.ADD_GROUP, (FieldDifference("groups", None, party),), webhook_id, party)
    if prune:
        for party, group in known.items():
            yield WebhookChange(
                Action.REMOVE_GROUP, (FieldDifference("groups", party, None),), webhook_id, party, group.id
            )
