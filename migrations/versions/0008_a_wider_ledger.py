"""The ledger with more to book by, its VAT by rate, what is pending, possible duplicates, and the feed's horizon.

Columns are added to the ledger at its end. Merchants' rates count where the receipt's total tells no amount.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LEDGER = """
CREATE OR REPLACE VIEW ems.ledger AS
SELECT
    t.organization_reference_id,
    t.id AS transaction_id,
    t.card_holder_reference_id,
    t.state,
    t.purchase_date,
    t.purchase_time,
    t.purchase_timezone,
    coalesce(t.purchase_merchant_common, t.purchase_merchant) AS merchant,
    t.purchase_country,
    t.purchase_city,
    t.mcc_code,
    t.category_text,
    t.accounting_amount,
    t.accounting_currency,
    t.original_amount,
    t.original_currency,
    t.exchange_rate,
    CASE WHEN merchant_vat.currency IS NOT NULL THEN merchant_vat.vat_amount ELSE t.vat_amount END AS vat_amount,
    CASE WHEN merchant_vat.currency IS NOT NULL THEN merchant_vat.currency ELSE t.vat_currency END AS vat_currency,
    CASE
        WHEN merchant_vat.currency IS NOT NULL THEN 'merchant'
        WHEN t.vat_amount IS NOT NULL THEN 'network'
    END AS vat_source,
    receipt.url AS receipt_url,
    receipt.file_key AS receipt_file_key,
    coalesce(items.number, 0) AS number_of_items,
    t.card_issuer,
    t.cleared_card_issuer_reference,
    t.invoice_number,
    t.invoice_date,
    t.card_id,
    t.card_type,
    t.cleared_at,
    t.invoiced_at,
    t.updated_at,
    t.vat_rate AS network_vat_rate,
    t.vat_amount AS network_vat_amount,
    t.vat_currency AS network_vat_currency,
    receipt.content_type AS receipt_content_type,
    coalesce(receipt.number, 0) AS number_of_receipts,
    t.type,
    t.mcc_text,
    t.card_product,
    t.card_last_four,
    t.card_issuer_customer_number,
    t.authorized_at,
    t.deleted_at
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT sum(line.vat_amount) AS vat_amount, line.currency
    FROM (
        SELECT vat_amount, currency FROM ems.vat_totals AS total
        WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
        UNION ALL
        SELECT vat_amount, currency FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = t.organization_reference_id AND rate.transaction_id = t.id
            AND NOT EXISTS (
                SELECT FROM ems.vat_totals AS total
                WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
                    AND total.vat_amount IS NOT NULL AND total.currency IS NOT NULL
            )
    ) AS line
    WHERE line.vat_amount IS NOT NULL AND line.currency IS NOT NULL
    GROUP BY line.currency
    ORDER BY line.currency = t.original_currency DESC NULLS LAST,
        line.currency = t.accounting_currency DESC NULLS LAST, line.currency
    LIMIT 1
) AS merchant_vat ON true
LEFT JOIN LATERAL (
    SELECT url, file_key, content_type, count(*) OVER () AS number FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
    ORDER BY (r.file_key IS NOT NULL) DESC, r.fetched_at DESC, r.url
    LIMIT 1
) AS receipt ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS number FROM ems.line_items AS item
    WHERE item.organization_reference_id = t.organization_reference_id AND item.transaction_id = t.id
) AS items ON true
WHERE t.state IN ('cleared', 'invoiced')
"""

LEDGER_VAT = """
CREATE OR REPLACE VIEW ems.ledger_vat AS
SELECT
    line.organization_reference_id,
    line.transaction_id,
    line.card_holder_reference_id,
    line.vat_source,
    vat.percentage,
    vat.vat_amount,
    vat.taxable_amount,
    vat.total_amount,
    line.vat_currency,
    line.purchase_date,
    line.purchase_country,
    line.state,
    line.updated_at
FROM ems.ledger AS line
CROSS JOIN LATERAL (
    SELECT rate.percentage, sum(rate.vat_amount) AS vat_amount,
        CASE WHEN count(rate.taxable_amount) = count(*) THEN sum(rate.taxable_amount) END AS taxable_amount,
        CASE WHEN count(rate.total_amount) = count(*) THEN sum(rate.total_amount) END AS total_amount
    FROM ems.vat_rates AS rate
    WHERE line.vat_source = 'merchant' AND rate.organization_reference_id = line.organization_reference_id
        AND rate.transaction_id = line.transaction_id AND rate.currency = line.vat_currency
        AND rate.vat_amount IS NOT NULL
    GROUP BY rate.percentage
    UNION ALL
    SELECT CASE line.vat_source WHEN 'network' THEN line.network_vat_rate END, line.vat_amount, NULL, NULL
    WHERE line.vat_source = 'network' OR line.vat_source = 'merchant' AND NOT EXISTS (
        SELECT FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = line.organization_reference_id
            AND rate.transaction_id = line.transaction_id AND rate.currency = line.vat_currency
            AND rate.vat_amount IS NOT NULL
    )
) AS vat
"""

PENDING_TRANSACTIONS = """
CREATE OR REPLACE VIEW ems.pending_transactions AS
SELECT
    t.organization_reference_id,
    t.id AS transaction_id,
    t.card_holder_reference_id,
    t.purchase_date,
    t.purchase_time,
    t.purchase_timezone,
    coalesce(t.purchase_merchant_common, t.purchase_merchant) AS merchant,
    t.purchase_country,
    t.purchase_city,
    t.mcc_code,
    t.category_text,
    t.accounting_amount,
    t.accounting_currency,
    t.original_amount,
    t.original_currency,
    t.exchange_rate,
    t.card_issuer,
    t.card_id,
    t.card_last_four,
    receipt.url AS receipt_url,
    receipt.file_key AS receipt_file_key,
    t.authorized_at,
    now() - t.authorized_at AS age,
    floor(extract(epoch FROM now() - t.authorized_at) / 86400)::integer AS days_open,
    t.updated_at
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT url, file_key FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
    ORDER BY (r.file_key IS NOT NULL) DESC, r.fetched_at DESC, r.url
    LIMIT 1
) AS receipt ON true
WHERE t.state = 'authorized'
"""

POSSIBLE_DUPLICATES = """
CREATE OR REPLACE VIEW ems.possible_duplicates AS
SELECT
    one.organization_reference_id,
    one.id AS transaction_id,
    other.id AS other_transaction_id,
    one.card_issuer,
    one.cleared_card_issuer_reference,
    one.purchase_date,
    one.original_amount,
    one.original_currency,
    coalesce(one.purchase_merchant_common, one.purchase_merchant) AS merchant,
    coalesce(other.purchase_merchant_common, other.purchase_merchant) AS other_merchant,
    one.card_holder_reference_id,
    other.card_holder_reference_id AS other_card_holder_reference_id,
    one.cleared_at,
    other.cleared_at AS other_cleared_at
FROM ems.transactions AS one
JOIN ems.transactions AS other
    ON other.cleared_card_issuer_reference = one.cleared_card_issuer_reference
    AND other.organization_reference_id = one.organization_reference_id
    AND other.id <> one.id
    AND other.card_issuer = one.card_issuer
    AND other.original_amount = one.original_amount
    AND other.original_currency = one.original_currency
    AND other.purchase_date = one.purchase_date
WHERE one.cleared_card_issuer_reference IS NOT NULL
    AND one.state IN ('cleared', 'invoiced') AND other.state IN ('cleared', 'invoiced')
"""

VIEW_COMMENTS = {
    "ledger": (
        "What accounting books: cleared and invoiced purchases only, one row each, with final amounts. VAT is the merchant's where a receipt gave it, else the card network's (vat_source tells); its split by rate is in ledger_vat.",
        {
            "organization_reference_id": "The EMS's own id of the organization (source: organization.reference_id)",
            "transaction_id": "OpenCard's id of the transaction (ems.transactions.id)",
            "card_holder_reference_id": "The EMS's own id of the card holder (source: card_holder.reference_id)",
            "state": "cleared or invoiced",
            "purchase_date": "Day of the purchase in the zone purchase_timezone; null when not told",
            "purchase_time": "Time of day in the zone purchase_timezone; null when not told",
            "purchase_timezone": "Time zone of purchase_date and purchase_time; null when not told",
            "merchant": "Merchant's normalized name, else the card network's; null when neither was told",
            "purchase_country": "Country (ISO 3166 alpha-2); null when not told",
            "purchase_city": "City; null when not told",
            "mcc_code": "Merchant category code (ISO 18245); null when not told",
            "category_text": "OpenCard's spending category; null when not told",
            "accounting_amount": "Final amount in the customer's home currency, in major units, VAT included; negative for a refund; null when not told",
            "accounting_currency": "The customer's home currency (ISO 4217); null when not told",
            "original_amount": "Final amount in the currency of the purchase, in major units, VAT included; negative for a refund; null when not told",
            "original_currency": "Currency of the purchase (ISO 4217); null when not told",
            "exchange_rate": "Rate between original and accounting amount, as told; null when not told",
            "vat_amount": "VAT in major units of vat_currency, from vat_source; null when nobody told",
            "vat_currency": "Currency of vat_amount (ISO 4217); where a receipt tells several, that of the purchase, else the home currency; null when nobody told",
            "vat_source": "merchant: from the receipt; network: from the card network, often wrong; null when nobody told",
            "receipt_url": "Address of the receipt at OpenCard, expires; the newest, one with a stored file first; null without a receipt",
            "receipt_file_key": "Name of the stored file of this receipt; null until downloaded",
            "number_of_items": "How many lines ems.line_items has for the purchase; 0 without any",
            "card_issuer": "Issuer of the card; null when not told",
            "cleared_card_issuer_reference": "The issuer's reference of the cleared state, for matching with another feed, cleared against cleared; not unique; null where a purchase was invoiced without being told as cleared",
            "invoice_number": "Number of the issuer's invoice; null until invoiced",
            "invoice_date": "Date of the issuer's invoice, a day without a zone; null until invoiced",
            "card_id": "OpenCard's id of the card; null when not told",
            "card_type": "private, corporate or corporate_with_private_invoice; null when not told",
            "cleared_at": "When first learned as cleared, in UTC; null when only told as invoiced",
            "invoiced_at": "When first learned as invoiced, in UTC; null until invoiced",
            "updated_at": "When the purchase's row last changed here, in UTC; VAT, receipts and items that come later do not show",
            "network_vat_rate": "VAT rate from the card network, as told, often wrong; null when not told",
            "network_vat_amount": "VAT from the card network in major units, often wrong; null when not told",
            "network_vat_currency": "Currency of network_vat_amount (ISO 4217); null when not told",
            "receipt_content_type": "Media type of this receipt's file; null when not told, and without a receipt",
            "number_of_receipts": "How many receipts ems.receipts has for the purchase; 0 without any",
            "type": "Kind of transaction as the issuer names it; null when not told",
            "mcc_text": "Name of the merchant category; null when not told",
            "card_product": "Product name of the card; null when not told",
            "card_last_four": "Last four digits of the card number (personal); null when not told",
            "card_issuer_customer_number": "The issuer's number of the customer; null when not told",
            "authorized_at": "When first learned as authorized, in UTC; null for what cleared without being told as such",
            "deleted_at": "When first learned as deleted, in UTC, though a later clearing made it a purchase again; null when never told",
        },
    ),
    "ledger_vat": (
        "The VAT of each row of the ledger by rate: one row for each purchase and rate, in the ledger's currency and from the ledger's source. A purchase without VAT has none; what the merchant told in further currencies is in vat_rates.",
        {
            "organization_reference_id": "The EMS's own id of the organization (source: organization.reference_id)",
            "transaction_id": "OpenCard's id of the transaction (ems.transactions.id)",
            "card_holder_reference_id": "The EMS's own id of the card holder (source: card_holder.reference_id)",
            "vat_source": "merchant: from the receipt; network: from the card network, often wrong",
            "percentage": "The merchant's rate in percent (25 means 25 %), or the network's as told; null where only a total was told",
            "vat_amount": "VAT of this rate, in major units of vat_currency",
            "taxable_amount": "Amount without VAT, in major units of vat_currency; null when not told, and from the network",
            "total_amount": "Amount with VAT, in major units of vat_currency; null when not told, and from the network",
            "vat_currency": "Currency of the amounts (ISO 4217), the ledger's; null when the network told none",
            "purchase_date": "Day of the purchase in the zone purchase_timezone; null when not told",
            "purchase_country": "Country (ISO 3166 alpha-2); null when not told",
            "state": "cleared or invoiced",
            "updated_at": "When the purchase's row last changed here, in UTC; VAT, receipts and items that come later do not show",
        },
    ),
    "pending_transactions": (
        "Purchases that are authorized and neither cleared nor deleted, for previews: amounts may still change. Clearing takes 3 to 5 days as a rule; what is open much longer was perhaps never cleared.",
        {
            "organization_reference_id": "The EMS's own id of the organization (source: organization.reference_id)",
            "transaction_id": "OpenCard's id of the transaction (ems.transactions.id)",
            "card_holder_reference_id": "The EMS's own id of the card holder (source: card_holder.reference_id)",
            "purchase_date": "Day of the purchase in the zone purchase_timezone; null when not told",
            "purchase_time": "Time of day in the zone purchase_timezone; null when not told",
            "purchase_timezone": "Time zone of purchase_date and purchase_time; null when not told",
            "merchant": "Merchant's normalized name, else the card network's; null when neither was told",
            "purchase_country": "Country (ISO 3166 alpha-2); null when not told",
            "purchase_city": "City; null when not told",
            "mcc_code": "Merchant category code (ISO 18245); null when not told",
            "category_text": "OpenCard's spending category; null when not told",
            "accounting_amount": "Amount in the customer's home currency, in major units; not final; null when not told",
            "accounting_currency": "The customer's home currency (ISO 4217); null when not told",
            "original_amount": "Amount in the currency of the purchase, in major units; not final; null when not told",
            "original_currency": "Currency of the purchase (ISO 4217); null when not told",
            "exchange_rate": "Rate between original and accounting amount, as told; not final; null when not told",
            "card_issuer": "Issuer of the card; null when not told",
            "card_id": "OpenCard's id of the card; null when not told",
            "card_last_four": "Last four digits of the card number (personal); null when not told",
            "receipt_url": "Address of the receipt at OpenCard, expires; the newest, one with a stored file first; null without a receipt",
            "receipt_file_key": "Name of the stored file of this receipt; null until downloaded",
            "authorized_at": "When first learned as authorized, in UTC",
            "age": "How long ago that was, as of the start of your transaction",
            "days_open": "The same in whole days of 24 hours",
            "updated_at": "When the purchase's row last changed here, in UTC; VAT, receipts and items that come later do not show",
        },
    ),
    "possible_duplicates": (
        "Purchases in the ledger that may be one, told by two feeds: two transaction ids of one organization with the same issuer, the same issuer's reference of the cleared state, the same original amount and currency, and the same day. Each pair stands twice, once from either side (transaction_id < other_transaction_id for each once). Look before you act: the issuer's reference is not unique by itself, and a purchase without one is never found here.",
        {
            "organization_reference_id": "The EMS's own id of the organization (source: organization.reference_id)",
            "transaction_id": "OpenCard's id of the transaction (ems.transactions.id)",
            "other_transaction_id": "OpenCard's id of the transaction that looks the same (ems.transactions.id)",
            "card_issuer": "Issuer of both cards",
            "cleared_card_issuer_reference": "The issuer's reference of the cleared state that both bear",
            "purchase_date": "Day of both purchases, each in its own purchase_timezone zone",
            "original_amount": "Final amount of both in the currency of the purchase, in major units",
            "original_currency": "Currency of both (ISO 4217)",
            "merchant": "Merchant's normalized name, else the card network's; null when neither was told",
            "other_merchant": "The same of the other transaction; null when neither was told",
            "card_holder_reference_id": "The EMS's own id of the card holder (source: card_holder.reference_id)",
            "other_card_holder_reference_id": "The EMS's own id of the other transaction's card holder",
            "cleared_at": "When first learned as cleared, in UTC",
            "other_cleared_at": "When the other was first learned as cleared, in UTC",
        },
    ),
}

COMMENTS = {
    "COLUMN ems.environmental_impacts.carbon_social_cost_amount": "Social cost of the emission, in major units of carbon_social_cost_currency; null when not told",
    "COLUMN ems.events.position": "Grows in commit order: what commits later has a higher position. Numbers may be left out; none is given twice",
    "COLUMN ems.events.type": "Name of the event in OpenCard's catalogue, for example card.transaction.cleared",
    "COLUMN ems.events.transaction_id": "OpenCard's id of the transaction; null for events of no transaction",
    "COLUMN ems.events.occurred_at": "When the event reached us, or OpenCard's first attempt, in UTC; need not grow with position",
    "COLUMN ems.events.payload": "The event's whole payload, unknown fields included; amounts in major units, digits as sent",
    "TABLE ems.events": "The change feed: each event once, in the order in which it took effect here. Follow it with WHERE position > :last ORDER BY position; wait with LISTEN ems_events. Old events may be deleted: feed_horizon tells up to which.",
    "COLUMN ems.invoices.invoice_amount": "Amount of the invoice, in major units of invoice_currency; null when not told",
    "COLUMN ems.invoices.invoice_date": "Date of the invoice, a day without a zone; null when not told",
    "COLUMN ems.invoices.due_date": "Date by which it is to be paid, a day without a zone; null when not told",
    "COLUMN ems.line_items.line_number": "Position in the merchant's list, from 1; the order as told",
    "COLUMN ems.line_items.amount": "Price of one, in major units of currency; null when not told",
    "COLUMN ems.line_items.total_amount": "Price of the line, in major units of currency; null when not told",
    "TABLE ems.line_items": "Items bought; a newer event replaces a purchase's set. May come before the purchase.",
    "COLUMN ems.receipts.url": "Address of the file at OpenCard; expires (source: url)",
    "COLUMN ems.receipts.purchase_date": "Day on the receipt, in the zone of the shop; null when not told",
    "COLUMN ems.receipts.purchase_time": "Time of day on the receipt, in the zone of the shop; null when not told",
    "TABLE ems.receipts": "Digital receipts matched to purchases, and the stored file of each once downloaded. A purchase may have several, or one before it is a row itself.",
    "COLUMN ems.transaction_states.original_amount": "Amount in the currency of the purchase, in major units; null when not told",
    "COLUMN ems.transaction_states.original_currency": "Currency of the purchase (ISO 4217); null when not told",
    "COLUMN ems.transaction_states.accounting_amount": "Amount in the customer's home currency, in major units; null when not told",
    "COLUMN ems.transaction_states.accounting_currency": "The customer's home currency (ISO 4217); null when not told",
    "COLUMN ems.transaction_states.vat_amount": "VAT from the card network in major units, often wrong; null when not told",
    "COLUMN ems.transaction_states.vat_currency": "Currency of vat_amount (ISO 4217); null when not told",
    "COLUMN ems.transactions.type": "Kind of transaction as the issuer names it, for example purchase; null when not told",
    "COLUMN ems.transactions.invoice_date": "Date of the issuer's invoice, a day without a zone; null until invoiced",
    "COLUMN ems.transactions.original_amount": "Amount in the currency of the purchase, in major units, VAT included; negative for a refund; may change until cleared; null when not told",
    "COLUMN ems.transactions.vat_rate": "VAT rate from the card network, as told (in percent as a rule), often wrong; the ledger prefers the merchant's; null when not told",
    "COLUMN ems.transactions.accounting_amount": "Amount in the customer's home currency, in major units, VAT included; negative for a refund; final once cleared; null when not told",
    "COLUMN ems.transactions.exchange_rate": "Rate between original and accounting amount, as told; null when not told",
    "COLUMN ems.transactions.purchase_date": "Day of the purchase in the zone purchase_timezone; null when not told",
    "COLUMN ems.transactions.purchase_time": "Time of day in the zone purchase_timezone; null when not told",
    "COLUMN ems.transactions.purchase_timezone": "Time zone of purchase_date and purchase_time (IANA name as a rule); null when not told",
    "COLUMN ems.transactions.deleted_at": "When first learned as deleted, in UTC; stays as a fact when a later clearing revives the purchase; null when never told",
    "TABLE ems.transactions": "Card purchases, one row each, as they stand now: the snapshot of the highest state (authorized < deleted < cleared < invoiced), the newest among equals. A deleted purchase stays as a row. Columns that bear the name of a field of OpenCard's card.transaction.* payload hold that field.",
    "COLUMN ems.vat_rates.line_number": "Position in the merchant's list, from 1; the order as told",
    "COLUMN ems.vat_rates.vat_amount": "VAT of this rate, in major units of currency (source: vat_rates[].vat_amount); null when not told",
    "COLUMN ems.vat_rates.taxable_amount": "Amount without VAT, in major units of currency; null when not told",
    "COLUMN ems.vat_rates.total_amount": "Amount with VAT, in major units of currency; null when not told",
    "TABLE ems.vat_rates": "VAT by rate from the merchant's receipt; a newer event replaces a purchase's set. May come before the purchase.",
    "COLUMN ems.vat_totals.line_number": "Position in the merchant's list, from 1; the order as told",
    "COLUMN ems.vat_totals.vat_amount": "VAT in total, in major units of currency (source: totals[].vat_amount); null when not told",
    "COLUMN ems.vat_totals.taxable_amount": "Amount without VAT, in major units of currency; null when not told",
    "COLUMN ems.vat_totals.total_amount": "Amount with VAT, in major units of currency; null when not told",
    "TABLE ems.vat_totals": "VAT in total from the merchant's receipt, a line for each currency as a rule; a newer event replaces a purchase's set. May come before the purchase.",
}

NOTE_DELETED_EVENTS = """
CREATE FUNCTION receiver.note_deleted_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ems.feed_horizon AS horizon (id, deleted_through, deleted_at)
    SELECT 1, max(position), clock_timestamp() FROM gone HAVING count(*) > 0
    ON CONFLICT (id) DO UPDATE SET
        deleted_through = greatest(horizon.deleted_through, excluded.deleted_through),
        deleted_at = excluded.deleted_at;
    RETURN NULL;
END
$$
"""

TRIGGER = """
CREATE TRIGGER note_deleted_events AFTER DELETE ON ems.events
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION receiver.note_deleted_events()
"""


def comment(on: str, words: str) -> None:
    quoted = words.replace("'", "''")
    op.execute(sa.text(f"COMMENT ON {on} IS '{quoted}'".replace(":", "\\:")))


def upgrade() -> None:
    op.create_table(
        "feed_horizon",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1"),
        sa.Column(
            "deleted_through",
            sa.BigInteger(),
            nullable=False,
            comment="Highest position in ems.events that was deleted; what is above is all there",
        ),
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When events were last deleted, in UTC",
        ),
        sa.CheckConstraint("id = 1", name=op.f("ck_feed_horizon_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed_horizon")),
        schema="ems",
        comment="Up to where the change feed has been deleted, in one row; none as long as nothing was. A reader whose position is less than deleted_through may have missed events: read the tables anew, then go on from deleted_through.",
    )
    op.execute(NOTE_DELETED_EVENTS)
    op.execute(TRIGGER)
    for view in (LEDGER, LEDGER_VAT, PENDING_TRANSACTIONS, POSSIBLE_DUPLICATES):
        op.execute(view)
    for view, (whole, columns) in VIEW_COMMENTS.items():
        comment(f"VIEW ems.{view}", whole)
        for column, words in columns.items():
            comment(f"COLUMN ems.{view}.{column}", words)
    for on, words in COMMENTS.items():
        comment(on, words)


def downgrade() -> None:
    raise NotImplementedError("an older release reads these tables as they are; restore a backup to go back further")
