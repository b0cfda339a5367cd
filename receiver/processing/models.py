"""Tables that only processing writes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Identity,
    Index,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base
from receiver.records.models.columns import URL_HASH


class ProcessingAttempt(Base):
    """One try to apply a delivery that did not succeed: the evidence, which survives the rollback of the try."""

    __tablename__ = "processing_attempts"
    __table_args__ = ({"schema": RECEIVER},)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    delivery_id: Mapped[int] = mapped_column(BigInteger, index=True)
    number: Mapped[int] = mapped_column(comment="1 for the first try of this delivery")
    attempted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    outcome: Mapped[str] = mapped_column(comment="the status that the delivery got by it")
    error: Mapped[str] = mapped_column(comment="one line for a person")
    trace: Mapped[str | None] = mapped_column(comment="the traceback, when there was an exception to explain")


class WorkerDeath(Base):
    """A lease that ended without an outcome: the worker died over its deliveries, or hung; kept for 30 days."""

    __tablename__ = "worker_deaths"
    __table_args__ = ({"schema": RECEIVER},)

    at: Mapped[datetime] = mapped_column(primary_key=True, comment="the end of the lease, which identifies it")
    deliveries: Mapped[int] = mapped_column(BigInteger, comment="how many it held")


class UnknownVersion(Base):
    """A version of the webhook format that this release was not written for, of which deliveries were applied."""

    __tablename__ = "unknown_versions"
    __table_args__ = ({"schema": RECEIVER},)

    event: Mapped[str] = mapped_column(primary_key=True, comment="its name in the catalogue")
    version: Mapped[str] = mapped_column(primary_key=True, comment="X-Version, as received")
    deliveries: Mapped[int] = mapped_column(BigInteger, comment="how many were applied, replays counted again")
    first_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReceiptDownload(Base):
    """A file of a receipt or a TPA that is not downloaded yet, or cannot be; its row is deleted once it is stored."""

    __tablename__ = "receipt_downloads"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'expired', 'refused')", name="status"),
        Index(
            "uq_receipt_downloads_receipt",
            "organization_reference_id",
            "transaction_id",
            "url_sha256",
            unique=True,
        ),
        Index(
            "uq_receipt_downloads_tpa",
            "organization_reference_id",
            "tpa_id",
            unique=True,
            postgresql_where=text("tpa_id IS NOT NULL"),
        ),
        CheckConstraint("num_nonnulls(transaction_id, tpa_id) = 1", name="one_subject"),
        Index(
            "ix_receipt_downloads_waiting", "next_attempt_at", "id", postgresql_where=text("status = 'waiting'::text")
        ),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    organization_reference_id: Mapped[str]
    transaction_id: Mapped[str | None] = mapped_column(comment="of a receipt; null for a TPA")
    tpa_id: Mapped[str | None] = mapped_column(comment="of a signed TPA; null for a receipt")
    url: Mapped[str] = mapped_column(comment="as in ems.receipts or ems.tpas; its query may be a secret")
    url_sha256: Mapped[bytes] = mapped_column(Computed(URL_HASH, persisted=True))
    expires_at: Mapped[datetime | None] = mapped_column(comment="until when the URL works; null when not sent")
    status: Mapped[str] = mapped_column(
        server_default=text("'waiting'"),
        comment="waiting: for a worker; expired: the URL works no more; refused: it must not be stored",
    )
    attempts: Mapped[int] = mapped_column(server_default="0", comment="how often it was begun")
    next_attempt_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="while one is under way: when it counts as dead"
    )
    last_attempt_at: Mapped[datetime | None] = mapped_column(comment="when it was begun last")
    error: Mapped[str | None] = mapped_column(comment="why the last attempt failed, in one line for a person")
    noted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[datetime | None] = mapped_column(comment="when it was given up; null while it waits")
