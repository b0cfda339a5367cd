"""Registering webhooks: what OpenCard acknowledged, replaced keys and credentials, headers, tokens, test deliveries.

The webhooks that stand there were made with the secrets that are stored, so OpenCard knows them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    for column in (
        sa.Column("previous_authentication_type", sa.Text()),
        sa.Column(
            "previous_credentials", sa.LargeBinary(), comment="encrypted; a JSON object; good while they are replaced"
        ),
        sa.Column("previous_credentials_expires_at", timestamp),
        sa.Column(
            "oauth_client_id", sa.Text(), comment="by which OpenCard asks for tokens, with authentication_type oauth"
        ),
        sa.Column(
            "acknowledged_at",
            timestamp,
            comment="when OpenCard took secret and credentials as they stand here; null while it may not know them",
        ),
        sa.Column("active", sa.Boolean(), comment="whether OpenCard last said that the challenge has passed"),
    ):
        op.add_column("webhooks", column, schema="receiver")
    op.create_unique_constraint(op.f("uq_webhooks_oauth_client_id"), "webhooks", ["oauth_client_id"], schema="receiver")
    op.execute("UPDATE receiver.webhooks SET acknowledged_at = created_at")
    op.drop_constraint(op.f("ck_webhooks_authentication_type"), "webhooks", schema="receiver")
    op.create_check_constraint(
        op.f("ck_webhooks_authentication_type"),
        "webhooks",
        "authentication_type IN ('none', 'basic', 'custom', 'oauth')",
        schema="receiver",
    )
    for name, comment in (
        ("previous_secret", "encrypted; good while one is rotated"),
        ("credentials", "encrypted; a JSON object"),
        ("enabled", "whether its deliveries are taken here"),
    ):
        op.execute(f"COMMENT ON COLUMN receiver.webhooks.{name} IS '{comment}'")

    op.create_table(
        "previous_endpoint_keys",
        sa.Column("endpoint_key", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", timestamp, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_key", name=op.f("pk_previous_endpoint_keys")),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["receiver.webhooks.id"], name=op.f("fk_previous_endpoint_keys_webhook_id_webhooks")
        ),
        schema="receiver",
    )
    op.create_index(
        op.f("ix_previous_endpoint_keys_webhook_id"), "previous_endpoint_keys", ["webhook_id"], schema="receiver"
    )
    op.create_table(
        "webhook_headers",
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="the header's name, in lower case"),
        sa.Column("value", sa.LargeBinary(), nullable=False, comment="encrypted"),
        sa.PrimaryKeyConstraint("webhook_id", "key", name=op.f("pk_webhook_headers")),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["receiver.webhooks.id"], name=op.f("fk_webhook_headers_webhook_id_webhooks")
        ),
        schema="receiver",
    )
    op.create_table(
        "oauth_tokens",
        sa.Column("api_url", sa.Text(), nullable=False, comment="environment: the API's base address"),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False, comment="sorted, separated by spaces"),
        sa.Column("token", sa.LargeBinary(), nullable=False, comment="encrypted"),
        sa.Column(
            "expires_at", timestamp, nullable=False, comment="when it is not used any more, shortly before it expires"
        ),
        sa.PrimaryKeyConstraint("api_url", "client_id", "scopes", name=op.f("pk_oauth_tokens")),
        schema="receiver",
    )
    op.create_table(
        "awaited_tests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False, comment="every spelling of the event's name"),
        sa.Column("requested_at", timestamp, server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", timestamp, nullable=False, comment="when nobody waits for it any more"),
        sa.Column(
            "fingerprint",
            sa.LargeBinary(),
            comment="SHA-256 of the event by value, where OpenCard told what it sends",
        ),
        sa.Column("resolved_at", timestamp),
        sa.Column("delivery_id", sa.BigInteger(), comment="which delivery it turned out to be"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_awaited_tests")),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["receiver.webhooks.id"], name=op.f("fk_awaited_tests_webhook_id_webhooks")
        ),
        schema="receiver",
    )


def downgrade() -> None:
    raise NotImplementedError("going back would lose endpoint keys and headers that OpenCard has registered")
