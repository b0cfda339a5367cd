"""Wanted, stored, registered → changes. Pure: no database, no network, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from receiver.webhooks.addresses import endpoint_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from receiver.bootstrap.desired import Wanted
    from receiver.bootstrap.match import Match
    from receiver.opencard.webhooks import Group, Header, RegisteredWebhook
    from receiver.webhooks.managed import ManagedWebhook

MASK: Final = "***"
MASKED: Final = re.compile(r"[*•]+.{0,4}")
"""How a value looks that an API tells only to those who know it already."""


class Action(StrEnum):
    """What is done to a webhook."""

    CREATE = "create"
    UPDATE = "update"
    CHALLENGE = "challenge"
    """It is inactive: give it a new URL, so that OpenCard asks again."""
    DISABLE = "disable"
    ADD_HEADER = "add-header"
    REPLACE_HEADER = "replace-header"
    REMOVE_HEADER = "remove-header"
    ADD_GROUP = "add-group"
    REMOVE_GROUP = "remove-group"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be; secret values are masked."""

    field: str
    registered: Any
    desired: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One call to OpenCard, or two that belong together."""

    action: Action
    differences: tuple[Difference, ...] = ()
    opencard_webhook_id: int | None = None
    subject: str = ""
    """The header's name or the buyer party that is added, replaced or removed."""
    subject_id: int | str | None = None
    """OpenCard's id of the header or group that is replaced or removed."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What is registered on a webhook beside it; ``None`` where it was not asked for."""

    headers: tuple[Header, ...] | None = None
    groups: tuple[Group, ...] | None = None
    unlisted: frozenset[str] = frozenset()
    """``headers``, ``groups``, or both, where OpenCard has no route that lists them.

    What was registered by this service is there instead, without ids: it can be added to, not replaced or removed.
    """


def plan(wanted: Wanted | None, matched: Match, extras: Extras, *, public_url: str, prune: bool) -> list[Change]:
    """Return what has to be done for one organization, in the order in which to do it; empty when all is as wanted.

    *wanted* is ``None`` for an organization that is left out: with *prune* its webhook is disabled. *prune* also
    removes headers and groups that are not wanted.
    """
    surplus = [_disable(webhook) for webhook in matched.surplus if webhook.enabled is not False]
    if wanted is None:
        webhook = matched.registered
        own = [_disable(webhook)] if webhook is not None and webhook.enabled is not False else []
        return [*own, *surplus] if prune else []
    headers = _header_changes(wanted, matched, extras.headers or (), prune=prune and "headers" not in extras.unlisted)
    groups = _group_changes(wanted, matched, extras.groups or (), prune=prune and "groups" not in extras.unlisted)
    return [
        *_webhook_changes(wanted, matched.stored, matched.registered, public_url),
        *headers,
        *groups,
        *surplus,
    ]


def _disable(webhook: RegisteredWebhook) -> Change:
    return Change(Action.DISABLE, (Difference("enabled", registered=webhook.enabled, desired=False),), webhook.id)


def _webhook_changes(
    wanted: Wanted, stored: ManagedWebhook | None, registered: RegisteredWebhook | None, public_url: str
) -> Iterator[Change]:
    if registered is None:
        yield Change(Action.CREATE, tuple(_everything(wanted, stored, public_url)))
        return
    differences = tuple(_differences(wanted, stored, registered, public_url))
    if differences:
        yield Change(Action.UPDATE, differences, registered.id)
    if registered.active is False and "url" not in {difference.field for difference in differences}:
        yield Change(Action.CHALLENGE, (Difference("active", registered=False, desired=True),), registered.id)


def _everything(wanted: Wanted, stored: ManagedWebhook | None, public_url: str) -> Iterator[Difference]:
    yield Difference("url", None, endpoint_url(public_url, stored.endpoint_key) if stored else "new")
    yield Difference("authentication_type", None, wanted.authentication_type.value)
    yield Difference("events", None, len(wanted.flags_on))


def _differences(
    wanted: Wanted, stored: ManagedWebhook | None, registered: RegisteredWebhook, public_url: str
) -> Iterator[Difference]:
    """Yield what an update mends. What an answer does not tell is taken to be right."""
    if stored is None:
        yield Difference("url", registered.url, "new")
        yield Difference("secret", "not stored", "new")
    else:
        url = endpoint_url(public_url, stored.endpoint_key)
        if registered.url != url:
            yield Difference("url", registered.url, url)
        if not stored.acknowledged or stored.opencard_webhook_id != registered.id:
            yield Difference("secret", "unknown", "as stored")
    if registered.enabled is False:
        yield Difference("enabled", registered=False, desired=True)
    kinds = [registered.authentication_type or wanted.authentication_type.value]
    if stored is not None:
        kinds.append(stored.authentication_type.value)
    other = next((kind for kind in kinds if kind != wanted.authentication_type.value), None)
    if other is not None:
        yield Difference("authentication_type", other, wanted.authentication_type.value)
    elif stored is not None:
        yield from _credential_differences(wanted, stored, registered)
    for flag, on in wanted.flags.items():
        if flag not in wanted.unavailable and registered.flags.get(flag, on) != on:
            yield Difference(flag, registered.flags[flag], on)


def _credential_differences(
    wanted: Wanted, stored: ManagedWebhook, registered: RegisteredWebhook
) -> Iterator[Difference]:
    told = {"basic_username": registered.basic_username, "custom_key": registered.custom_key}
    for name in ("basic_username", "basic_password", "custom_key", "custom_value"):
        kept = getattr(stored.credentials, name)
        desired = wanted.credentials_given.get(name, kept)
        if kept != desired:
            yield Difference(name, *_shown(name, kept, desired))
        elif kept and told.get(name) not in (None, kept):
            yield Difference(name, told[name], kept)


def _shown(name: str, kept: str, desired: str) -> tuple[str, str]:
    return (MASK, MASK) if name in {"basic_password", "custom_value"} else (kept, desired)


def credentials_differ(wanted: Wanted, stored: ManagedWebhook) -> bool:
    """Return whether what proves the webhook's deliveries has to be replaced."""
    return wanted.authentication_type is not stored.authentication_type or any(
        getattr(stored.credentials, name) != value for name, value in wanted.credentials_given.items()
    )


def _header_changes(wanted: Wanted, matched: Match, registered: Iterable[Header], *, prune: bool) -> Iterator[Change]:
    webhook_id = matched.registered.id if matched.registered else None
    known = {header.key.lower(): header for header in registered}
    remembered = {} if matched.stored is None else matched.stored.headers
    for key, value in wanted.headers.items():
        header = known.pop(key.lower(), None)
        if header is None:
            yield Change(Action.ADD_HEADER, (Difference(f"headers.{key}", None, MASK),), webhook_id, key)
        elif _value_of(header, remembered) != value:
            differences = (Difference(f"headers.{key}", MASK, MASK),)
            yield Change(Action.REPLACE_HEADER, differences, webhook_id, key, header.id or None)
    if prune:
        for header in known.values():
            yield Change(
                Action.REMOVE_HEADER,
                (Difference(f"headers.{header.key}", MASK, None),),
                webhook_id,
                header.key,
                header.id,
            )


def _value_of(header: Header, remembered: Mapping[str, str]) -> str | None:
    """Return a registered header's value: as OpenCard tells it, else as this service registered it."""
    if header.value is None or MASKED.fullmatch(header.value):
        return remembered.get(header.key.lower(), header.value)
    return header.value


def _group_changes(wanted: Wanted, matched: Match, registered: Iterable[Group], *, prune: bool) -> Iterator[Change]:
    webhook_id = matched.registered.id if matched.registered else None
    known = {str(group.buyer_party): group for group in registered}
    for party in wanted.groups:
        if known.pop(party, None) is None:
            yield Change(Action.ADD_GROUP, (Difference("groups", None, party),), webhook_id, party)
    if prune:
        for party, group in known.items():
            yield Change(Action.REMOVE_GROUP, (Difference("groups", party, None),), webhook_id, party, group.id)
