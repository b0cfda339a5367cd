"""What the provider keeps: values that are replaced, never changed, so that any thread may hold one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from receiver.sandbox.provider.events import FLAG_OF
from receiver.sandbox.registration import Registration

if TYPE_CHECKING:
    from datetime import datetime

AuthenticationType: TypeAlias = Literal["none", "basic", "oauth", "custom"]


@dataclass(frozen=True, slots=True)
class ProviderOrganization:
    """A client organization of the EMS."""

    id: int
    account_id: int
    reference_id: str
    """The EMS's own id."""
    name: str
    buyer_party: str
    """Its organization number: what groups filter by."""
    tpa_id: str
    billing_id: int | None = None
    """Its billing profile; without one it may have only the flags that need none."""


@dataclass(frozen=True, slots=True)
class ProviderBilling:
    """A billing profile; it may serve several organizations."""

    id: int
    account_id: int
    name: str
    products: frozenset[str]
    """Those that are switched on."""


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client of an account (an account_client)."""

    id: str
    account_id: int
    name: str
    scopes: tuple[str, ...]
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A bearer token."""

    value: str = field(repr=False)
    client_id: str
    account_id: int
    scopes: frozenset[str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ProviderHeader:
    """A custom header of a webhook."""

    id: int
    key: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProviderGroup:
    """A buyer party whose transactions a webhook gets."""

    id: int
    buyer_party: str


@dataclass(frozen=True, slots=True)
class ProviderWebhook:
    """A webhook as it is registered; secrets stay out of ``repr``."""

    id: int
    organization_id: int
    url: str
    secret: str = field(repr=False)
    enabled: bool = True
    active: bool = False
    """Whether the last challenge passed."""
    authentication_type: AuthenticationType = "none"
    basic_username: str | None = field(default=None, repr=False)
    basic_password: str | None = field(default=None, repr=False)
    custom_key: str | None = None
    custom_value: str | None = field(default=None, repr=False)
    oauth_access_token_url: str | None = None
    # The contract names the URL only: the names of the client's id and secret are a guess.
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = field(default=None, repr=False)
    flags: frozenset[str] = frozenset()
    headers: tuple[ProviderHeader, ...] = ()
    groups: tuple[ProviderGroup, ...] = ()

    def wants(self, event: str, organization: ProviderOrganization) -> bool:
        """Return whether *event* of its *organization* is delivered to it: flagged, and of a buyer party it is for."""
        if FLAG_OF.get(event) not in self.flags:
            return False
        if not self.groups or not event.startswith("card.transaction."):
            return True
        return organization.buyer_party in {group.buyer_party for group in self.groups}

    def registration(self, organization: ProviderOrganization) -> Registration:
        """Return what the sender has to know of it."""
        return Registration(
            url=self.url,
            secret=self.secret,
            organization_reference_id=organization.reference_id,
            authentication_type=self.authentication_type,
            basic_username=self.basic_username,
            basic_password=self.basic_password,
            custom_key=self.custom_key,
            custom_value=self.custom_value,
            oauth_access_token_url=self.oauth_access_token_url,
            oauth_client_id=self.oauth_client_id,
            oauth_client_secret=self.oauth_client_secret,
            headers_registered={header.key: header.value for header in self.headers},
        )


@dataclass(frozen=True, slots=True)
class ProviderLogEntry:
    """One attempt to deliver, as the delivery log has it."""

    id: int
    webhook_id: int
    event: str
    status: int | None
    """``None`` when no answer was seen."""
    at: datetime
    body: bytes = field(repr=False)
