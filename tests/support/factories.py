"""Payloads for tests: the samples, with changes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

SAMPLES = Path(__file__).parents[1] / "samples"

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def sample(event: str, **changes: object) -> dict[str, Any]:
    """Return the sample payload of *event* with top-level fields changed; ``None`` values become null."""
    payload: dict[str, Any] = _decode((SAMPLES / f"{event}.json").read_bytes())
    return {**payload, **changes}


def snapshot(state: str, *, transaction: str = "transaction-1", **changes: object) -> dict[str, Any]:
    """Return a transaction snapshot in *state*."""
    return sample(f"card.transaction.{state}", id=transaction, **changes)


def enrichment(event: str, *, transaction: str = "transaction-1", **changes: object) -> dict[str, Any]:
    """Return an enrichment of *transaction*."""
    link = {"id": transaction, "card_issuer": "nordic-card-bank"}
    return sample(event, transaction=link, **changes)


def card_holder(reference: str = "employee-17", organization: str = "acme") -> dict[str, Any]:
    """Return the payload of a card-holder event."""
    return {"card_holder": {"reference_id": reference}, "organization": {"reference_id": organization}}


def body(payload: object) -> bytes:
    """Return *payload* as a request body: ``Decimal`` with the very digits it has; bytes as they are."""
    return payload if isinstance(payload, bytes) else _encode(payload)
