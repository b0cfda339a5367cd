"""Tables of bootstrap: the account's organizations, and the configuration that an operator last applied."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base, encrypted


class AccountOrganization(Base):
    """An organization of the account, as bootstrap last found it."""

    __tablename__ = "organizations"
    __table_args__ = ({"schema": RECEIVER},)

    organization_id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="the provider's id"
    )
    organization_reference_id: Mapped[str | None] = mapped_column(
        Text, comment="the EMS's id of it; null where OpenCard has none"
    )
    left_out: Mapped[bool] = mapped_column(
        Boolean, server_default=text("false"), comment="the configuration wants no webhook for it"
    )
    unavailable_events: Mapped[dict[str, Any]] = mapped_column(
        JSONB,
        server_default=text("'{}'"),
        comment="flags of wanted events that it cannot have: each with the reason, and when OpenCard rejected it",
    )
    error: Mapped[str | None] = mapped_column(Text, comment="what the last run could not do for it")
    found_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="when it was found first"
    )
    deleted_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="since when the account's list does not have it"
    )


class AppliedConfiguration(Base):
    """The configuration that an operator last applied to the whole account; the scheduler applies it again."""

    __tablename__ = "applied_configuration"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"schema": RECEIVER})

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    configuration: Mapped[bytes] = encrypted("JSON, values from the environment included")
    applied_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="when an operator applied it"
    )
    started_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="when the last run began that applied it"
    )
    ended_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the last run ended, also early; not of one that another command kept out"
    )
    error: Mapped[str | None] = mapped_column(Text, comment="why the last run ended early; null when it did not")
