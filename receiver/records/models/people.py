"""Card holders and the processing authorizations (TPAs) of their organizations."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped

from receiver.db import EMS, Base
from receiver.records.models import columns as c


class CardHolder(Base):
    """What has happened to a card holder, and when."""

    __tablename__ = "card_holders"
    __table_args__ = (
        Index(
            "ix_card_holders_to_be_erased",
            "deleted_at",
            postgresql_where=sql("deleted_at IS NOT NULL AND erased_at IS NULL"),
        ),
        {
            "schema": EMS,
            "comment": "Card holders and what was reported of each. OpenCard sends no time of an event, so each time "
            "is that of its first attempt to deliver the event (the time of its arrival if the delivery log shows no "
            "earlier attempt); of several events of one type, the newest.",
        },
    )

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION)
    reference_id: Mapped[str] = c.key(c.CARD_HOLDER)
    created_at: Mapped[datetime | None] = c.column(
        "When last reported as created through the API; null when never reported"
    )
    identified_at: Mapped[datetime | None] = c.column(
        "When last reported as identified (identity linked, in OpenCard's words); transactions follow from then on; "
        "null when never reported"
    )
    signed_pdpc_at: Mapped[datetime | None] = c.column(
        "When the consent (PDPC) was last reported as signed; null when never reported"
    )
    email_delivered_at: Mapped[datetime | None] = c.column(
        "When the consent e-mail was last reported as delivered; if email_failed_at is set, too, the later one holds; "
        "null when never reported"
    )
    email_failed_at: Mapped[datetime | None] = c.column(
        "When the consent e-mail was last reported as bounced; if email_delivered_at is set, too, the later one holds; "
        "null when never reported"
    )
    deleted_at: Mapped[datetime | None] = c.column(
        "When last reported as deleted; null when never reported, and after the card holder was created again"
    )
    erased_at: Mapped[datetime | None] = c.column(
        "When reference_id was replaced by a pseudonym, here and in every other table; null when it was not"
    )
    updated_at: Mapped[datetime] = c.column(c.UPDATED)


class Tpa(Base):
    """A signed processing authorization of an organization."""

    __tablename__ = "tpas"
    __table_args__ = (
        {"schema": EMS, "comment": "Processing authorizations (TPAs) of organizations, once fully signed."},
    )

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION)
    id: Mapped[str] = c.key("OpenCard's id of the TPA")
    name: Mapped[str | None] = c.column("Name of the organization on the TPA; null when not reported")
    organization_number: Mapped[str | None] = c.column("Company registration number; null when not reported")
    url: Mapped[str | None] = c.column("Address of the signed PDF at OpenCard; null when not reported")
    signed_at: Mapped[datetime] = c.column("When first reported as signed")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)
    delivery_id: Mapped[int] = c.whole_number(c.DELIVERY)
    updated_at: Mapped[datetime] = c.column(c.UPDATED)
    file_key: Mapped[str | None] = c.column("Name of the stored document; null until downloaded")
    file_size: Mapped[int | None] = c.whole_number("Size of the stored document in bytes; null until downloaded")
    file_sha256: Mapped[str | None] = c.column("SHA-256 of the stored document, hexadecimal; null until downloaded")
    downloaded_at: Mapped[datetime | None] = c.column("When the document was stored; null until downloaded")
    download_error: Mapped[str | None] = c.column(
        "Why the last attempt to download failed; null if none failed, and once the file is stored"
    )
