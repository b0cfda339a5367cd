"""Tables of issues and of the messages about them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class IssueRow(Base):
    """A cause of trouble: when it was seen, and what people said about it."""

    __tablename__ = "issues"
    __table_args__ = (
        UniqueConstraint("kind", "subject"),
        CheckConstraint("state IN ('open', 'acknowledged', 'resolved')", name="state"),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text, comment="what has the trouble; empty for the whole service")
    severity: Mapped[int] = mapped_column(comment="1 warning, 2 critical")
    text: Mapped[str] = mapped_column(Text, comment="what was found last, for people")
    command: Mapped[str] = mapped_column(Text, server_default="", comment="what to run about it; empty: no command")
    example_delivery_id: Mapped[int | None] = mapped_column(BigInteger, comment="one of the affected deliveries")
    organization_reference_id: Mapped[str | None] = mapped_column(Text)
    count: Mapped[int] = mapped_column(BigInteger, comment="how many deliveries, events or files are affected")
    state: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), comment="when it opened last")
    first_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    resolved_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    owner: Mapped[str | None] = mapped_column(Text, comment="who acknowledged or resolved it last")
    note: Mapped[str | None] = mapped_column(Text)
    accepted_count: Mapped[int | None] = mapped_column(
        BigInteger, comment="the count up to which it does not reopen; null: any"
    )
    accepted_until: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the acknowledgement ends; null: never"
    )
    by_person: Mapped[bool] = mapped_column(comment="whether a person acknowledged or resolved it since it opened")


class Notification(Base):
    """What one address of NOTIFY_URLS was sent last about an issue, and what it is to be sent."""

    __tablename__ = "notifications"
    __table_args__ = ({"schema": RECEIVER},)

    issue_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{RECEIVER}.issues.id", ondelete="CASCADE"), primary_key=True
    )
    target: Mapped[str] = mapped_column(Text, primary_key=True, comment="a hash of the address, which is a secret")
    state: Mapped[str] = mapped_column(Text, comment="the state to be sent")
    opened_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), comment="when the issue opened last: opened again, it is sent again"
    )
    due_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), comment="when it is sent next, or tried again; not before a minute after the last time"
    )
    attempts: Mapped[int] = mapped_column(server_default="0", comment="how many failed since it was sent last")
    error: Mapped[str | None] = mapped_column(Text, comment="why the last attempt failed")
    sent_state: Mapped[str | None] = mapped_column(Text, comment="what was sent last; null: nothing")
    sent_opened_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
