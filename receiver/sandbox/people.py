"""Organizations, the authorization (TPA) each has signed, and the life of their card holders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.sandbox.places import HOMES, Country
from receiver.sandbox.story_events import StoryEvent, hours, new_id, seconds, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from random import Random

    from receiver.sandbox.receipt_files import FilesAt

_NAMES: Final = ("Björkö Bygg AB", "Sjöström & Søn", "Hämeen Työ Oy", "Ærø Handel ApS")
_CARDS: Final = (
    ("Business Gold", "corporate"),
    ("Corporate Card", "corporate_with_private_invoice"),
    ("Classic", "private"),
)


@dataclass(frozen=True, slots=True)
class StoryOrganization:
    """A client organization of the EMS."""

    reference_id: str
    name: str
    organization_number: str
    home: Country
    card_issuer: str
    customer_number: str


@dataclass(frozen=True, slots=True)
class StoryCardHolder:
    """A card holder with the one card they use."""

    organization: StoryOrganization
    reference_id: str
    late: bool
    """Identified only after many purchases, which are then sent in one batch."""
    identified_at: timedelta
    """Virtual time at which OpenCard may begin to send their purchases, those made before included."""
    bounces: bool
    """The consent e-mail fails at first."""
    leaves: bool
    """Deleted after the last of their events."""
    card_id: int
    card_product: str
    card_type: str
    card_last_four: str

    @property
    def card_funding(self) -> str:
        """Whose money it is: the account's, or credit."""
        return "debit" if self.card_type == "private" else "credit"

    @property
    def payment_product(self) -> dict[str, str]:
        """The product at OpenCard that the card belongs to."""
        name = f"{self.organization.card_issuer} {self.card_product}"
        return {"id": name.lower().replace(" ", "-"), "name": name.title()}


def found(rng: Random, reference_id: str, number: int) -> StoryOrganization:
    """Return the *number*-th organization of a story; *reference_id* is the EMS's own id of it."""
    return StoryOrganization(
        reference_id=reference_id,
        name=_NAMES[number % len(_NAMES)],
        organization_number=f"55{rng.randrange(10**8):08}",
        home=HOMES[number % len(HOMES)],
        card_issuer=("nordkort", "eurocard")[number % 2],
        customer_number=f"{rng.randrange(10**7):07}",
    )


def employ(rng: Random, organization: StoryOrganization, number: int, reference_id: str) -> StoryCardHolder:
    """Return the *number*-th card holder of *organization*.

    Who bounces, leaves or links their identity late goes by number and not by chance, so that any story has them all.
    """
    late = number % 3 == 2  # noqa: PLR2004 - every third
    product, kind = rng.choice(_CARDS)
    return StoryCardHolder(
        organization=organization,
        reference_id=reference_id,
        late=late,
        identified_at=hours(rng, 24 * 12, 24 * 15) if late else hours(rng, 12, 48),
        bounces=number % 4 == 1,
        leaves=number % 5 == 3,  # noqa: PLR2004 - every fifth
        card_id=rng.randrange(10**5, 10**7),
        card_product=product,
        card_type=kind,
        card_last_four=f"{rng.randrange(10**4):04}",
    )


def sign_tpa(rng: Random, organization: StoryOrganization, files: FilesAt | None = None) -> StoryEvent:
    """Return the event of the organization's signed TPA, which is its first; *files*: where its document is."""
    tpa_id = new_id(rng)
    payload: dict[str, object] = {
        "id": tpa_id,
        "name": organization.name,
        "organization_number": organization.organization_number,
        "url": files.tpa_url(tpa_id) if files else f"https://files.opencard.invalid/tpas/{tpa_id}.pdf",
        "organization": {"reference_id": organization.reference_id},
    }
    return StoryEvent(organization.reference_id, "tpa.signed", write(payload), seconds(rng, 0, 600))


def join(rng: Random, holder: StoryCardHolder) -> Iterator[StoryEvent]:
    """Yield the onboarding of *holder*: created, e-mailed (perhaps undelivered at first), consenting, identified."""
    created = hours(rng, 1, 5)
    mailed = created + seconds(rng, 5, 900)
    yield _event(holder, "created", created)
    if holder.bounces:
        yield _event(holder, "email.failed", mailed)
        mailed += hours(rng, 1, 4)
    yield _event(holder, "email.delivered", mailed)
    yield _event(holder, "signed.pdpc", holder.identified_at - seconds(rng, 30, 3600))
    yield _event(holder, "identified", holder.identified_at)


def leave(rng: Random, holder: StoryCardHolder, *, after: timedelta) -> StoryEvent:
    """Return the deletion of *holder*, some days *after* the last of their events."""
    return _event(holder, "deleted", after + hours(rng, 24, 72))


def _event(holder: StoryCardHolder, what: str, at: timedelta) -> StoryEvent:
    organization = holder.organization.reference_id
    payload: dict[str, object] = {
        "card_holder": {"reference_id": holder.reference_id},
        "organization": {"reference_id": organization},
    }
    return StoryEvent(organization, f"card_holder.{what}", write(payload), at)
