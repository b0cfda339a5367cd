"""The tokens for OpenCard's API."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Text
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base, encrypted


class OAuthToken(Base):
    """A token, shared by all processes: one for each client and set of scopes."""

    __tablename__ = "oauth_tokens"
    __table_args__ = ({"schema": RECEIVER},)

    api_url: Mapped[str] = mapped_column(Text, primary_key=True, comment="environment: the API's base address")
    client_id: Mapped[str] = mapped_column(Text, primary_key=True)
    scopes: Mapped[str] = mapped_column(Text, primary_key=True, comment="sorted, separated by spaces")
    token: Mapped[bytes] = encrypted()
    expires_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), comment="when it is not used any more, shortly before it expires"
    )
