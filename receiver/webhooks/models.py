"""Tables of the managed webhooks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base, encrypted


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.now())


class Webhook(Base):
    """A webhook registered at OpenCard, with what is needed to prove its deliveries.

    What proves them is replaced in two steps, each committed, with the call to OpenCard between them: first the new
    next to the previous, ``acknowledged_at`` null; then the end of the previous. Both are good meanwhile.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("authentication_type IN ('none', 'basic', 'custom', 'oauth')", name="authentication_type"),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    opencard_webhook_id: Mapped[int | None] = mapped_column(BigInteger, unique=True, comment="the provider's id")
    organization_id: Mapped[int] = mapped_column(BigInteger, comment="the provider's id of the organization")
    organization_reference_id: Mapped[str] = mapped_column(index=True, comment="the EMS's id of the organization")
    endpoint_key: Mapped[str] = mapped_column(unique=True, comment="unguessable last part of the endpoint's path")
    secret: Mapped[bytes] = encrypted()
    previous_secret: Mapped[bytes | None] = encrypted("good while one is rotated")
    previous_secret_expires_at: Mapped[datetime | None]
    authentication_type: Mapped[str] = mapped_column(server_default="none")
    credentials: Mapped[bytes | None] = encrypted("a JSON object")
    previous_authentication_type: Mapped[str | None]
    previous_credentials: Mapped[bytes | None] = encrypted("a JSON object; good while they are replaced")
    previous_credentials_expires_at: Mapped[datetime | None]
    oauth_client_id: Mapped[str | None] = mapped_column(
        unique=True, comment="by which OpenCard asks for tokens, with authentication_type oauth"
    )
    acknowledged_at: Mapped[datetime | None] = mapped_column(
        comment="when OpenCard took secret and credentials as they stand here; null while it may not know them"
    )
    enabled: Mapped[bool] = mapped_column(server_default=text("true"), comment="whether its deliveries are taken here")
    active: Mapped[bool | None] = mapped_column(comment="whether OpenCard last said that the challenge has passed")
    test: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="only for test deliveries: nothing that arrives at it is ever applied"
    )
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    deleted_at: Mapped[datetime | None] = mapped_column(
        comment="since when OpenCard does not have it; it is not reconciled then"
    )
    registered_groups: Mapped[list[str]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        comment="buyer parties that were registered, where OpenCard does not list them",
    )
    reconcile_requested_at: Mapped[datetime | None] = mapped_column(
        comment="when an operator requested a run of reconcile; it is due unless one has started since"
    )


class PreviousEndpointKey(Base):
    """An endpoint key that was replaced: good until the webhook is active under its new one."""

    __tablename__ = "previous_endpoint_keys"
    __table_args__ = ({"schema": RECEIVER},)

    endpoint_key: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{RECEIVER}.webhooks.id"), index=True)
    replaced_at: Mapped[datetime] = _now()


class WebhookHeader(Base):
    """A custom header as it was registered on a webhook, since OpenCard need not show its value again."""

    __tablename__ = "webhook_headers"
    __table_args__ = ({"schema": RECEIVER},)

    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{RECEIVER}.webhooks.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True, comment="the header's name, in lower case")
    value: Mapped[bytes] = encrypted()
