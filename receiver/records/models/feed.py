"""The change feed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    SmallInteger,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import EMS, RECEIVER, Base
from receiver.records.models import columns as c


class LoggedEvent(Base):
    """One event, once, in the order in which it took effect here."""

    __tablename__ = "events"
    __table_args__ = (
        # rows lie in the order of their times, so a few bytes for each range of pages find a window of them
        Index("ix_events_recorded_at", "recorded_at", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
        Index("ix_events_subject", "organization_reference_id", "subject_id"),
        {
            "schema": EMS,
            "postgresql_partition_by": "RANGE (position)",
            "comment": "The event log: each event once, in the order in which it was applied; the change feed and the "
            "history. Follow it with WHERE position > :last ORDER BY position; wait with LISTEN ems_events. Entries of "
            "type receiver.changed announce a change of the tables that no event of OpenCard announces.",
        },
    )

    position: Mapped[int] = mapped_column(
        BigInteger,
        primary_key=True,
        comment="Number of the event in commit order: an event that is committed later has a higher position. Some "
        "numbers are not used; none is used twice. Its high bits are the feed's epoch (position >> 40), see "
        "feed_horizon",
    )
    type: Mapped[str] = c.column(
        "Name of the event in OpenCard's catalogue, for example card.transaction.cleared; or receiver.changed"
    )
    organization_reference_id: Mapped[str] = c.column(c.ORGANIZATION)
    card_holder_reference_id: Mapped[str | None] = c.column(
        "The EMS's own id of the card holder; null for organization events"
    )
    transaction_id: Mapped[str | None] = c.column(
        "OpenCard's id of the transaction; null for events without a transaction"
    )
    occurred_at: Mapped[datetime] = c.column(f"{c.ATTEMPTED}; not in the order of position")
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was applied")
    source: Mapped[str] = c.column(
        "push: delivered to this service; log: recovered from OpenCard's delivery log; receiver: a receiver.changed"
    )
    delivery_id: Mapped[int] = mapped_column(
        BigInteger, comment="Delivery that contained it, or that a receiver.changed is about (receiver.deliveries.id)"
    )
    payload: Mapped[dict[str, Any]] = c.column(
        "The event's whole payload, unknown fields included; amounts in major units, digits as sent. Of a "
        "receiver.changed: the reason, and the tables whose rows may have changed"
    )
    subject_id: Mapped[str] = c.column(
        "What the event is about: the id of its transaction, card holder, TPA or invoice"
    )
    fingerprint: Mapped[bytes | None] = mapped_column(
        comment="SHA-256 of type and payload by value, equal for equal events; null for receiver.changed"
    )
    retracted_at: Mapped[datetime | None] = c.column(
        "When an operator retracted the event as forged: the tables are computed without it; null unless it is "
        "retracted"
    )


class FeedHorizon(Base):
    """Up to which position events have been deleted, which a trigger on ``ems.events`` keeps, and the feed's epoch."""

    __tablename__ = "feed_horizon"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        {
            "schema": EMS,
            "comment": "The highest position of the change feed that was deleted, and its epoch, in one row; no row "
            "until events are deleted or an epoch begins. A reader whose position is less than deleted_through may "
            "have missed events, and one whose position is less than epoch_start may have read events that a restore "
            "or a failover lost. What readers do then depends on how they use the feed: docs/ems/feed.md.",
        },
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, comment="Always 1")
    deleted_through: Mapped[int] = mapped_column(
        BigInteger, comment="Highest position in ems.events that was deleted, 0 if none; no event after it was deleted"
    )
    deleted_at: Mapped[datetime] = c.column("When events were last deleted; if none were, when the first epoch began")
    epoch: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="The feed's current epoch, the high bits of new positions (position >> 40). It grows when PostgreSQL "
        "is restored or fails over",
    )
    epoch_start: Mapped[int] = mapped_column(
        BigInteger,
        server_default=text("0"),
        comment="Position at which the current epoch began: its positions are higher, those of earlier epochs are not. "
        "0 in epoch 0",
    )


class Consumer(Base):
    """A reader of the feed that says how far it has read."""

    __tablename__ = "consumers"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Readers of the feed that report how far they have read, one row each. Written by "
            "ems.commit_position(name, position) and receiver db grant-reader. As long as a consumer is registered, no "
            "event that it has not read can be deleted.",
        },
    )

    name: Mapped[str] = c.key("Name of the consumer, as it was granted; by default the name of its role")
    role: Mapped[str | None] = c.column(
        "Role that may commit positions under this name, besides the owner of the schema; null: the role of that name"
    )
    position: Mapped[int] = mapped_column(
        BigInteger,
        server_default=text("0"),
        comment="Position of ems.events up to which it has read, and stored its results; 0 until it commits one",
    )
    registered_at: Mapped[datetime] = mapped_column(
        server_default=text("clock_timestamp()"),
        comment="When it was granted, or first committed a position",
    )
    updated_at: Mapped[datetime | None] = c.column("When it last committed a position; null until it commits one")


class EpochRow(Base):
    """An epoch of the feed, and what identifies the history of PostgreSQL that is written since then.

    A release that creates ``ems.events`` again stores the oid of the new table in its migration.
    """

    __tablename__ = "feed_epochs"
    __table_args__ = ({"schema": RECEIVER},)

    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch_start: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="positions of the epoch are higher"
    )
    begun_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    reason: Mapped[str | None] = mapped_column(comment="why it began; null for the first")
    last_run_id: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="runs of reconcile up to this one do not count any more"
    )
    recovered_at: Mapped[datetime | None] = mapped_column(
        comment="when an operator acknowledged it by receiver recover"
    )
    system_identifier: Mapped[int | None] = mapped_column(
        BigInteger, comment="of the cluster; null where PostgreSQL does not say"
    )
    timeline: Mapped[int | None] = mapped_column(comment="of the WAL; null where PostgreSQL does not say")
    backup_label: Mapped[bytes | None] = mapped_column(
        comment="SHA-256 of the label of the base backup that the server was started from; empty without one, null "
        "where PostgreSQL does not say"
    )
    database_oid: Mapped[int | None] = mapped_column(BigInteger)
    events_oid: Mapped[int | None] = mapped_column(BigInteger, comment="of ems.events")
