"""Organizations, their webhooks, custom headers and buyer-party groups (contract, section 3).

Undocumented parts are read tolerantly: a field that an answer lacks is ``None``, an unknown one is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import ResourceMissing, RouteMissing
from receiver.opencard import routes
from receiver.opencard.client import Answer, send_once

if TYPE_CHECKING:
    from typing import Self

    from receiver.opencard.client import OpenCard
    from receiver.opencard.routes import Route

OAUTH_FIELDS: Final = {
    "url": "oauth_access_token_url",
    "client_id": "oauth_client_id",
    "client_secret": "oauth_client_secret",
}
"""What OpenCard needs for OAuth-authenticated deliveries → its webhook fields.

Only ``oauth_access_token_url`` is documented. The two others are named like the credentials of the other types
(``basic_username``, ``custom_key``): an assumption that is made only here.
"""
NO_FLAGS: Final = frozenset({"enabled", "active"})


class Organization(Answer, frozen=True):
    """A client organization of the account; *reference_id* is the EMS's id of it."""

    id: int
    reference_id: str | None = None
    name: str | None = None
    billing_id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    """Its billing profile; ``None`` where it has none, unset where the answer lacks the field."""

    @classmethod
    def read(cls, item: Any) -> Self:  # noqa: ANN401 - any JSON value
        """Parse an organization; a numeric reference becomes a string."""
        if isinstance(item, dict) and isinstance(item.get("reference_id"), int):
            item = {**item, "reference_id": str(item["reference_id"])}
        return msgspec.convert(item, cls, strict=False)


class RegisteredWebhook(Answer, frozen=True):
    """A webhook as OpenCard reports it, without secrets and credentials."""

    id: int
    url: str = ""
    enabled: bool | None = None
    active: bool | None = None
    """Whether the challenge has passed."""
    authentication_type: str | None = None
    basic_username: str | None = None
    custom_key: str | None = None
    flags: Mapping[str, bool] = {}
    """Every other boolean field: which events are switched on."""

    @property
    def flags_on(self) -> frozenset[str]:
        """The flags that are on."""
        return frozenset(flag for flag, on in self.flags.items() if on)

    @classmethod
    def read(cls, item: Any) -> Self:  # noqa: ANN401 - any JSON value
        """Parse a webhook and collect its flags. Raises ``msgspec.ValidationError``."""
        fields = msgspec.convert(item, dict[str, Any])
        flags = {name: bool(value) for name, value in fields.items() if value in (0, 1) and name not in NO_FLAGS}
        return msgspec.convert({**fields, "flags": flags}, cls, strict=False)


class RegisteredHeader(Answer, frozen=True):
    """A custom header of a webhook; *value* is ``None`` where OpenCard does not report it."""

    id: int | str
    key: str
    value: str | None = None

    def __repr__(self) -> str:
        """Leave the value out: it may be a secret."""
        return f"Header(id={self.id!r}, key={self.key!r})"


class RegisteredGroup(Answer, frozen=True):
    """A buyer party whose transactions are sent to the webhook; if there are groups, only theirs are."""

    id: int | str
    buyer_party: str | int


class Webhooks:
    """What is asked about webhooks: reads with one token, writes with another, each with just its scopes."""

    def __init__(self, reading: OpenCard, writing: OpenCard | None = None) -> None:
        self._reading = reading
        self._writing = writing or reading

    def organizations(self) -> list[Organization]:
        """Return every organization of the account."""
        return self._reading.list(routes.LIST_ORGANIZATIONS, Organization)

    def of(self, organization_id: int) -> list[RegisteredWebhook]:
        """Return every webhook of an organization."""
        return self._reading.list(routes.LIST_WEBHOOKS, RegisteredWebhook, organization=organization_id)

    def get(self, organization_id: int, webhook_id: int) -> RegisteredWebhook:
        """Return one webhook. Raises ``ResourceMissing`` when it was deleted.

        Only an older specification has this route: where it is missing, the webhook is looked for in the list.
        """
        try:
            return self._reading.call(
                routes.GET_WEBHOOK, RegisteredWebhook, organization=organization_id, webhook=webhook_id
            )
        except (ResourceMissing, RouteMissing) as missing:
            with suppress(ResourceMissing):
                for webhook in self.of(organization_id):
                    if webhook.id == webhook_id:
                        return webhook
            if isinstance(missing, ResourceMissing):
                raise
            raise ResourceMissing(
                f"webhook {webhook_id} of organization {organization_id} is not in its list"
            ) from None

    def create(self, organization_id: int, fields: Mapping[str, Any]) -> RegisteredWebhook:
        """Create a webhook, once: its unique ``url`` shows whether it already exists."""

        def send() -> RegisteredWebhook:
            return self._writing.call(
                routes.CREATE_WEBHOOK, RegisteredWebhook, fields=fields, organization=organization_id
            )

        def look() -> RegisteredWebhook | None:
            return next((webhook for webhook in self.of(organization_id) if webhook.url == fields["url"]), None)

        return send_once(send, look, seconds=self._writing.seconds)

    def update(self, organization_id: int, webhook_id: int, fields: Mapping[str, Any]) -> None:
        """Set *fields* of a webhook; a changed ``url`` makes OpenCard run the challenge again."""
        self._writing.send(routes.UPDATE_WEBHOOK, fields=fields, organization=organization_id, webhook=webhook_id)

    def headers(self, organization_id: int, webhook_id: int) -> list[RegisteredHeader]:
        """Return the custom headers of a webhook."""
        return self._reading.list(
            routes.LIST_HEADERS, RegisteredHeader, organization=organization_id, webhook=webhook_id
        )

    def add_header(self, organization_id: int, webhook_id: int, *, key: str, value: str) -> None:
        """Add a custom header, once."""

        def send() -> bool:
            self._send(routes.CREATE_HEADER, {"key": key, "value": value}, organization_id, webhook_id)
            return True

        def look() -> bool | None:
            return any(header.key == key for header in self.headers(organization_id, webhook_id)) or None

        send_once(send, look, seconds=self._writing.seconds)

    def remove_header(self, organization_id: int, webhook_id: int, header_id: int | str) -> None:
        """Remove a custom header; one that does not exist counts as removed."""
        self._writing.delete(routes.DELETE_HEADER, organization=organization_id, webhook=webhook_id, header=header_id)

    def groups(self, organization_id: int, webhook_id: int) -> list[RegisteredGroup]:
        """Return the buyer-party groups of a webhook."""
        return self._reading.list(routes.LIST_GROUPS, RegisteredGroup, organization=organization_id, webhook=webhook_id)

    def add_group(self, organization_id: int, webhook_id: int, *, buyer_party: str) -> None:
        """Add a buyer party, once."""

        def send() -> bool:
            self._send(routes.CREATE_GROUP, {"buyer_party": buyer_party}, organization_id, webhook_id)
            return True

        def look() -> bool | None:
            parties = {str(group.buyer_party) for group in self.groups(organization_id, webhook_id)}
            return buyer_party in parties or None

        send_once(send, look, seconds=self._writing.seconds)

    def remove_group(self, organization_id: int, webhook_id: int, group_id: int | str) -> None:
        """Remove a buyer party; one that does not exist counts as removed."""
        self._writing.delete(routes.DELETE_GROUP, organization=organization_id, webhook=webhook_id, group=group_id)

    def send_test(self, organization_id: int, webhook_id: int, event: str) -> bytes:
        """Make OpenCard send a test delivery of *event*, and return its answer. Never retried."""
        return self._writing.send(routes.TEST_WEBHOOK, organization=organization_id, webhook=webhook_id, event=event)

    def _send(self, route: Route, fields: Mapping[str, Any], organization_id: int, webhook_id: int) -> None:
        self._writing.send(route, fields=fields, organization=organization_id, webhook=webhook_id)
