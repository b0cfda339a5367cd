"""Parses a delivery, or an entry of the event log, into an event. Pure; amounts are exact, errors name the field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import msgspec.inspect

from receiver.deliveries.models import TEST
from receiver.errors import NotHandled, PayloadError, WrongOrganization
from receiver.events.catalogue import canonical_name, is_supported
from receiver.events.content import as_postgresql_reads_it, encode, fingerprint_of, read, reference_of
from receiver.events.event import Event
from receiver.events.kinds import KIND_OF, payload_type, subject_of
from receiver.events.payloads import (
    ABOUT_PURCHASES,
    OWN_FIELDS,
    CardHolderPayload,
    EnrichmentPayload,
    TransactionPayload,
    descriptive,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from receiver.events.event import ClaimedDelivery
    from receiver.events.payloads import Payload

AMOUNT_DIGITS: Final = 24
AMOUNT_PLACES: Final = 50
"""Digits that an amount may have before and after the decimal point: a sum still fits Arrow's longest decimal (76)."""
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "transaction": ("original_amount", "original_currency", "accounting_amount", "accounting_currency"),
    "receipt": ("url",),
    "vat": ("vat_rates", "totals"),
    "line_items": ("line_items",),
    "environmental_impact": ("carbon_emission_in_grams",),
    "tpa": ("url",),
    "invoice": ("invoice_amount", "invoice_currency", "no_of_transactions"),
}
"""Fields that a payload of an unknown version must have, by kind: a renamed amount would be read as null."""
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(?P<field>\w+)`")


def parse(delivery: ClaimedDelivery) -> Event:
    """Return the event in *delivery*, whose body must not be deleted.

    A payload of an unknown version is parsed like the known one, if it has the fields that its kind needs (``NEEDED``).
    Raises ``NotHandled`` for a test delivery, an unknown event and an unknown version that cannot be parsed;
    ``WrongOrganization`` when the payload names another organization; ``PayloadError``, with field and reason, when the
    payload cannot be parsed.
    """
    if delivery.test:
        raise NotHandled(TEST)
    name = canonical_name(delivery.event)
    if name is None or name not in KIND_OF:
        raise NotHandled(f"unknown event {delivery.event!r}")
    if is_supported(delivery.version):
        return _parsed(delivery, name)
    try:
        return _parsed(delivery, name, needed=NEEDED.get(KIND_OF[name].name, ()))
    except PayloadError as error:
        raise NotHandled(f"unknown version {delivery.version!r} of the webhook format: {error}") from None


def _parsed(delivery: ClaimedDelivery, name: str, needed: Iterable[str] = ()) -> Event:
    """Return the event in *delivery*; its payload must have all *needed* fields, which may be null."""
    assert delivery.body is not None  # noqa: S101 - without a body, the event is read from the event log
    text, content, by_value = read(delivery.body)
    expected_type = payload_type(name)
    _check_organization(content, delivery.organization_reference_id)
    for field in needed:
        if field not in content:
            raise PayloadError(field, "missing")
    _check_kind(content, expected_type)
    readable = as_postgresql_reads_it(content, text)
    numbers = readable if by_value is content else as_postgresql_reads_it(by_value, text)
    read_as = read_fields(readable, numbers, expected_type)
    payload = read_as.payload
    card_holder, transaction = _references(payload)
    return Event(
        delivery_id=delivery.id,
        name=name,
        organization_reference_id=delivery.organization_reference_id,
        card_holder_reference_id=card_holder,
        transaction_id=transaction,
        subject_id=subject_of(payload),
        occurred_at=delivery.occurred_at,
        source=delivery.source,
        fingerprint=fingerprint_of(name, by_value, delivery.organization_reference_id),
        payload=payload,
        content=read_as.content,
        as_sent=read_as.content is content,
        document=None if readable is content and text is delivery.body else encode(readable),
        unreadable=read_as.unreadable,
    )


class EventEntry(NamedTuple):
    """A row of ``ems.events``."""

    position: int
    type: str
    organization_reference_id: str
    card_holder_reference_id: str | None
    transaction_id: str | None
    subject_id: str
    occurred_at: datetime
    source: str
    delivery_id: int
    fingerprint: bytes
    payload: str


def parse_entry(entry: EventEntry) -> Event:
    """Return the event in an entry of the event log. Raises ``PayloadError`` if it cannot be parsed."""
    _, content, by_value = read(entry.payload.encode())
    payload_class = payload_type(entry.type)
    try:
        read_as = read_fields(content, by_value, payload_class)
    except PayloadError:
        content = _large_amounts_as_decimals(content, msgspec.inspect.type_info(payload_class))
        read_as = read_fields(content, content, payload_class)
    return Event(
        delivery_id=entry.delivery_id,
        name=entry.type,
        organization_reference_id=entry.organization_reference_id,
        card_holder_reference_id=entry.card_holder_reference_id,
        transaction_id=entry.transaction_id,
        subject_id=entry.subject_id,
        occurred_at=entry.occurred_at,
        source=entry.source,
        fingerprint=bytes(entry.fingerprint),
        payload=read_as.payload,
        content=read_as.content,
        as_sent=False,
        document=entry.payload.encode(),
        unreadable=read_as.unreadable,
        position=entry.position,
    )


def _check_organization(content: dict[str, Any], expected: str) -> None:
    """Refuse a payload of another organization, before its other fields are checked."""
    found = reference_of(content, "organization")
    if found is not None and found != expected:
        raise WrongOrganization(expected=expected, found=found)


def _check_kind(content: dict[str, Any], payload_type: type[Payload]) -> None:
    """Refuse the payload of another kind of event.

    OpenCard signs the body and not ``X-Event``. So an attacker with a signed purchase could send it as
    ``card_holder.deleted``, which needs no field that a purchase does not have. A single unexpected field is no reason
    to refuse: OpenCard may add fields to any payload.
    """
    own = OWN_FIELDS.get(payload_type)
    if own and content.keys().isdisjoint(own):
        raise PayloadError(own[0], "missing")
    if payload_type is CardHolderPayload and any(purchase <= content.keys() for purchase in ABOUT_PURCHASES):
        field = "transaction" if "transaction" in content else "state"
        raise PayloadError(field, "belongs to another event than X-Event says, which no signature covers")


def _typed(content: dict[str, Any], payload_type: type[Payload]) -> Payload:
    try:
        return msgspec.convert(content, payload_type, builtin_types=(Decimal,))
    except msgspec.ValidationError as error:
        raise _payload_error(str(error)) from None


@dataclass(frozen=True, slots=True)
class ReadAs:
    """A payload, and the content from which its columns are read; see ``Event``."""

    payload: Payload
    content: dict[str, Any]
    unreadable: tuple[str, ...] = ()


def read_fields(content: dict[str, Any], by_value: dict[str, Any], payload_type: type[Payload]) -> ReadAs:
    """Return the payload in *content*, also if a whole number is written ``45.0``; in *by_value* it is written ``45``.

    Decimals keep their digits where possible. A descriptive field (``descriptive``) may be a number where a text is
    expected, and is null if it cannot be read. Raises ``PayloadError`` for every other field.
    """
    try:
        payload = _typed(content, payload_type)
    except PayloadError:
        return _read_leniently(by_value, payload_type)
    if by_value is not content:
        try:
            _check_amounts(payload, "")
        except PayloadError:
            return _read_leniently(content, payload_type)
    return ReadAs(payload, content)


def _read_leniently(content: dict[str, Any], payload_type: type[Payload]) -> ReadAs:
    as_texts: set[str] = set()
    unreadable: list[str] = []
    while True:
        try:
            payload = _typed(content, payload_type)
            _check_amounts(payload, "")
        except PayloadError as error:
            name = error.field
            if name not in descriptive(payload_type) or name in unreadable:
                raise
            value = content[name]
            if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and name not in as_texts:
                as_texts.add(name)
                content = {**content, name: format(value, "f" if isinstance(value, Decimal) else "d")}
            else:
                unreadable.append(name)
                content = {**content, name: None}
        else:
            return ReadAs(payload, content, tuple(sorted(unreadable)))


def _check_amounts(value: Any, path: str) -> None:  # noqa: ANN401 - a payload, or any part of it
    """Refuse an amount with more digits than readers of ``ems`` can represent."""
    if isinstance(value, msgspec.Struct):
        for name in _with_amounts(type(value)):
            _check_amounts(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check_amounts(item, f"{path}[{number}]")
    elif isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        if value.adjusted() >= AMOUNT_DIGITS or (isinstance(exponent, int) and -exponent > AMOUNT_PLACES):
            raise PayloadError(
                path.lstrip("."), f"more than {AMOUNT_DIGITS} digits before its point or {AMOUNT_PLACES} after it"
            )


def _large_amounts_as_decimals(value: Any, expected: msgspec.inspect.Type) -> Any:  # noqa: ANN401 - any JSON value
    """Return content of an entry with decimals for amounts such as 9e23, which PostgreSQL writes as whole numbers."""
    alternatives = expected.types if isinstance(expected, msgspec.inspect.UnionType) else (expected,)
    if (
        isinstance(value, int)
        and abs(value) >= 2**63
        and any(isinstance(each, msgspec.inspect.DecimalType) for each in alternatives)
    ):
        return Decimal(value)
    for each in alternatives:
        if isinstance(value, list) and isinstance(each, msgspec.inspect.ListType):
            return [_large_amounts_as_decimals(item, each.item_type) for item in value]
        if isinstance(value, dict) and isinstance(each, msgspec.inspect.StructType):
            types = {field.encode_name: field.type for field in each.fields}
            return {
                name: _large_amounts_as_decimals(item, types[name]) if name in types else item
                for name, item in value.items()
            }
    return value


@cache
def _with_amounts(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields of *struct* that may hold an amount, or something with one."""
    fields = msgspec.structs.fields(struct)
    return tuple(field.name for field in fields if _may_hold_amount(msgspec.inspect.type_info(field.type)))


def _may_hold_amount(type_: msgspec.inspect.Type) -> bool:
    if isinstance(type_, msgspec.inspect.UnionType):
        return any(map(_may_hold_amount, type_.types))
    if isinstance(type_, msgspec.inspect.ListType):
        return _may_hold_amount(type_.item_type)
    if isinstance(type_, msgspec.inspect.StructType):
        return any(_may_hold_amount(field.type) for field in type_.fields)
    return isinstance(type_, msgspec.inspect.DecimalType)


def _payload_error(text: str) -> PayloadError:
    """Return msgspec's message as field and reason."""
    where = _WHERE.search(text)
    path = where["path"] if where else ""
    reason = _WHERE.sub("", text)
    missing = _MISSING.search(reason)
    if missing:
        return PayloadError(f"{path}.{missing['field']}".lstrip("."), "missing")
    return PayloadError(path or "body", reason[:1].lower() + reason[1:])


def _references(payload: Payload) -> tuple[str | None, str | None]:
    """Return the ids of card holder and transaction that *payload* names."""
    if isinstance(payload, TransactionPayload):
        return payload.card_holder.reference_id, payload.id
    if isinstance(payload, EnrichmentPayload):
        return payload.card_holder.reference_id, payload.transaction.id
    if isinstance(payload, CardHolderPayload):
        return payload.card_holder.reference_id, None
    return None, None
