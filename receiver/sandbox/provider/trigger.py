"""Events on demand: what ``receiver trigger`` asks for, made up, changed as wanted, and delivered at once."""

from __future__ import annotations

import asyncio
import base64
import random
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.sandbox.faults import Sending
from receiver.sandbox.provider.delivery import ready_webhooks
from receiver.sandbox.provider.events import FLAG_OF
from receiver.sandbox.provider.refusals import against_the_rules
from receiver.sandbox.provider.send_test import ONCE, example
from receiver.sandbox.receipt_files import RECEIPTS_LIVE, FilesAt
from receiver.sandbox.sender import deliver_all
from receiver.sandbox.story_events import StoryEvent, read, write

if TYPE_CHECKING:
    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import ProviderOrganization, ProviderWebhook
    from receiver.sandbox.tally import DeliveryAttempt

TRANSACTION: Final = "card.transaction."
TRANSACTION_STATES: Final = ("authorized", "deleted", "cleared", "invoiced")
INVOICE_FIELDS: Final = ("invoice_number", "invoice_date")
OWNERS: Final = ("card_holder", "organization")
LITERALS: Final[dict[str, Any]] = {"null": None, "true": True, "false": False}


class Wanted(msgspec.Struct):
    """What is to be sent about an organization: an event, or a short story."""

    organization: str
    events: list[str]
    """Names in the catalogue: the first, and what follows for the same transaction or card holder."""
    spelled: list[str]
    """How each is written in ``X-Event``."""
    changes: list[dict[str, str]]
    """For each event: field of its payload (``card_holder.reference_id`` for one inside another) → its value."""
    body: str | None = None
    """A body to send as it is, in Base64."""
    count: int = 1
    duplicate: bool = False
    late_seconds: float = 0
    """How long before now the log shows a first attempt that failed."""
    lose: bool = False
    """Whether it is in the log alone."""


@dataclass(frozen=True, slots=True)
class Triggered:
    """An event that was sent, or lost."""

    event: str
    organization_reference_id: str
    id: str | None
    """Of the transaction, card holder, TPA or invoice that it is about."""
    status: int | None
    """The receiver's answer; ``None`` when there was none, or it was not sent."""
    sent: bool
    body: bytes


def trigger(provider: Provider, wanted: Wanted, base_url: str) -> list[Triggered]:
    """Send what is *wanted*, and return it with the answers. Raises ``Refused`` (422) when that cannot be.

    The files of its receipts can be downloaded at *base_url*, where this OpenCard is.
    """
    for event in wanted.events:
        if event not in FLAG_OF:
            raise against_the_rules(f"There is no event {event}.")
    webhook, owner = _webhook_for(provider, wanted)
    files = FilesAt(base_url, provider.now() + RECEIPTS_LIVE)
    sent = [
        StoryEvent(owner.reference_id, spelled, payload, timedelta())
        for _ in range(wanted.count)
        for spelled, payload in zip(wanted.spelled, _payloads(wanted, owner, files), strict=True)
        for _ in range(2 if wanted.duplicate else 1)
    ]
    return [_trigger_one(provider, webhook, owner, each, wanted) for each in sent]


def _webhook_for(provider: Provider, wanted: Wanted) -> tuple[ProviderWebhook, ProviderOrganization]:
    ready = [(each, provider.state.organization(each.organization_id)) for each in ready_webhooks(provider)]
    of_organization = [pair for pair in ready if pair[1].reference_id == wanted.organization]
    for webhook, owner in of_organization:
        if all((flag := FLAG_OF[event]) is None or flag in webhook.flags for event in wanted.events):
            return webhook, owner
    if of_organization:
        raise against_the_rules(f"No active webhook of {wanted.organization} is for {', '.join(wanted.events)}.")
    known = ", ".join(sorted({owner.reference_id for _, owner in ready})) or "none"
    raise against_the_rules(f"{wanted.organization} has no active webhook; organizations that have one: {known}.")


def _payloads(wanted: Wanted, owner: ProviderOrganization, files: FilesAt) -> list[bytes]:
    if wanted.body is not None:
        return [base64.b64decode(wanted.body)]
    seed, made_up = _make_up(wanted.events[0], owner)
    story = [_changed(_with_file(wanted.events[0], made_up, files), wanted.changes[0])]
    for event, changes in zip(wanted.events[1:], wanted.changes[1:], strict=True):
        following = _next(event, story, read(example(event, owner, seed=seed).payload))
        story.append(_changed(_with_file(event, following, files), changes))
    return [write(payload) for payload in story]


def _with_file(event: str, payload: dict[str, Any], files: FilesAt) -> dict[str, Any]:
    """Return *payload* so that its file can be downloaded, if it has one."""
    if event == "receipt.fetched":
        return {**payload, **files.signed_fields(payload["url"])}
    return {**payload, "url": files.tpa_url(payload["id"])} if event == "tpa.signed" else payload


def _make_up(event: str, owner: ProviderOrganization) -> tuple[int, dict[str, Any]]:
    """Return a payload, and the seed that it is of; a refund is not made up, only what is asked for."""
    while True:
        seed = random.randrange(2**31)  # noqa: S311 - ids that were not used before, and no secrets
        payload = read(example(event, owner, seed=seed).payload)
        if (payload.get("original_amount") or 0) >= 0:
            return seed, payload


def _next(event: str, story: list[dict[str, Any]], payload: dict[str, Any]) -> dict[str, Any]:
    """Return *payload* so that it is about what the *story* is about."""
    snapshots = [each for each in story if each.get("state") in TRANSACTION_STATES]
    about: dict[str, Any] = {name: story[0][name] for name in OWNERS if name in story[0] and name in payload}
    if event.startswith(TRANSACTION) and payload.get("state") in TRANSACTION_STATES:
        if snapshots:
            invoice = {name: payload.get(name) for name in INVOICE_FIELDS} if payload["state"] == "invoiced" else {}
            return {**snapshots[-1], **invoice, "state": payload["state"]}
        return {**payload, **about, "id": _subject(story[0]) or payload["id"]}
    if isinstance(payload.get("transaction"), dict):
        return {**payload, **about, "transaction": {**payload["transaction"], "id": _subject(story[0])}}
    return {**payload, **about}


def _changed(payload: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    for path, text in changes.items():
        *parents, name = path.split(".")
        place = payload
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise against_the_rules(f"{parent} in {path} holds no fields.")
        place[name] = _value(text, place.get(name))
    return payload


def _value(text: str, present: object) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value in *text*: a list or an object, too; a text stays one where the payload has one."""
    if text in LITERALS:
        return LITERALS[text]
    if isinstance(present, str):
        return text
    if text[:1] in {"[", "{"}:
        try:
            return read(text.encode())
        except msgspec.DecodeError:
            return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text


def _subject(payload: dict[str, Any]) -> str | None:
    for owner, name in (("transaction", "id"), (None, "id"), ("card_holder", "reference_id")):
        place = payload if owner is None else payload.get(owner)
        if isinstance(place, dict) and place.get(name) is not None:
            return str(place[name])
    return None


def _trigger_one(
    provider: Provider, webhook: ProviderWebhook, owner: ProviderOrganization, sent: StoryEvent, wanted: Wanted
) -> Triggered:
    now = provider.now()
    state = provider.state
    if wanted.late_seconds:
        state.log_attempt(webhook.id, sent.event, None, now - timedelta(seconds=wanted.late_seconds), sent.payload)
    answers: list[int | None] = []
    if wanted.lose:
        if not wanted.late_seconds:
            state.log_attempt(webhook.id, sent.event, None, now, sent.payload)
    else:

        def record(attempt: DeliveryAttempt) -> None:
            answers.append(attempt.status)
            state.log_attempt(webhook.id, attempt.event, attempt.status, attempt.at, attempt.body)

        registration = webhook.registration(owner)
        sending = [Sending(sent, timedelta())]
        asyncio.run(deliver_all(sending, [registration], give_up_after=ONCE, bearers=provider.bearers, record=record))
    try:
        about = _subject(read(sent.payload))
    except (msgspec.DecodeError, TypeError, AttributeError, UnicodeDecodeError):
        about = None
    status = answers[-1] if answers else None
    return Triggered(sent.event, owner.reference_id, about, status, sent=not wanted.lose, body=sent.payload)
