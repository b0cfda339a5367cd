"""How the API shows things, each kind in one function; every one bears a field that the contract does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receiver.sandbox.provider.resources import Client, ProviderGroup, ProviderHeader, ProviderOrganization


def organization_fields(organization: ProviderOrganization, *, all_fields: bool = True) -> dict[str, object]:
    """Return an organization as its list has it, or its id and reference alone."""
    named: dict[str, object] = {"id": organization.id, "reference_id": organization.reference_id}
    if not all_fields:
        return named
    return {
        **named,
        "tpa_id": organization.tpa_id,
        "billing_id": organization.billing_id,
        "account_id": organization.account_id,
        "name": organization.name,
        "organization_number": organization.buyer_party,
        "locale": "sv-SE",
    }


def client_fields(client: Client, *, with_scopes: bool = True) -> dict[str, object]:
    """Return an OAuth client without its secret; without its scopes it is its id and name alone."""
    if not with_scopes:
        return {"id": client.id, "name": client.name}
    return {
        "id": client.id,
        "name": client.name,
        "scopes": list(client.scopes),
        "type": "account_client",
        "account_id": client.account_id,
        "revoked": False,
    }


def header_fields(header: ProviderHeader, *, with_value: bool) -> dict[str, object]:
    """Return a custom header."""
    value: dict[str, object] = {"value": header.value} if with_value else {}
    return {"id": header.id, "key": header.key, **value, "position": 0}


def group_fields(group: ProviderGroup) -> dict[str, object]:
    """Return a buyer-party filter."""
    return {"id": group.id, "buyer_party": group.buyer_party, "kind": "buyer_party"}
