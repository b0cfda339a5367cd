"""The account's OAuth clients (contract, section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from receiver.errors import OutcomeUnknown
from receiver.opencard import routes
from receiver.opencard.client import Answer
from receiver.opencard.failures import HINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from receiver.opencard.client import OpenCard


class OAuthClient(Answer, frozen=True):
    """An OAuth client; *secret* is only in the answer that created it."""

    id: str | int
    name: str | None = None
    client_id: str | int | None = None
    """The id for the token endpoint, if it differs from *id*."""
    scopes: list[str] | str | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"OAuthClient(id={self.id!r}, name={self.name!r}, scopes={self.scopes!r})"

    @property
    def scope_names(self) -> list[str] | None:
        """The scopes, sorted, from a list or a string; ``None`` where they are not reported."""
        if self.scopes is None:
            return None
        return sorted(self.scopes.split() if isinstance(self.scopes, str) else self.scopes)

    def as_fields(self) -> Mapping[str, Any]:
        """Return the public fields."""
        return {
            "id": self.id,
            "client_id": self.client_id if self.client_id is not None else self.id,
            "name": self.name,
            "scopes": self.scope_names,
        }


def list_clients(api: OpenCard) -> list[OAuthClient]:
    """Return every OAuth client of the account."""
    return api.list(routes.LIST_CLIENTS, OAuthClient)


def get_client(api: OpenCard, client: str) -> OAuthClient:
    """Return one OAuth client, by OpenCard's id. Raises ``ResourceMissing``."""
    return api.call(routes.GET_CLIENT, OAuthClient, client=client)


def create_client(api: OpenCard, *, name: str, scopes: Iterable[str]) -> OAuthClient:
    """Create an OAuth client; only this answer has its secret. Not retried after an unknown outcome."""
    try:
        return api.call(routes.CREATE_CLIENT, OAuthClient, fields={"name": name, "scopes": sorted(set(scopes))})
    except OutcomeUnknown as unknown:
        raise OutcomeUnknown(
            f"{str(unknown).removesuffix(HINTS[OutcomeUnknown])}receiver clients list shows whether it was made all "
            "the same; its secret is lost then, so remove it in the dashboard before you make another"
        ) from None


def set_scopes(api: OpenCard, client: str, scopes: Iterable[str]) -> None:
    """Replace the scopes of an OAuth client."""
    api.send(routes.UPDATE_CLIENT, fields={"scopes": sorted(set(scopes))}, client=client)
