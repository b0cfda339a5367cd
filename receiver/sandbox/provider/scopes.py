"""Scopes and routes, as the provider enforces them (contract, sections 2 and 3).

Written apart from the receiver's own table: a scope that is wrong there is refused here.
"""

from __future__ import annotations

from typing import Final

APPLICATION: Final = "/api/v1/application"
"""Where the application API begins."""

READ: Final = ("read",)
READ_WRITE: Final = ("read", "write")
ALL_VERBS: Final = ("read", "write", "delete")

_VERBS: Final[dict[str, tuple[str, ...]]] = {
    "accounts": READ_WRITE,
    "oauth-clients": READ_WRITE,
    "public-records": READ,
    "account-tpas": ALL_VERBS,
    "account-tpa-signatories": ALL_VERBS,
    "account-tpa-identities": READ,
    "account-card-issuers": ALL_VERBS,
    "payment-products": READ,
    "account-payment-products": READ_WRITE,
    "organizations": ALL_VERBS,
    "card-holders": ALL_VERBS,
    "webhooks": READ_WRITE,
    "webhook-events": READ,
    "webhook-headers": ALL_VERBS,
    "webhook-groups": ALL_VERBS,
    "billings": READ_WRITE,
    "receipts": ("write",),
    "files": READ,
    "card-issuers": READ,
    "environmental-impacts": READ,
    "account-users": ALL_VERBS,
    "account-statistics": READ,
}

SCOPES: Final = tuple(f"{subject}-{verb}" for subject, verbs in _VERBS.items() for verb in verbs)
"""Every scope that an account_client can hold."""

RECOMMENDED: Final = (
    "account-tpas-read",
    "account-tpas-write",
    "account-tpa-signatories-write",
    "account-tpa-identities-read",
    "organizations-read",
    "organizations-write",
    "card-holders-read",
    "card-holders-write",
    "webhooks-read",
    "webhooks-write",
    "webhook-events-read",
    "public-records-read",
    "account-card-issuers-read",
    "account-card-issuers-write",
    "oauth-clients-read",
    "billings-write",
    "receipts-write",
)
"""What the provider recommends to begin with: without custom headers and groups."""

DOCUMENTED: Final = (*RECOMMENDED, "billings-read", "files-read")
"""What the receiver's own documents say that a client needs for a first run."""

CLIENTS: Final = "/accounts/<int:account>/oauthclients"
CLIENT: Final = f"{CLIENTS}/<client>"
ORGANIZATIONS: Final = "/accounts/<int:account>/organizations"
BILLINGS: Final = "/accounts/<int:account>/billings"
WEBHOOKS: Final = f"{ORGANIZATIONS}/<int:organization>/webhooks"
WEBHOOK: Final = f"{WEBHOOKS}/<int:webhook>"
TEST: Final = f"{WEBHOOK}/test/<event>"
EVENTS: Final = f"{WEBHOOK}/events"
HEADERS: Final = f"{WEBHOOK}/headers"
HEADER: Final = f"{HEADERS}/<int:header>"
GROUPS: Final = f"{WEBHOOK}/groups"
GROUP: Final = f"{GROUPS}/<int:group>"

SCOPE_OF: Final[dict[tuple[str, str], str]] = {
    ("GET", CLIENTS): "oauth-clients-read",
    ("POST", CLIENTS): "oauth-clients-write",
    ("GET", CLIENT): "oauth-clients-read",
    ("PUT", CLIENT): "oauth-clients-write",
    ("GET", ORGANIZATIONS): "organizations-read",
    ("GET", BILLINGS): "billings-read",
    ("GET", WEBHOOKS): "webhooks-read",
    ("POST", WEBHOOKS): "webhooks-write",
    ("GET", WEBHOOK): "webhooks-read",
    ("PUT", WEBHOOK): "webhooks-write",
    ("POST", TEST): "webhooks-write",
    ("GET", EVENTS): "webhook-events-read",
    ("GET", HEADERS): "webhook-headers-read",
    ("POST", HEADERS): "webhook-headers-write",
    ("DELETE", HEADER): "webhook-headers-delete",
    ("GET", GROUPS): "webhook-groups-read",
    ("POST", GROUPS): "webhook-groups-write",
    ("DELETE", GROUP): "webhook-groups-delete",
}
"""Method and route → the scope that a token needs there."""
