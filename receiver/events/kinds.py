"""The kinds of events: the payload types and the subject of each, and when two events are the same."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.events.payloads import (
    AuthorizedPayload,
    CardHolderPayload,
    ClearedPayload,
    DeletedPayload,
    EnrichmentPayload,
    EnvironmentalImpactPayload,
    InvoicedPayload,
    InvoicePayload,
    LineItemsPayload,
    Payload,
    ReceiptPayload,
    TpaPayload,
    TransactionPayload,
    VatPayload,
)


class EventKind(msgspec.Struct, frozen=True, eq=False):
    """Events that are folded together, subject by subject."""

    name: str
    payloads: dict[str, type[Payload]]
    """The type of the payload by the event's name."""
    in_sequence: bool = False
    """True: equal neighbours are one event (card holders, whose payloads contain only references). False: equal events
    within a day are one event."""


KINDS: Final = (
    EventKind(
        "transaction",
        {
            "card.transaction.authorized": AuthorizedPayload,
            "card.transaction.cleared": ClearedPayload,
            "card.transaction.deleted": DeletedPayload,
            "card.transaction.invoiced": InvoicedPayload,
        },
    ),
    EventKind(
        "card_holder",
        dict.fromkeys(
            (
                "card_holder.created",
                "card_holder.identified",
                "card_holder.signed.pdpc",
                "card_holder.email.delivered",
                "card_holder.email.failed",
                "card_holder.deleted",
            ),
            CardHolderPayload,
        ),
        in_sequence=True,
    ),
    EventKind("tpa", {"tpa.signed": TpaPayload}),
    EventKind("receipt", {"receipt.fetched": ReceiptPayload}),
    EventKind("vat", {"transaction.true.vat": VatPayload}),
    EventKind("line_items", {"transaction.line.items": LineItemsPayload}),
    EventKind(
        "environmental_impact",
        dict.fromkeys(
            (
                "environmental.impact.aland_index",
                "environmental.impact.deedster",
                "card.transaction.environmental_impact",
            ),
            EnvironmentalImpactPayload,
        ),
    ),
    EventKind("invoice", {"invoice.created": InvoicePayload}),
)
KIND_OF: Final[dict[str, EventKind]] = {name: kind for kind in KINDS for name in kind.payloads}
"""The kind of an event by its name in the catalogue."""
BY_NAME: Final[dict[str, EventKind]] = {kind.name: kind for kind in KINDS}


def payload_type(event: str) -> type[Payload]:
    """Return the type of an event's payload, by its name in the catalogue. Raises ``KeyError``."""
    return KIND_OF[event].payloads[event]


def subject_of(payload: Payload) -> str:
    """Return the id of the transaction, card holder, TPA or invoice that a payload is about."""
    if isinstance(payload, EnrichmentPayload):
        return payload.transaction.id
    if isinstance(payload, TransactionPayload | TpaPayload):
        return payload.id
    if isinstance(payload, CardHolderPayload):
        return payload.card_holder.reference_id
    if isinstance(payload, InvoicePayload):
        return str(payload.id)
    raise TypeError(type(payload))
