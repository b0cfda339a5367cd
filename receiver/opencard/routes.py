"""Every route of OpenCard's API that this service uses, each with the scope it needs (contract, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

API_PATH: Final = "/api/v1/application"
"""The application API's path below the environment's base URL."""
TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a *path* below the application API; the call fills in the parts in braces."""

    method: str
    path: str
    scope: str


_ACCOUNT: Final = "/accounts/{account}"
_ORGANIZATION: Final = _ACCOUNT + "/organizations/{organization}"
_WEBHOOK: Final = _ORGANIZATION + "/webhooks/{webhook}"
_CLIENT: Final = _ACCOUNT + "/oauthclients/{client}"

LIST_ORGANIZATIONS: Final = Route("GET", _ACCOUNT + "/organizations", "organizations-read")

LIST_BILLINGS: Final = Route("GET", _ACCOUNT + "/billings", "billings-read")

LIST_WEBHOOKS: Final = Route("GET", _ORGANIZATION + "/webhooks", "webhooks-read")
GET_WEBHOOK: Final = Route("GET", _WEBHOOK, "webhooks-read")
CREATE_WEBHOOK: Final = Route("POST", _ORGANIZATION + "/webhooks", "webhooks-write")
UPDATE_WEBHOOK: Final = Route("PUT", _WEBHOOK, "webhooks-write")
TEST_WEBHOOK: Final = Route("POST", _WEBHOOK + "/test/{event}", "webhooks-write")
LIST_DELIVERY_LOG: Final = Route("GET", _WEBHOOK + "/events", "webhook-events-read")

LIST_HEADERS: Final = Route("GET", _WEBHOOK + "/headers", "webhook-headers-read")
CREATE_HEADER: Final = Route("POST", _WEBHOOK + "/headers", "webhook-headers-write")
DELETE_HEADER: Final = Route("DELETE", _WEBHOOK + "/headers/{header}", "webhook-headers-delete")

LIST_GROUPS: Final = Route("GET", _WEBHOOK + "/groups", "webhook-groups-read")
CREATE_GROUP: Final = Route("POST", _WEBHOOK + "/groups", "webhook-groups-write")
DELETE_GROUP: Final = Route("DELETE", _WEBHOOK + "/groups/{group}", "webhook-groups-delete")

LIST_CLIENTS: Final = Route("GET", _ACCOUNT + "/oauthclients", "oauth-clients-read")
GET_CLIENT: Final = Route("GET", _CLIENT, "oauth-clients-read")
CREATE_CLIENT: Final = Route("POST", _ACCOUNT + "/oauthclients", "oauth-clients-write")
UPDATE_CLIENT: Final = Route("PUT", _CLIENT, "oauth-clients-write")

DOWNLOAD_FILE: Final = Route("GET", "/{file}", "files-read")
"""Files have no route of their own: each is at the URL in its event; see ``files``."""
DOWNLOAD_TPA: Final = Route("GET", "/{file}", "account-tpas-read")
"""The document of a signed TPA, likewise. That this scope allows it is an assumption."""
