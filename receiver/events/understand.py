"""From a stored delivery to an event: pure, exact, and with a clear word for everything that makes no sense."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import NotHandled, PayloadError, WrongTenant
from receiver.events.catalogue import canonical_name
from receiver.events.content import as_postgresql_reads_it, encode, fingerprint_of, read, reference_of
from receiver.events.event import Event, StoredDelivery
from receiver.events.payloads import (
    ENRICHMENTS_OWN,
    MARKS,
    OWN_FIELDS,
    CardHolderPayload,
    EnrichmentPayload,
    TransactionPayload,
    descriptive,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.events.payloads import Payload
    from receiver.events.registry import Handler

SUPPORTED_VERSIONS: Final = frozenset({None, "", "1"})
"""Values of ``X-Version`` that this code understands; the header may be absent."""
AMOUNT_DIGITS: Final = 24
AMOUNT_PLACES: Final = 50
"""How many digits an amount may have before and after its point: a sum still fits Arrow's longest decimal, 76."""
_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(?P<field>\w+)`")


def understand(delivery: StoredDelivery, handlers: Mapping[str, Handler]) -> Event:
    """Return the event in *delivery*.

    Raises ``NotHandled`` for an unknown event or version, ``WrongTenant`` when the payload names another
    organization, ``PayloadError`` with the field and the reason when it cannot be understood.
    """
    name = canonical_name(delivery.event)
    if name is None or name not in handlers:
        raise NotHandled(f"unknown event {delivery.event!r}")
    if delivery.version is not None and delivery.version.strip() not in SUPPORTED_VERSIONS:
        raise NotHandled(f"unknown version {delivery.version!r} of the webhook format")
    text, content, by_value = read(delivery.body)
    payload_type = handlers[name].payload_type
    _check_tenant(content, delivery.organization_reference_id)
    _check_kind(content, payload_type)
    readable = as_postgresql_reads_it(content, text)
    numbers = readable if by_value is content else as_postgresql_reads_it(by_value, text)
    read_as = read_fields(readable, numbers, payload_type)
    payload = read_as.payload
    return Event(
        delivery_id=delivery.id,
        name=name,
        organization_reference_id=delivery.organization_reference_id,
        card_holder_reference_id=_card_holder(payload),
        transaction_id=_transaction(payload),
        occurred_at=delivery.occurred_at,
        source=delivery.source,
        fingerprint=fingerprint_of(name, by_value, delivery.organization_reference_id),
        payload=payload,
        document=None if readable is content and text is delivery.body else encode(readable),
        fields=read_as.fields,
        unreadable=read_as.unreadable,
    )


def _check_tenant(content: dict[str, Any], expected: str) -> None:
    """Refuse a payload of another organization before anything else of it is looked at."""
    found = reference_of(content, "organization")
    if found is not None and found != expected:
        raise WrongTenant(expected=expected, found=found)


def _check_kind(content: dict[str, Any], payload_type: type[Payload]) -> None:
    """Refuse the payload of another kind of event.

    OpenCard signs the body and not ``X-Event``: who has seen a signed purchase could send it as
    ``card_holder.deleted``, which asks for nothing that a purchase does not have. A field that no kind asks for, or
    that only another kind has, is no reason: OpenCard may add fields at any time.
    """
    own = OWN_FIELDS.get(payload_type)
    if own and content.keys().isdisjoint(own):
        raise PayloadError(own[0], "missing")
    for kind, marks, field in _stricter_kinds(payload_type):
        is_one = kind is not EnrichmentPayload or not content.keys().isdisjoint(ENRICHMENTS_OWN)
        if marks <= content.keys() and is_one:
            raise PayloadError(field, "belongs to another event than X-Event says, which no signature covers")


@cache
def _stricter_kinds(payload_type: type[Payload]) -> list[tuple[type[Payload], frozenset[str], str]]:
    """Return the kinds that require more than this one, each with its marks, and a field that this one does not."""
    asked = {field.name for field in msgspec.structs.fields(payload_type) if field.required}
    others = ((kind, marks) for kind, marks in MARKS.items() if not issubclass(payload_type, kind))
    return [(kind, marks, max(marks - asked)) for kind, marks in others if asked < marks]


def _typed(content: dict[str, Any], payload_type: type[Payload]) -> Payload:
    try:
        return msgspec.convert(content, payload_type, builtin_types=(Decimal,))
    except msgspec.ValidationError as error:
        raise _payload_error(str(error)) from None


@dataclass(frozen=True, slots=True)
class ReadAs:
    """A payload, and how its columns are to be read; see ``Event``."""

    payload: Payload
    fields: bytes | None = None
    unreadable: tuple[str, ...] = ()


def read_fields(content: dict[str, Any], by_value: dict[str, Any], payload_type: type[Payload]) -> ReadAs:
    """Return the payload in *content*, also where a whole number is written ``45.0``, which *by_value* writes ``45``.

    Decimals keep their digits if they can. A field that only describes may be a number where a text is expected; one
    that cannot be read is null. Raises ``PayloadError`` for every other field.
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
    return ReadAs(payload)


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
            changed = as_texts or unreadable
            return ReadAs(payload, encode(content) if changed else None, tuple(sorted(unreadable)))


def _check_amounts(value: Any, path: str) -> None:  # noqa: ANN401 - a payload, or any part of it
    """Refuse an amount of so many digits that readers of ``ems`` cannot hold it."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
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


def _payload_error(text: str) -> PayloadError:
    """Return msgspec's words as field and reason."""
    where = _WHERE.search(text)
    path = where["path"] if where else ""
    reason = _WHERE.sub("", text)
    missing = _MISSING.search(reason)
    if missing:
        return PayloadError(f"{path}.{missing['field']}".lstrip("."), "missing")
    return PayloadError(path or "body", reason[:1].lower() + reason[1:])


def _card_holder(payload: Payload) -> str | None:
    if isinstance(payload, (TransactionPayload, EnrichmentPayload, CardHolderPayload)):
        return payload.card_holder.reference_id
    return None


def _transaction(payload: Payload) -> str | None:
    if isinstance(payload, TransactionPayload):
        return payload.id
    if isinstance(payload, EnrichmentPayload):
        return payload.transaction.id
    return None
