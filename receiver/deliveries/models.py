"""Tables of the deliveries: what arrived, what is to be processed, and the outcomes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base

DECISIONS = ("accepted", "retracted")
"""An operator's decisions about a delivery that the delivery log does not have."""
OUTCOMES = ("processed", "duplicate", "ignored", "quarantined", "failed", "dead")
"""Statuses of a delivery after its processing. ``failed`` waits for its next attempt; ``dead`` needs attention."""
STATUSES = ("pending", *OUTCOMES)
ABANDONED = "processing ended without an outcome: the worker process died over this delivery, or took too long"
"""The error of a delivery that killed its worker; such a one is processed alone, also when it is replayed."""
HELD_UP = "processing took longer than its lease: its worker, or PostgreSQL, hung"
"""The error that replaces it when the worker resumes, because then the delivery did not crash it."""
TEST = "test delivery"
"""The error of what arrived at a test webhook: it is ``ignored``, and no replay selects it."""


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.now())


class StoredDelivery(Base):
    """What arrived: one request that reached us, or one taken from the provider's log. Written once, never updated.

    ``webhook_id`` has no foreign key: checking it would lock the webhook's row in every insert, and the insert
    itself selects from ``webhooks``, whose rows are never deleted.
    """

    __tablename__ = "stored_deliveries"
    __table_args__ = (
        CheckConstraint("source IN ('push', 'log')", name="source"),
        Index("ix_stored_deliveries_webhook_id_received_at", "webhook_id", "received_at"),
        {"schema": RECEIVER, "postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger)
    event: Mapped[str] = mapped_column(comment="X-Event, as received")
    version: Mapped[str | None] = mapped_column(comment="X-Version, as received")
    verification: Mapped[str] = mapped_column(comment="what proved that it is authentic")
    source: Mapped[str] = mapped_column(server_default="push", comment="push, or log: recovered by reconcile")
    received_at: Mapped[datetime] = _now()
    occurred_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="push: when it was received; log: the first attempt's time"
    )
    written_ms: Mapped[int | None] = mapped_column(
        comment="milliseconds from the arrival of the request until this row was written; the commit and the answer "
        "followed; null: from the log"
    )


class Body(Base):
    """The bytes of a delivery, as received. Deleted when they expire, or when their person is erased."""

    __tablename__ = "bodies"
    __table_args__ = ({"schema": RECEIVER, "postgresql_partition_by": "RANGE (delivery_id)"},)

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[bytes] = mapped_column(comment="raw bytes")
    headers: Mapped[dict[str, Any]] = mapped_column(comment="without credentials")


class QueuedDelivery(Base):
    """A delivery that is to be processed. Deleted with the outcome that ends its processing.

    A claim is a lease: until it ends no other worker takes the delivery, and its worker can commit an outcome.
    """

    __tablename__ = "queue"
    __table_args__ = (
        Index("ix_queue_due", "alone", "due_at", "delivery_id"),
        Index("ix_queue_failed", "failed_at", postgresql_where=text("failed_at IS NOT NULL")),
        # claims update rows in place: half of each page is room for the new version
        {"schema": RECEIVER, "postgresql_with": {"fillfactor": "50", "autovacuum_vacuum_scale_factor": "0.02"}},
    )

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    due_at: Mapped[datetime] = _now()
    attempts: Mapped[int] = mapped_column(
        server_default="0", comment="how often processing was tried, counted at the claim"
    )
    leased_until: Mapped[datetime | None] = mapped_column(comment="until when a worker has it; null when none does")
    alone: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="processed in a separate batch: it failed, or was in a batch that did"
    )
    failed_at: Mapped[datetime | None] = mapped_column(
        comment="when its last attempt failed: the pause until due_at is counted from then"
    )
    trace: Mapped[bytes | None] = mapped_column(
        comment="ids of trace and span of its request, where traces are recorded and this one is sampled: 24 bytes"
    )


class Outcome(Base):
    """The outcome of a delivery: its status after processing, and why."""

    __tablename__ = "outcomes"
    __table_args__ = (
        CheckConstraint("status IN ({})".format(", ".join(f"'{status}'" for status in OUTCOMES)), name="status"),
        Index(
            "ix_outcomes_status",
            "status",
            "delivery_id",
            postgresql_where=text("status <> 'processed'"),
        ),
        Index("ix_outcomes_retries", "position", postgresql_where=text("status = 'duplicate'")),
        Index("ix_outcomes_transaction_id", "transaction_id", postgresql_where=text("transaction_id IS NOT NULL")),
        Index(
            "ix_outcomes_card_holder_reference_id",
            "card_holder_reference_id",
            postgresql_where=text("card_holder_reference_id IS NOT NULL"),
        ),
        {"schema": RECEIVER},
    )

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(comment="how often processing was tried")
    attempts_before_replay: Mapped[int] = mapped_column(
        server_default="0",
        comment="how many of them were before its last replay failed to apply it: they do not count for pauses",
    )
    processed_at: Mapped[datetime | None] = mapped_column(comment="null while it is failed")
    error: Mapped[str | None] = mapped_column(comment="of the last attempt")
    position: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="in ems.events: of its event, which this delivery (processed) or an earlier one (duplicate) added",
    )
    fingerprint: Mapped[bytes | None] = mapped_column(
        comment="SHA-256 of the event by value, where that is not the event's at position"
    )
    transaction_id: Mapped[str | None] = mapped_column(comment="that it names, where there is no position")
    card_holder_reference_id: Mapped[str | None] = mapped_column(comment="likewise")


class Confirmation(Base):
    """What the provider's log says of a delivery that is stored here."""

    __tablename__ = "confirmations"
    __table_args__ = ({"schema": RECEIVER},)

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    confirmed_at: Mapped[datetime | None] = mapped_column(comment="when reconcile found it in the log")
    occurred_at: Mapped[datetime | None] = mapped_column(
        comment="time of the first attempt, where the log shows one before it arrived"
    )


class DeliveryDecision(Base):
    """An operator's decision about a delivery that the delivery log does not have: it is not unconfirmed."""

    __tablename__ = "delivery_decisions"
    __table_args__ = (
        CheckConstraint("decision IN ({})".format(", ".join(f"'{each}'" for each in DECISIONS)), name="decision"),
        {"schema": RECEIVER},
    )

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    decision: Mapped[str] = mapped_column(
        comment="accepted: genuine, as an operator found out; retracted: forged, its event does not count"
    )
    decided_at: Mapped[datetime] = _now()
    decided_by: Mapped[str]
    reason: Mapped[str]
