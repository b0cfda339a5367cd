"""A story: the events that OpenCard will send about some organizations, and the expected result in ``ems``.

``make_story`` generates it from a seed. Whatever the order and repetition in which it is sent (see ``faults``), a
correct receiver ends with ``expected_transactions``, ``expected_card_holders`` and ``expected_rows``; they follow from
the story by the rules of the contract alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Final, TypedDict

from receiver.sandbox.enrichments import enrichment_events
from receiver.sandbox.people import StoryCardHolder, employ, found, join, leave, sign_tpa
from receiver.sandbox.purchases import Purchase, buy, state_events
from receiver.sandbox.story_events import StoryEvent, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from receiver.sandbox.receipt_files import FilesAt

__all__ = ["ExpectedTransaction", "Story", "StoryEvent", "make_story"]

RANK: Final = ("authorized", "deleted", "cleared", "invoiced")
"""States from the lowest to the highest."""

_FEWEST_CARD_HOLDERS: Final = 5
_EAGERNESS: Final = 3
"""How many times as much a card holder buys who is identified late, so that a large batch follows."""

_PURCHASES_EACH: Final = 50
"""The number of purchases for each further card holder of an organization."""


class ExpectedTransaction(TypedDict):
    """A transaction as a correct receiver must end with it."""

    state: str
    accounting_amount: Decimal
    original_amount: Decimal
    card_issuer_reference: str | None
    cleared_card_issuer_reference: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """The events of OpenCard: each exactly once, in the order in which they occurred."""

    events: tuple[StoryEvent, ...]

    def expected_transactions(self) -> dict[tuple[str, str], ExpectedTransaction]:
        """Return what must hold in the end, by organization and transaction id.

        The snapshot of the highest state wins; the reference of the cleared one is kept with it.
        """
        expected: dict[tuple[str, str], ExpectedTransaction] = {}
        cleared: dict[tuple[str, str], str | None] = {}
        for sent in sorted((sent for sent in self.events if _is_snapshot(sent)), key=_rank):
            fields = read(sent.payload)
            key = (sent.organization_reference_id, fields["id"])
            if fields["state"] == "cleared":
                cleared[key] = fields["card_issuer_reference"]
            expected[key] = {
                "state": fields["state"],
                "accounting_amount": Decimal(fields["accounting_amount"]),
                "original_amount": Decimal(fields["original_amount"]),
                "card_issuer_reference": fields["card_issuer_reference"],
                "cleared_card_issuer_reference": cleared.get(key),
            }
        return expected

    def expected_card_holders(self) -> dict[tuple[str, str], dict[str, bool]]:
        """Return by organization and card holder which times must be known in the end, and which must be null.

        Known is what has happened; creating again undoes a deletion.
        """
        expected: dict[tuple[str, str], dict[str, bool]] = {}
        for sent in self.events:
            if holder := sent.card_holder:
                known = expected.setdefault(holder, dict.fromkeys(_TIMES.values(), False))
                known[_TIMES[sent.event]] = True
                if sent.event == "card_holder.created":
                    known["deleted_at"] = False
        return expected

    def expected_rows(self) -> dict[str, int]:
        """Return the number of rows that each table of the schema ``ems`` must have in the end."""
        events = Counter(sent.event for sent in self.events)
        payloads = {event: [read(sent.payload) for sent in self.events if sent.event == event] for event in _LISTS}
        rows = {
            table: sum(len(payload[field]) for payload in payloads[event]) for event, table, field in _ROWS_OF_LISTS
        }
        return rows | {
            "events": len(self.events),
            "transactions": len(self.expected_transactions()),
            "transaction_states": sum(map(_is_snapshot, self.events)),
            "card_holders": len({sent.card_holder for sent in self.events if sent.card_holder}),
            "tpas": events["tpa.signed"],
            "receipts": events["receipt.fetched"],
            "environmental_impacts": sum(
                events[event] for event in events if event.startswith("environmental.impact.")
            ),
        }


_TIMES: Final = {
    "card_holder.created": "created_at",
    "card_holder.identified": "identified_at",
    "card_holder.signed.pdpc": "signed_pdpc_at",
    "card_holder.email.delivered": "email_delivered_at",
    "card_holder.email.failed": "email_failed_at",
    "card_holder.deleted": "deleted_at",
}
"""Event → the time of the card holder that it makes known."""

_ROWS_OF_LISTS: Final = (
    ("transaction.true.vat", "vat_rates", "vat_rates"),
    ("transaction.true.vat", "vat_totals", "totals"),
    ("transaction.line.items", "line_items", "line_items"),
)
"""Event, table, and the list in its payload that has an entry for each row."""

_LISTS: Final = {event for event, _, _ in _ROWS_OF_LISTS}


def make_story(*, seed: int, organizations: Sequence[str], purchases: int, files: FilesAt | None = None) -> Story:
    """Return the story of *organizations* (the EMS's own ids) and *purchases* in all, spread evenly over them.

    *files*: where receipts and signed TPAs can be downloaded, if anywhere.

    The same arguments give the same bytes. With another seed all other ids are (all but surely) others, so that
    stories can be sent one after another. Raises ``ValueError`` when the organizations are none or not distinct, or
    when *purchases* is negative.
    """
    if not organizations or len(set(organizations)) != len(organizations):
        raise ValueError(f"organizations: at least one, each once, not {list(organizations)!r}")
    if purchases < 0:
        raise ValueError(f"purchases: zero or more, not {purchases}")

    rng = Random(seed)  # noqa: S311 - a story has to be the same again, not unguessable
    sent: list[StoryEvent] = []
    # The EMS numbers people by client, so two clients have the same numbers: a receiver must not mix them up.
    first_number = rng.randrange(10**6)
    for number, reference_id in enumerate(organizations):
        share = purchases // len(organizations) + (number < purchases % len(organizations))
        sent += _events_of_organization(rng, reference_id, number, share, first_number, files)
    return Story(tuple(sorted(sent, key=attrgetter("at"))))


def _events_of_organization(
    rng: Random, reference_id: str, number: int, purchases: int, first_number: int, files: FilesAt | None
) -> Iterator[StoryEvent]:
    organization = found(rng, reference_id, number)
    yield sign_tpa(rng, organization, files)
    holders = [
        employ(rng, organization, number, f"emp-{first_number + number}")
        for number in range(_FEWEST_CARD_HOLDERS + purchases // _PURCHASES_EACH)
    ]
    bought: dict[str, list[Purchase]] = {holder.reference_id: [] for holder in holders}
    for _ in range(purchases):
        [holder] = rng.choices(holders, weights=[_EAGERNESS if holder.late else 1 for holder in holders])
        bought[holder.reference_id].append(buy(rng, holder))
    for holder in holders:
        yield from _card_holder_events(rng, holder, bought[holder.reference_id], files)


def _card_holder_events(
    rng: Random, holder: StoryCardHolder, purchases: Sequence[Purchase], files: FilesAt | None
) -> Iterator[StoryEvent]:
    last = holder.identified_at
    yield from join(rng, holder)
    for purchase in purchases:
        for sent in (*state_events(rng, purchase), *enrichment_events(rng, purchase, files)):
            last = max(last, sent.at)
            yield sent
    if holder.leaves:
        yield leave(rng, holder, after=last)


def _is_snapshot(sent: StoryEvent) -> bool:
    return sent.event.startswith("card.transaction.")


def _rank(sent: StoryEvent) -> int:
    return RANK.index(sent.event.rpartition(".")[2])
