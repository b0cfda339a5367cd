"""Tables of the console: who signed in, and which tries to sign in failed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Index, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base, encrypted


class ConsoleSession(Base):
    """A sign-in, and the session that came of it: who, when, from where, and until when."""

    __tablename__ = "console_sessions"
    __table_args__ = (
        Index("ix_console_sessions_user_name_network", "user_name", "network"),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(
        LargeBinary, unique=True, comment="SHA-256 of what the browser's cookie holds"
    )
    user_name: Mapped[str] = mapped_column(Text)
    credential: Mapped[bytes] = mapped_column(
        LargeBinary,
        comment="SHA-256 of role and password hash, or of issuer, client and roles of groups: the session ends when "
        "any of them changes",
    )
    subject: Mapped[str | None] = mapped_column(
        Text, comment="the user's sub at the OpenID provider; null after a sign-in by password"
    )
    role: Mapped[str | None] = mapped_column(
        Text, comment="by the user's groups when they were last confirmed; null after a sign-in by password"
    )
    tokens: Mapped[bytes | None] = encrypted("of the OpenID provider; null after the session")
    address: Mapped[str] = mapped_column(Text, comment="from where, as the proxy says")
    network: Mapped[str] = mapped_column(Text, comment="the address; of IPv6 the /64 it is in")
    signed_in_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now(), index=True)
    seen_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="of the last page, to the minute"
    )
    confirmed_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the OpenID provider last confirmed the user and the groups"
    )
    confirm_after: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="the first request after this asks the OpenID provider"
    )
    ended_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the user signed out, or the OpenID provider no longer confirmed the user"
    )


class SignInFailures(Base):
    """Tries to sign in that failed, or are being made, under one name or from one address."""

    __tablename__ = "sign_in_failures"
    __table_args__ = ({"schema": RECEIVER},)

    subject: Mapped[bytes] = mapped_column(
        LargeBinary, primary_key=True, comment="SHA-256 of the name or the address; a name may be a mistyped password"
    )
    failures: Mapped[int] = mapped_column(comment="in a row, none of them a day apart")
    failed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    next_attempt_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
