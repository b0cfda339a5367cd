"""The scopes of an account's OAuth client, and which command needs which (contract, section 2)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.errors import OperationRefused
from receiver.opencard import routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.opencard.routes import Route


def _each(prefix: str, verbs: str, description: str) -> dict[str, str]:
    return {f"{prefix}-{verb}": description for verb in verbs.split()}


SCOPES: Final[dict[str, str]] = {
    **_each("accounts", "read write", "the account's settings"),
    **_each("oauth-clients", "read write", "OAuth clients"),
    **_each("public-records", "read", "company registry"),
    **_each("account-tpas", "read write delete", "TPAs: companies' processing authorizations"),
    **_each("account-tpa-signatories", "read write delete", "signatories of TPAs"),
    **_each("account-tpa-identities", "read", "identities on a TPA"),
    **_each("account-card-issuers", "read write delete", "card programs of the account"),
    **_each("payment-products", "read", "payment products (formerly card programs)"),
    **_each("account-payment-products", "read write", "payment products of the account (formerly card programs)"),
    **_each("organizations", "read write delete", "organizations: the EMS's end clients"),
    **_each("card-holders", "read write delete", "card holders"),
    **_each("webhooks", "read write", "webhooks"),
    **_each("webhook-events", "read", "the webhook delivery log"),
    **_each("webhook-headers", "read write delete", "custom headers of a webhook"),
    **_each("webhook-groups", "read write delete", "buyer-party filters of a webhook"),
    **_each("billings", "read write", "billing profiles"),
    **_each("receipts", "write", "receipt OCR"),
    **_each("files", "read", "file downloads, receipts for one"),
    **_each("card-issuers", "read", "catalogue of card programs"),
    **_each("environmental-impacts", "read", "CO2 data"),
    **_each("account-users", "read write delete", "users of the account"),
    **_each("account-statistics", "read", "statistics"),
}
"""Every scope → what it allows access to, in the provider's order."""

RECOMMENDED: Final = frozenset(
    {
        *("account-tpas-read", "account-tpas-write", "account-tpa-signatories-write", "account-tpa-identities-read"),
        *("organizations-read", "organizations-write", "card-holders-read", "card-holders-write"),
        *("webhooks-read", "webhooks-write", "webhook-events-read", "public-records-read"),
        *("account-card-issuers-read", "account-card-issuers-write", "oauth-clients-read"),
        *("billings-write", "receipts-write"),
    }
)
"""The provider's recommendation for a new EMS. Custom headers and buyer-party groups need more."""
FIRST_RUN: Final = RECOMMENDED | {routes.LIST_BILLINGS.scope, routes.DOWNLOAD_FILE.scope}
"""What a client needs for a first run of this service, receipts included: the recommended scopes and two more."""


@dataclass(frozen=True, slots=True)
class Need:
    """Routes that a command uses, always or only under the condition *when*."""

    command: str
    routes: tuple[Route, ...]
    when: str = ""

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of its routes."""
        return scopes_of(self.routes)

    def __str__(self) -> str:
        """Return the command, and the condition in brackets."""
        return f"{self.command} ({self.when})" if self.when else self.command


READ_WEBHOOKS: Final = Need("bootstrap --check", (routes.LIST_ORGANIZATIONS, routes.LIST_WEBHOOKS, routes.GET_WEBHOOK))
READ_BILLINGS: Final = Need(
    "bootstrap --check", (routes.LIST_BILLINGS,), "to know which events the billing allows; else it learns by trying"
)
READ_HEADERS: Final = Need("bootstrap --check", (routes.LIST_HEADERS,), "with headers")
READ_GROUPS: Final = Need("bootstrap --check", (routes.LIST_GROUPS,), "with groups")
NEEDS: Final = (
    READ_WEBHOOKS,
    READ_BILLINGS,
    READ_HEADERS,
    READ_GROUPS,
    Need("bootstrap", (*READ_WEBHOOKS.routes, routes.CREATE_WEBHOOK, routes.UPDATE_WEBHOOK)),
    Need("bootstrap", (routes.LIST_HEADERS, routes.CREATE_HEADER), "with headers"),
    Need("bootstrap", (routes.DELETE_HEADER,), "changing or pruning headers"),
    Need("bootstrap", (routes.LIST_GROUPS, routes.CREATE_GROUP), "with groups"),
    Need("bootstrap", (routes.DELETE_GROUP,), "pruning groups"),
    Need("webhooks rotate-secret", (routes.GET_WEBHOOK, routes.UPDATE_WEBHOOK)),
    Need(
        "webhooks test",
        (routes.LIST_WEBHOOKS, routes.GET_WEBHOOK, routes.CREATE_WEBHOOK, routes.UPDATE_WEBHOOK, routes.TEST_WEBHOOK),
    ),
    Need("doctor", (routes.LIST_ORGANIZATIONS, routes.GET_WEBHOOK)),
    Need("reconcile", (routes.LIST_DELIVERY_LOG,)),
    Need("drill", (routes.LIST_DELIVERY_LOG, routes.LIST_ORGANIZATIONS, routes.LIST_WEBHOOKS)),
    Need("files fetch", (routes.DOWNLOAD_FILE,)),
    Need("files fetch", (routes.DOWNLOAD_TPA,), "signed TPAs"),
    Need("clients list", (routes.LIST_CLIENTS,)),
    Need("clients create", (routes.CREATE_CLIENT,)),
    Need("clients set-scopes", (routes.GET_CLIENT, routes.UPDATE_CLIENT)),
)
"""Which command uses which routes; scopes of conditional ones are only requested when the condition holds."""


def scopes_of(routes_used: Iterable[Route]) -> frozenset[str]:
    """Return the scopes of all *routes_used*."""
    return frozenset(route.scope for route in routes_used)


def commands_needing(scope: str) -> list[str]:
    """Return the commands that need *scope*, each with its condition."""
    return [str(need) for need in NEEDS if scope in need.scopes]


def commands() -> list[str]:
    """Return the commands that need any scope."""
    return list(dict.fromkeys(need.command for need in NEEDS))


def scopes_for(command: str) -> frozenset[str]:
    """Return every scope that *command* may need, with any options.

    Raises ``OperationRefused`` for a command that needs none, with the most similar ones that do.
    """
    if command not in commands():
        near = difflib.get_close_matches(command, commands(), n=3)
        suggestion = f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(commands())}"
        raise OperationRefused(f"{command!r} is no command that needs scopes: {suggestion}")
    return frozenset().union(*(need.scopes for need in NEEDS if need.command == command))


def unknown_scopes(names: Iterable[str]) -> list[str]:
    """Return a sentence for each scope that is not in the catalogue, with the most similar ones.

    The provider's catalogue grows, so an unknown scope that a user types or a client has is not an error.
    """
    return [_unknown(name) for name in names if name not in SCOPES]


def check_known(names: Iterable[str]) -> None:
    """Raise ``OperationRefused`` when a scope that this service itself requests is not in the catalogue."""
    unknown = unknown_scopes(names)
    if unknown:
        raise OperationRefused("; ".join(unknown))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, SCOPES, n=3)
    return f"there is no scope {name!r}: " + (
        f"the nearest are {', '.join(near)}" if near else "receiver scopes lists all"
    )
