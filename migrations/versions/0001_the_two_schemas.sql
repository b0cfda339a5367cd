CREATE SCHEMA IF NOT EXISTS ems;

COMMENT ON SCHEMA ems IS 'What the EMS reads. Columns are added, never renamed or retyped.';

CREATE TABLE ems.card_holders (
    organization_reference_id TEXT NOT NULL,
    reference_id TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE,
    identified_at TIMESTAMP WITH TIME ZONE,
    signed_pdpc_at TIMESTAMP WITH TIME ZONE,
    email_delivered_at TIMESTAMP WITH TIME ZONE,
    email_failed_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE,
    erased_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_card_holders PRIMARY KEY (organization_reference_id, reference_id)
);
CREATE INDEX ix_card_holders_to_be_erased ON ems.card_holders (deleted_at) WHERE deleted_at IS NOT NULL AND erased_at IS NULL;

COMMENT ON TABLE ems.card_holders IS 'Card holders and what was reported of each. OpenCard sends no time of an event, so each time is that of its first attempt to deliver the event (the time of its arrival if the delivery log shows no earlier attempt); of several events of one type, the newest.';
COMMENT ON COLUMN ems.card_holders.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.card_holders.reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.card_holders.created_at IS 'When last reported as created through the API; null when never reported';
COMMENT ON COLUMN ems.card_holders.identified_at IS 'When last reported as identified (identity linked, in OpenCard''s words); transactions follow from then on; null when never reported';
COMMENT ON COLUMN ems.card_holders.signed_pdpc_at IS 'When the consent (PDPC) was last reported as signed; null when never reported';
COMMENT ON COLUMN ems.card_holders.email_delivered_at IS 'When the consent e-mail was last reported as delivered; if email_failed_at is set, too, the later one holds; null when never reported';
COMMENT ON COLUMN ems.card_holders.email_failed_at IS 'When the consent e-mail was last reported as bounced; if email_delivered_at is set, too, the later one holds; null when never reported';
COMMENT ON COLUMN ems.card_holders.deleted_at IS 'When last reported as deleted; null when never reported, and after the card holder was created again';
COMMENT ON COLUMN ems.card_holders.erased_at IS 'When reference_id was replaced by a pseudonym, here and in every other table; null when it was not';
COMMENT ON COLUMN ems.card_holders.updated_at IS 'When this row last changed in this database; not a time of the transaction';

CREATE TABLE ems.environmental_impacts (
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    carbon_emission_in_grams NUMERIC,
    carbon_social_cost_amount NUMERIC,
    carbon_social_cost_currency TEXT,
    card_holder_reference_id TEXT NOT NULL,
    card_issuer TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_environmental_impacts PRIMARY KEY (organization_reference_id, transaction_id, provider)
);

COMMENT ON TABLE ems.environmental_impacts IS 'CO2 of transactions, one row for each provider of the figure.';
COMMENT ON COLUMN ems.environmental_impacts.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.environmental_impacts.transaction_id IS 'OpenCard''s id of the transaction, the same through all its states (source: transaction.id)';
COMMENT ON COLUMN ems.environmental_impacts.provider IS 'aland_index, deedster, or unspecified if the event names none';
COMMENT ON COLUMN ems.environmental_impacts.carbon_emission_in_grams IS 'Emission in grams of CO2; null when not reported';
COMMENT ON COLUMN ems.environmental_impacts.carbon_social_cost_amount IS 'Social cost of the emission, in major units of carbon_social_cost_currency; null when not reported';
COMMENT ON COLUMN ems.environmental_impacts.carbon_social_cost_currency IS 'Currency of the cost, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.environmental_impacts.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction';
COMMENT ON COLUMN ems.environmental_impacts.card_issuer IS 'Issuer of the card (source: transaction.card_issuer); null when not reported';
COMMENT ON COLUMN ems.environmental_impacts.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.environmental_impacts.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';
COMMENT ON COLUMN ems.environmental_impacts.updated_at IS 'When this row last changed in this database; not a time of the transaction';

CREATE TABLE ems.events (
    position BIGSERIAL NOT NULL,
    type TEXT NOT NULL,
    organization_reference_id TEXT NOT NULL,
    card_holder_reference_id TEXT,
    transaction_id TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    source TEXT NOT NULL,
    delivery_id BIGINT NOT NULL,
    payload JSONB NOT NULL,
    subject_id TEXT NOT NULL,
    fingerprint BYTEA,
    retracted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_events PRIMARY KEY (position)
)
 PARTITION BY RANGE (position);
CREATE INDEX ix_events_recorded_at ON ems.events USING brin (recorded_at) WITH (autosummarize = on);
CREATE INDEX ix_events_subject ON ems.events (organization_reference_id, subject_id);

COMMENT ON TABLE ems.events IS 'The event log: each event once, in the order in which it was applied; the change feed and the history. Follow it with WHERE position > :last ORDER BY position; wait with LISTEN ems_events. Entries of type receiver.changed announce a change of the tables that no event of OpenCard announces.';
COMMENT ON COLUMN ems.events.position IS 'Number of the event in commit order: an event that is committed later has a higher position. Some numbers are not used; none is used twice. Its high bits are the feed''s epoch (position >> 40), see feed_horizon';
COMMENT ON COLUMN ems.events.type IS 'Name of the event in OpenCard''s catalogue, for example card.transaction.cleared; or receiver.changed';
COMMENT ON COLUMN ems.events.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.events.card_holder_reference_id IS 'The EMS''s own id of the card holder; null for organization events';
COMMENT ON COLUMN ems.events.transaction_id IS 'OpenCard''s id of the transaction; null for events without a transaction';
COMMENT ON COLUMN ems.events.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself; not in the order of position';
COMMENT ON COLUMN ems.events.recorded_at IS 'When it was applied';
COMMENT ON COLUMN ems.events.source IS 'push: delivered to this service; log: recovered from OpenCard''s delivery log; receiver: a receiver.changed';
COMMENT ON COLUMN ems.events.delivery_id IS 'Delivery that contained it, or that a receiver.changed is about (receiver.deliveries.id)';
COMMENT ON COLUMN ems.events.payload IS 'The event''s whole payload, unknown fields included; amounts in major units, digits as sent. Of a receiver.changed: the reason, and the tables whose rows may have changed';
COMMENT ON COLUMN ems.events.subject_id IS 'What the event is about: the id of its transaction, card holder, TPA or invoice';
COMMENT ON COLUMN ems.events.fingerprint IS 'SHA-256 of type and payload by value, equal for equal events; null for receiver.changed';
COMMENT ON COLUMN ems.events.retracted_at IS 'When an operator retracted the event as forged: the tables are computed without it; null unless it is retracted';

CREATE TABLE ems.feed_horizon (
    id SMALLINT NOT NULL,
    deleted_through BIGINT NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    epoch INTEGER DEFAULT 0 NOT NULL,
    epoch_start BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_feed_horizon PRIMARY KEY (id),
    CONSTRAINT ck_feed_horizon_one_row CHECK (id = 1)
);

COMMENT ON TABLE ems.feed_horizon IS 'The highest position of the change feed that was deleted, and its epoch, in one row; no row until events are deleted or an epoch begins. A reader whose position is less than deleted_through may have missed events, and one whose position is less than epoch_start may have read events that a restore or a failover lost. What readers do then depends on how they use the feed: docs/ems/feed.md.';
COMMENT ON COLUMN ems.feed_horizon.id IS 'Always 1';
COMMENT ON COLUMN ems.feed_horizon.deleted_through IS 'Highest position in ems.events that was deleted, 0 if none; no event after it was deleted';
COMMENT ON COLUMN ems.feed_horizon.deleted_at IS 'When events were last deleted; if none were, when the first epoch began';
COMMENT ON COLUMN ems.feed_horizon.epoch IS 'The feed''s current epoch, the high bits of new positions (position >> 40). It grows when PostgreSQL is restored or fails over';
COMMENT ON COLUMN ems.feed_horizon.epoch_start IS 'Position at which the current epoch began: its positions are higher, those of earlier epochs are not. 0 in epoch 0';

CREATE TABLE ems.invoices (
    organization_reference_id TEXT NOT NULL,
    id TEXT NOT NULL,
    organization_number TEXT,
    invoice_number TEXT,
    no_of_transactions BIGINT,
    invoice_amount NUMERIC,
    invoice_currency TEXT,
    invoice_date DATE,
    due_date DATE,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_invoices PRIMARY KEY (organization_reference_id, id)
);

COMMENT ON TABLE ems.invoices IS 'Invoices of the card issuer (OpenCard has announced their event and does not send it yet).';
COMMENT ON COLUMN ems.invoices.organization_reference_id IS 'The EMS''s own id of the organization (source: the webhook that brought it)';
COMMENT ON COLUMN ems.invoices.id IS 'OpenCard''s id of the invoice';
COMMENT ON COLUMN ems.invoices.organization_number IS 'Company registration number; null when not reported';
COMMENT ON COLUMN ems.invoices.invoice_number IS 'Number of the invoice; whether it is unique across issuers is not documented; null when not reported';
COMMENT ON COLUMN ems.invoices.no_of_transactions IS 'How many transactions it bills; null when not reported';
COMMENT ON COLUMN ems.invoices.invoice_amount IS 'Amount of the invoice, in major units of invoice_currency; whether it includes fees and payments, and the sign of a credit note, are not documented by OpenCard; null when not reported';
COMMENT ON COLUMN ems.invoices.invoice_currency IS 'Currency of the invoice, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.invoices.invoice_date IS 'Date of the invoice, a day without a zone; null when not reported';
COMMENT ON COLUMN ems.invoices.due_date IS 'Date by which it is to be paid, a day without a zone; null when not reported';
COMMENT ON COLUMN ems.invoices.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.invoices.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';
COMMENT ON COLUMN ems.invoices.updated_at IS 'When this row last changed in this database; not a time of the transaction';

CREATE TABLE ems.line_items (
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    line_number INTEGER NOT NULL,
    description TEXT,
    amount NUMERIC,
    total_amount NUMERIC,
    quantity NUMERIC,
    currency TEXT,
    card_holder_reference_id TEXT NOT NULL,
    card_issuer TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    CONSTRAINT pk_line_items PRIMARY KEY (organization_reference_id, transaction_id, line_number)
);

COMMENT ON TABLE ems.line_items IS 'Items bought; a newer event replaces all items of a transaction. May arrive before the transaction.';
COMMENT ON COLUMN ems.line_items.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.line_items.transaction_id IS 'OpenCard''s id of the transaction, the same through all its states (source: transaction.id)';
COMMENT ON COLUMN ems.line_items.line_number IS 'Position in the merchant''s list, from 1; the order as sent';
COMMENT ON COLUMN ems.line_items.description IS 'What was bought; null when not reported';
COMMENT ON COLUMN ems.line_items.amount IS 'Price of one unit, in major units of currency; for weighed goods the price of the whole line, as total_amount; whether VAT is included, and the sign of discounts and refunds, are not documented by OpenCard; null when not reported';
COMMENT ON COLUMN ems.line_items.total_amount IS 'Price of the line, in major units of currency; whether VAT is included, and the sign of discounts and refunds, are not documented by OpenCard; null when not reported';
COMMENT ON COLUMN ems.line_items.quantity IS 'How many, or how much: may be a fraction (0.195 of a weighed good); null when not reported';
COMMENT ON COLUMN ems.line_items.currency IS 'Currency of the amounts, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.line_items.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction';
COMMENT ON COLUMN ems.line_items.card_issuer IS 'Issuer of the card (source: transaction.card_issuer); null when not reported';
COMMENT ON COLUMN ems.line_items.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.line_items.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';

CREATE TABLE ems.receipts (
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    url TEXT NOT NULL,
    card_holder_reference_id TEXT NOT NULL,
    card_issuer TEXT,
    content_type TEXT,
    expiration_time TIMESTAMP WITH TIME ZONE,
    purchase_merchant TEXT,
    original_amount NUMERIC,
    original_currency TEXT,
    purchase_date DATE,
    purchase_time TIME WITHOUT TIME ZONE,
    fetched_at TIMESTAMP WITH TIME ZONE NOT NULL,
    file_key TEXT,
    file_size BIGINT,
    file_sha256 TEXT,
    downloaded_at TIMESTAMP WITH TIME ZONE,
    download_error TEXT,
    delivery_id BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    url_sha256 BYTEA GENERATED ALWAYS AS (sha256(decode(replace(url, '\', '\\'), 'escape'))) STORED NOT NULL,
    CONSTRAINT pk_receipts PRIMARY KEY (organization_reference_id, transaction_id, url_sha256)
);

COMMENT ON TABLE ems.receipts IS 'Digital receipts matched to transactions, and the stored file of each once downloaded. A transaction may have several: one with another url replaces none. A receipt may arrive before its transaction.';
COMMENT ON COLUMN ems.receipts.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.receipts.transaction_id IS 'OpenCard''s id of the transaction, the same through all its states (source: transaction.id)';
COMMENT ON COLUMN ems.receipts.url IS 'Address of the file at OpenCard; expires (source: url)';
COMMENT ON COLUMN ems.receipts.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction';
COMMENT ON COLUMN ems.receipts.card_issuer IS 'Issuer of the card (source: transaction.card_issuer); null when not reported';
COMMENT ON COLUMN ems.receipts.content_type IS 'Media type of the file; null when not reported';
COMMENT ON COLUMN ems.receipts.expiration_time IS 'Expiry time of url (OpenCard sends no zone; read as UTC); null when not reported';
COMMENT ON COLUMN ems.receipts.purchase_merchant IS 'Merchant on the receipt; null when not reported';
COMMENT ON COLUMN ems.receipts.original_amount IS 'Amount on the receipt, in major units of original_currency; whether VAT is included, and the sign of a refund, are not documented by OpenCard; null when not reported';
COMMENT ON COLUMN ems.receipts.original_currency IS 'Currency of original_amount, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.receipts.purchase_date IS 'Day on the receipt, in the zone of the shop; null when not reported';
COMMENT ON COLUMN ems.receipts.purchase_time IS 'Time of day on the receipt, in the zone of the shop; null when not reported';
COMMENT ON COLUMN ems.receipts.fetched_at IS 'Time of OpenCard''s first attempt to deliver the receipt''s event; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself; the time of the download is downloaded_at';
COMMENT ON COLUMN ems.receipts.file_key IS 'Name of the stored file; null until downloaded';
COMMENT ON COLUMN ems.receipts.file_size IS 'Size of the stored file in bytes; null until downloaded';
COMMENT ON COLUMN ems.receipts.file_sha256 IS 'SHA-256 of the stored file, hexadecimal; null until downloaded';
COMMENT ON COLUMN ems.receipts.downloaded_at IS 'When the file was stored; null until downloaded';
COMMENT ON COLUMN ems.receipts.download_error IS 'Why the last attempt to download failed; null if none failed, and once the file is stored';
COMMENT ON COLUMN ems.receipts.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';
COMMENT ON COLUMN ems.receipts.updated_at IS 'When this row last changed in this database; not a time of the transaction';
COMMENT ON COLUMN ems.receipts.url_sha256 IS 'SHA-256 of url (UTF-8), which may be longer than a key can be';

CREATE TABLE ems.tpas (
    organization_reference_id TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT,
    organization_number TEXT,
    url TEXT,
    signed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    file_key TEXT,
    file_size BIGINT,
    file_sha256 TEXT,
    downloaded_at TIMESTAMP WITH TIME ZONE,
    download_error TEXT,
    CONSTRAINT pk_tpas PRIMARY KEY (organization_reference_id, id)
);

COMMENT ON TABLE ems.tpas IS 'Processing authorizations (TPAs) of organizations, once fully signed.';
COMMENT ON COLUMN ems.tpas.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.tpas.id IS 'OpenCard''s id of the TPA';
COMMENT ON COLUMN ems.tpas.name IS 'Name of the organization on the TPA; null when not reported';
COMMENT ON COLUMN ems.tpas.organization_number IS 'Company registration number; null when not reported';
COMMENT ON COLUMN ems.tpas.url IS 'Address of the signed PDF at OpenCard; null when not reported';
COMMENT ON COLUMN ems.tpas.signed_at IS 'When first reported as signed';
COMMENT ON COLUMN ems.tpas.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.tpas.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';
COMMENT ON COLUMN ems.tpas.updated_at IS 'When this row last changed in this database; not a time of the transaction';
COMMENT ON COLUMN ems.tpas.file_key IS 'Name of the stored document; null until downloaded';
COMMENT ON COLUMN ems.tpas.file_size IS 'Size of the stored document in bytes; null until downloaded';
COMMENT ON COLUMN ems.tpas.file_sha256 IS 'SHA-256 of the stored document, hexadecimal; null until downloaded';
COMMENT ON COLUMN ems.tpas.downloaded_at IS 'When the document was stored; null until downloaded';
COMMENT ON COLUMN ems.tpas.download_error IS 'Why the last attempt to download failed; null if none failed, and once the file is stored';

CREATE TABLE ems.transactions (
    organization_reference_id TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    card_holder_reference_id TEXT NOT NULL,
    receiptable BOOLEAN,
    card_issuer TEXT,
    card_issuer_reference TEXT,
    card_issuer_customer_number TEXT,
    type TEXT,
    invoice_number TEXT,
    invoice_date DATE,
    original_amount NUMERIC,
    original_currency TEXT,
    vat_rate NUMERIC,
    vat_amount NUMERIC,
    vat_currency TEXT,
    accounting_amount NUMERIC,
    accounting_currency TEXT,
    exchange_rate NUMERIC,
    purchase_merchant TEXT,
    purchase_merchant_common TEXT,
    purchase_date DATE,
    purchase_time TIME WITHOUT TIME ZONE,
    purchase_timezone TEXT,
    purchase_country TEXT,
    purchase_city TEXT,
    card_id BIGINT,
    card_product TEXT,
    card_type TEXT,
    card_last_four TEXT,
    mcc_code TEXT,
    mcc_text TEXT,
    mcc_top_level TEXT,
    branch_code TEXT,
    branch_text TEXT,
    category_text TEXT,
    cleared_card_issuer_reference TEXT,
    cleared_snapshot_at TIMESTAMP WITH TIME ZONE,
    authorized_at TIMESTAMP WITH TIME ZONE,
    cleared_at TIMESTAMP WITH TIME ZONE,
    invoiced_at TIMESTAMP WITH TIME ZONE,
    deleted_at TIMESTAMP WITH TIME ZONE,
    snapshot_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    payment_product_id TEXT,
    payment_product_name TEXT,
    card_funding TEXT,
    unreadable TEXT[],
    booked_on DATE,
    CONSTRAINT pk_transactions PRIMARY KEY (organization_reference_id, id),
    CONSTRAINT ck_transactions_state CHECK (state IN ('authorized', 'deleted', 'cleared', 'invoiced')),
    CONSTRAINT ck_transactions_booked_on CHECK (booked_on IS NOT NULL OR state IN ('authorized', 'deleted'))
);
CREATE INDEX ix_transactions_card_holder ON ems.transactions (card_holder_reference_id, organization_reference_id);
CREATE INDEX ix_transactions_cleared_card_issuer_reference ON ems.transactions (cleared_card_issuer_reference) WHERE cleared_card_issuer_reference IS NOT NULL;
CREATE INDEX ix_transactions_purchased_on ON ems.transactions (coalesce(purchase_date, CAST(snapshot_at AT TIME ZONE 'UTC' AS date)), organization_reference_id);
CREATE INDEX ix_transactions_state_updated_at ON ems.transactions (state, updated_at);
CREATE INDEX ix_transactions_booked_on ON ems.transactions (organization_reference_id, booked_on) WHERE booked_on IS NOT NULL;
CREATE INDEX ix_transactions_invoice_number ON ems.transactions (organization_reference_id, invoice_number) WHERE invoice_number IS NOT NULL;

COMMENT ON TABLE ems.transactions IS 'Card transactions (purchases, refunds, fees, withdrawals), one row each, in their current state: the highest that was reported (authorized < deleted < cleared < invoiced). Of each state only the newest snapshot counts, by the time of OpenCard''s first attempt to deliver it, of equal times the one received last; a field that is missing or null there comes from the state below it. A deleted transaction keeps its row. A column with the name of a field of OpenCard''s card.transaction.* payload contains that field.';
COMMENT ON COLUMN ems.transactions.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.transactions.id IS 'OpenCard''s id of the transaction, the same through all its states';
COMMENT ON COLUMN ems.transactions.state IS 'Current state: authorized, deleted, cleared or invoiced';
COMMENT ON COLUMN ems.transactions.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.transactions.receiptable IS 'Whether a partner of OpenCard has a digital receipt (its older documentation says: may have one); null when no state reports it';
COMMENT ON COLUMN ems.transactions.card_issuer IS 'Issuer of the card; null when no state reports it';
COMMENT ON COLUMN ems.transactions.card_issuer_reference IS 'The issuer''s reference of the highest state that has one; different in each state, not unique; null when no state reports it';
COMMENT ON COLUMN ems.transactions.card_issuer_customer_number IS 'The issuer''s number of the customer; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.transactions.type IS 'Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when no state reports it';
COMMENT ON COLUMN ems.transactions.invoice_number IS 'Number of the issuer''s invoice; whether it is unique across issuers is not documented; null until invoiced';
COMMENT ON COLUMN ems.transactions.invoice_date IS 'Date of the issuer''s invoice, a day without a zone; null until invoiced';
COMMENT ON COLUMN ems.transactions.original_amount IS 'Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; may change until cleared; null when no state reports it';
COMMENT ON COLUMN ems.transactions.original_currency IS 'Currency of the purchase, as sent, normally ISO 4217; null when no state reports it';
COMMENT ON COLUMN ems.transactions.vat_rate IS 'VAT rate from the card network, as sent, often wrong; whether it is percent (25) or a fraction (0.25) is not documented; the ledger prefers the merchant''s VAT; null when no state reports it';
COMMENT ON COLUMN ems.transactions.vat_amount IS 'VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive for a refund; the ledger corrects the sign, and prefers the merchant''s; null when no state reports it';
COMMENT ON COLUMN ems.transactions.vat_currency IS 'Currency of vat_amount, as sent, normally ISO 4217; null when no state reports it';
COMMENT ON COLUMN ems.transactions.accounting_amount IS 'Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; as a rule final once cleared; null when no state reports it';
COMMENT ON COLUMN ems.transactions.accounting_currency IS 'Currency of accounting_amount: the customer''s home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it';
COMMENT ON COLUMN ems.transactions.exchange_rate IS 'Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_merchant IS 'Merchant as the card network names it; null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_merchant_common IS 'Merchant''s normalized name; null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_date IS 'Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_time IS 'Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_timezone IS 'Time zone of purchase_date and purchase_time (IANA name as a rule); null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_country IS 'Country, as sent, normally ISO 3166 alpha-2; null when no state reports it';
COMMENT ON COLUMN ems.transactions.purchase_city IS 'City; null when no state reports it';
COMMENT ON COLUMN ems.transactions.card_id IS 'OpenCard''s id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not documented; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.transactions.card_product IS 'Product name of the card; null when no state reports it';
COMMENT ON COLUMN ems.transactions.card_type IS 'private, corporate or corporate_with_private_invoice; null when no state reports it';
COMMENT ON COLUMN ems.transactions.card_last_four IS 'Last four digits of the card number (personal), not unique; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.transactions.mcc_code IS 'Merchant category code (ISO 18245); null when no state reports it';
COMMENT ON COLUMN ems.transactions.mcc_text IS 'Name of the merchant category; null when no state reports it';
COMMENT ON COLUMN ems.transactions.mcc_top_level IS 'Top level of the merchant category; null when no state reports it';
COMMENT ON COLUMN ems.transactions.branch_code IS 'Code of the merchant''s line of business; null when no state reports it';
COMMENT ON COLUMN ems.transactions.branch_text IS 'Name of the merchant''s line of business; null when no state reports it';
COMMENT ON COLUMN ems.transactions.category_text IS 'OpenCard''s spending category; null when no state reports it';
COMMENT ON COLUMN ems.transactions.cleared_card_issuer_reference IS 'Clearing reference of the issuer, kept in later states; compare it with the clearing reference in another source, such as the bank''s own file; null until cleared, and when not reported';
COMMENT ON COLUMN ems.transactions.cleared_snapshot_at IS 'When the newest cleared snapshot was reported, which cleared_card_issuer_reference is from; null until cleared';
COMMENT ON COLUMN ems.transactions.authorized_at IS 'When first reported as authorized; null when never reported';
COMMENT ON COLUMN ems.transactions.cleared_at IS 'When first reported as cleared; null when never reported';
COMMENT ON COLUMN ems.transactions.invoiced_at IS 'When first reported as invoiced; null when never reported';
COMMENT ON COLUMN ems.transactions.deleted_at IS 'When first reported as deleted; kept if the transaction is cleared later; null when never reported';
COMMENT ON COLUMN ems.transactions.snapshot_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.transactions.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';
COMMENT ON COLUMN ems.transactions.updated_at IS 'When this row last changed in this database; not a time of the transaction';
COMMENT ON COLUMN ems.transactions.payment_product_id IS 'OpenCard''s id of the payment product that the card belongs to (source: payment_product.id); null when not reported, or once the card holder is erased';
COMMENT ON COLUMN ems.transactions.payment_product_name IS 'Name of the payment product (source: payment_product.name); null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.transactions.card_funding IS 'debit or credit, as sent; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.transactions.unreadable IS 'Names of columns that are null because their field of the payload could not be read; the event''s payload has the field as sent; null when every field could be read';
COMMENT ON COLUMN ems.transactions.booked_on IS 'Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer''s booking or posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; null only while authorized or deleted';

CREATE TABLE ems.vat_rates (
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    line_number INTEGER NOT NULL,
    vat_amount NUMERIC,
    taxable_amount NUMERIC,
    total_amount NUMERIC,
    percentage NUMERIC,
    currency TEXT,
    purchase_country TEXT,
    card_holder_reference_id TEXT NOT NULL,
    card_issuer TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    CONSTRAINT pk_vat_rates PRIMARY KEY (organization_reference_id, transaction_id, line_number)
);

COMMENT ON TABLE ems.vat_rates IS 'VAT by rate from the merchant''s receipt; a newer event replaces all rows of a transaction. May arrive before the transaction.';
COMMENT ON COLUMN ems.vat_rates.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.vat_rates.transaction_id IS 'OpenCard''s id of the transaction, the same through all its states (source: transaction.id)';
COMMENT ON COLUMN ems.vat_rates.line_number IS 'Position in the merchant''s list, from 1; the order as sent';
COMMENT ON COLUMN ems.vat_rates.vat_amount IS 'VAT of this rate, in major units of currency (source: vat_rates[].vat_amount); sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported';
COMMENT ON COLUMN ems.vat_rates.taxable_amount IS 'Amount without VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported';
COMMENT ON COLUMN ems.vat_rates.total_amount IS 'Amount with VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported';
COMMENT ON COLUMN ems.vat_rates.percentage IS 'The rate in percent (25 means 25 %); null when not reported';
COMMENT ON COLUMN ems.vat_rates.currency IS 'Currency of the amounts, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.vat_rates.purchase_country IS 'Country of the purchase, as sent, normally ISO 3166 alpha-2; null when not reported';
COMMENT ON COLUMN ems.vat_rates.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction';
COMMENT ON COLUMN ems.vat_rates.card_issuer IS 'Issuer of the card (source: transaction.card_issuer); null when not reported';
COMMENT ON COLUMN ems.vat_rates.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.vat_rates.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';

CREATE TABLE ems.vat_totals (
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    line_number INTEGER NOT NULL,
    vat_amount NUMERIC,
    taxable_amount NUMERIC,
    total_amount NUMERIC,
    currency TEXT,
    purchase_country TEXT,
    card_holder_reference_id TEXT NOT NULL,
    card_issuer TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    delivery_id BIGINT NOT NULL,
    CONSTRAINT pk_vat_totals PRIMARY KEY (organization_reference_id, transaction_id, line_number)
);

COMMENT ON TABLE ems.vat_totals IS 'Total VAT from the merchant''s receipt, usually one row for each currency; a newer event replaces all rows of a transaction. May arrive before the transaction.';
COMMENT ON COLUMN ems.vat_totals.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.vat_totals.transaction_id IS 'OpenCard''s id of the transaction, the same through all its states (source: transaction.id)';
COMMENT ON COLUMN ems.vat_totals.line_number IS 'Position in the merchant''s list, from 1; the order as sent';
COMMENT ON COLUMN ems.vat_totals.vat_amount IS 'VAT in total, in major units of currency (source: totals[].vat_amount); sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported';
COMMENT ON COLUMN ems.vat_totals.taxable_amount IS 'Amount without VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported';
COMMENT ON COLUMN ems.vat_totals.total_amount IS 'Amount with VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported';
COMMENT ON COLUMN ems.vat_totals.currency IS 'Currency of the amounts, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.vat_totals.purchase_country IS 'Country of the purchase, as sent, normally ISO 3166 alpha-2; null when not reported';
COMMENT ON COLUMN ems.vat_totals.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction';
COMMENT ON COLUMN ems.vat_totals.card_issuer IS 'Issuer of the card (source: transaction.card_issuer); null when not reported';
COMMENT ON COLUMN ems.vat_totals.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.vat_totals.delivery_id IS 'Delivery that the current values come from (receiver.deliveries.id)';

CREATE TABLE receiver.delivery_decisions (
    delivery_id BIGINT NOT NULL,
    decision TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    decided_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_delivery_decisions PRIMARY KEY (delivery_id),
    CONSTRAINT ck_delivery_decisions_decision CHECK (decision IN ('accepted', 'retracted'))
);

COMMENT ON COLUMN receiver.delivery_decisions.decision IS 'accepted: genuine, as an operator found out; retracted: forged, its event does not count';

CREATE TABLE receiver.applied_configuration (
    id SMALLINT NOT NULL,
    configuration BYTEA NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    error TEXT,
    CONSTRAINT pk_applied_configuration PRIMARY KEY (id),
    CONSTRAINT ck_applied_configuration_one_row CHECK (id = 1)
);

COMMENT ON COLUMN receiver.applied_configuration.configuration IS 'encrypted; JSON, values from the environment included';
COMMENT ON COLUMN receiver.applied_configuration.applied_at IS 'when an operator applied it';
COMMENT ON COLUMN receiver.applied_configuration.started_at IS 'when the last run began that applied it';
COMMENT ON COLUMN receiver.applied_configuration.ended_at IS 'when the last run ended, also early; not of one that another command kept out';
COMMENT ON COLUMN receiver.applied_configuration.error IS 'why the last run ended early; null when it did not';

CREATE TABLE receiver.bodies (
    delivery_id BIGINT NOT NULL,
    body BYTEA NOT NULL,
    headers JSONB NOT NULL,
    CONSTRAINT pk_bodies PRIMARY KEY (delivery_id)
)
 PARTITION BY RANGE (delivery_id);

COMMENT ON COLUMN receiver.bodies.body IS 'raw bytes';
COMMENT ON COLUMN receiver.bodies.headers IS 'without credentials';

CREATE TABLE receiver.confirmations (
    delivery_id BIGINT NOT NULL,
    confirmed_at TIMESTAMP WITH TIME ZONE,
    occurred_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_confirmations PRIMARY KEY (delivery_id)
);

COMMENT ON COLUMN receiver.confirmations.confirmed_at IS 'when reconcile found it in the log';
COMMENT ON COLUMN receiver.confirmations.occurred_at IS 'time of the first attempt, where the log shows one before it arrived';

CREATE TABLE receiver.console_sessions (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    token_hash BYTEA NOT NULL,
    user_name TEXT NOT NULL,
    credential BYTEA NOT NULL,
    subject TEXT,
    role TEXT,
    tokens BYTEA,
    address TEXT NOT NULL,
    network TEXT NOT NULL,
    signed_in_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    confirmed_at TIMESTAMP WITH TIME ZONE,
    confirm_after TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_console_sessions PRIMARY KEY (id),
    CONSTRAINT uq_console_sessions_token_hash UNIQUE (token_hash)
);
CREATE INDEX ix_console_sessions_signed_in_at ON receiver.console_sessions (signed_in_at);
CREATE INDEX ix_console_sessions_user_name_network ON receiver.console_sessions (user_name, network);

COMMENT ON COLUMN receiver.console_sessions.token_hash IS 'SHA-256 of what the browser''s cookie holds';
COMMENT ON COLUMN receiver.console_sessions.credential IS 'SHA-256 of role and password hash, or of issuer, client and roles of groups: the session ends when any of them changes';
COMMENT ON COLUMN receiver.console_sessions.subject IS 'the user''s sub at the OpenID provider; null after a sign-in by password';
COMMENT ON COLUMN receiver.console_sessions.role IS 'by the user''s groups when they were last confirmed; null after a sign-in by password';
COMMENT ON COLUMN receiver.console_sessions.tokens IS 'encrypted; of the OpenID provider; null after the session';
COMMENT ON COLUMN receiver.console_sessions.address IS 'from where, as the proxy says';
COMMENT ON COLUMN receiver.console_sessions.network IS 'the address; of IPv6 the /64 it is in';
COMMENT ON COLUMN receiver.console_sessions.seen_at IS 'of the last page, to the minute';
COMMENT ON COLUMN receiver.console_sessions.confirmed_at IS 'when the OpenID provider last confirmed the user and the groups';
COMMENT ON COLUMN receiver.console_sessions.confirm_after IS 'the first request after this asks the OpenID provider';
COMMENT ON COLUMN receiver.console_sessions.ended_at IS 'when the user signed out, or the OpenID provider no longer confirmed the user';

CREATE TABLE receiver.counted_hours (
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    counted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_counted_hours PRIMARY KEY (hour)
);

CREATE TABLE receiver.counter_flushes (
    process UUID NOT NULL,
    flush_id UUID NOT NULL,
    flushed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_counter_flushes PRIMARY KEY (process)
);

COMMENT ON COLUMN receiver.counter_flushes.process IS 'random; a worker''s job processes count as the worker';
COMMENT ON COLUMN receiver.counter_flushes.flush_id IS 'so that a flush whose answer was lost is not added twice';

CREATE TABLE receiver.counter_minutes (
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    received DOUBLE PRECISION NOT NULL,
    processed DOUBLE PRECISION NOT NULL,
    failed DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_counter_minutes PRIMARY KEY (at)
);

COMMENT ON COLUMN receiver.counter_minutes.received IS 'deliveries stored';
COMMENT ON COLUMN receiver.counter_minutes.processed IS 'attempts that need no other';
COMMENT ON COLUMN receiver.counter_minutes.failed IS 'attempts that ended as failed, dead or quarantined';

CREATE TABLE receiver.deploys (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    version TEXT NOT NULL,
    CONSTRAINT pk_deploys PRIMARY KEY (id)
);

CREATE TABLE receiver.refused_deliveries (
    webhook_id BIGINT NOT NULL,
    reason TEXT NOT NULL,
    minute TIMESTAMP WITH TIME ZONE NOT NULL,
    number DOUBLE PRECISION NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_refused_deliveries PRIMARY KEY (webhook_id, reason, minute)
);

COMMENT ON COLUMN receiver.refused_deliveries.last_at IS 'the last of them was refused then, or within a second';

CREATE TABLE receiver.counters (
    process UUID NOT NULL,
    name TEXT NOT NULL,
    labels JSONB NOT NULL,
    value DOUBLE PRECISION DEFAULT '0' NOT NULL,
    CONSTRAINT pk_counters PRIMARY KEY (process, name, labels)
);

COMMENT ON COLUMN receiver.counters.name IS 'as in /metrics';

CREATE TABLE receiver.delivery_hours (
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    webhook_id BIGINT NOT NULL,
    source TEXT NOT NULL,
    status TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    CONSTRAINT pk_delivery_hours PRIMARY KEY (hour, webhook_id, source, status)
);

CREATE TABLE receiver.erased_card_holders (
    organization_reference_id TEXT NOT NULL,
    pseudonym TEXT NOT NULL,
    erased_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    recreated_at TIMESTAMP WITH TIME ZONE,
    late_deliveries INTEGER DEFAULT '0' NOT NULL,
    late_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_erased_card_holders PRIMARY KEY (organization_reference_id, pseudonym)
);
CREATE INDEX ix_erased_card_holders_erased_at ON receiver.erased_card_holders (erased_at);
CREATE INDEX ix_erased_card_holders_unfinished ON receiver.erased_card_holders (erased_at) WHERE finished_at IS NULL;

COMMENT ON COLUMN receiver.erased_card_holders.pseudonym IS 'replaces the reference; keyed, so that it cannot be guessed';
COMMENT ON COLUMN receiver.erased_card_holders.erased_at IS 'from when on the reference is replaced in what is processed';
COMMENT ON COLUMN receiver.erased_card_holders.finished_at IS 'when it was replaced in all that was stored before; null while that is in progress';
COMMENT ON COLUMN receiver.erased_card_holders.recreated_at IS 'since when the reference is in use again: the card holder was created again';
COMMENT ON COLUMN receiver.erased_card_holders.late_deliveries IS 'deliveries that were processed under the pseudonym since';
COMMENT ON COLUMN receiver.erased_card_holders.late_at IS 'when the last of them was';

CREATE TABLE receiver.erasure_key (
    id SMALLINT NOT NULL,
    key BYTEA NOT NULL,
    CONSTRAINT pk_erasure_key PRIMARY KEY (id),
    CONSTRAINT ck_erasure_key_one_row CHECK (id = 1)
);

COMMENT ON COLUMN receiver.erasure_key.key IS 'encrypted; hexadecimal digits';

CREATE TABLE receiver.feed_epochs (
    epoch INTEGER NOT NULL,
    epoch_start BIGINT DEFAULT 0 NOT NULL,
    begun_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    reason TEXT,
    last_run_id BIGINT DEFAULT 0 NOT NULL,
    recovered_at TIMESTAMP WITH TIME ZONE,
    system_identifier BIGINT,
    timeline INTEGER,
    backup_label BYTEA,
    database_oid BIGINT,
    events_oid BIGINT,
    CONSTRAINT pk_feed_epochs PRIMARY KEY (epoch)
);

COMMENT ON COLUMN receiver.feed_epochs.epoch_start IS 'positions of the epoch are higher';
COMMENT ON COLUMN receiver.feed_epochs.reason IS 'why it began; null for the first';
COMMENT ON COLUMN receiver.feed_epochs.last_run_id IS 'runs of reconcile up to this one do not count any more';
COMMENT ON COLUMN receiver.feed_epochs.recovered_at IS 'when an operator acknowledged it by receiver recover';
COMMENT ON COLUMN receiver.feed_epochs.system_identifier IS 'of the cluster; null where PostgreSQL does not say';
COMMENT ON COLUMN receiver.feed_epochs.timeline IS 'of the WAL; null where PostgreSQL does not say';
COMMENT ON COLUMN receiver.feed_epochs.backup_label IS 'SHA-256 of the label of the base backup that the server was started from; empty without one, null where PostgreSQL does not say';
COMMENT ON COLUMN receiver.feed_epochs.events_oid IS 'of ems.events';

CREATE TABLE receiver.oauth_tokens (
    api_url TEXT NOT NULL,
    client_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    token BYTEA NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_oauth_tokens PRIMARY KEY (api_url, client_id, scopes)
);

COMMENT ON COLUMN receiver.oauth_tokens.api_url IS 'environment: the API''s base address';
COMMENT ON COLUMN receiver.oauth_tokens.scopes IS 'sorted, separated by spaces';
COMMENT ON COLUMN receiver.oauth_tokens.token IS 'encrypted';
COMMENT ON COLUMN receiver.oauth_tokens.expires_at IS 'when it is not used any more, shortly before it expires';

CREATE TABLE receiver.organizations (
    organization_id BIGINT NOT NULL,
    organization_reference_id TEXT,
    left_out BOOLEAN DEFAULT false NOT NULL,
    unavailable_events JSONB DEFAULT '{}' NOT NULL,
    error TEXT,
    found_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_organizations PRIMARY KEY (organization_id)
);

COMMENT ON COLUMN receiver.organizations.organization_id IS 'the provider''s id';
COMMENT ON COLUMN receiver.organizations.organization_reference_id IS 'the EMS''s id of it; null where OpenCard has none';
COMMENT ON COLUMN receiver.organizations.left_out IS 'the configuration wants no webhook for it';
COMMENT ON COLUMN receiver.organizations.unavailable_events IS 'flags of wanted events that it cannot have: each with the reason, and when OpenCard rejected it';
COMMENT ON COLUMN receiver.organizations.error IS 'what the last run could not do for it';
COMMENT ON COLUMN receiver.organizations.found_at IS 'when it was found first';
COMMENT ON COLUMN receiver.organizations.deleted_at IS 'since when the account''s list does not have it';

CREATE TABLE receiver.outcomes (
    delivery_id BIGINT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    attempts_before_replay INTEGER DEFAULT '0' NOT NULL,
    processed_at TIMESTAMP WITH TIME ZONE,
    error TEXT,
    position BIGINT,
    fingerprint BYTEA,
    transaction_id TEXT,
    card_holder_reference_id TEXT,
    CONSTRAINT pk_outcomes PRIMARY KEY (delivery_id),
    CONSTRAINT ck_outcomes_status CHECK (status IN ('processed', 'duplicate', 'ignored', 'quarantined', 'failed', 'dead'))
);
CREATE INDEX ix_outcomes_card_holder_reference_id ON receiver.outcomes (card_holder_reference_id) WHERE card_holder_reference_id IS NOT NULL;
CREATE INDEX ix_outcomes_retries ON receiver.outcomes (position) WHERE status = 'duplicate';
CREATE INDEX ix_outcomes_status ON receiver.outcomes (status, delivery_id) WHERE status <> 'processed';
CREATE INDEX ix_outcomes_transaction_id ON receiver.outcomes (transaction_id) WHERE transaction_id IS NOT NULL;

COMMENT ON COLUMN receiver.outcomes.attempts IS 'how often processing was tried';
COMMENT ON COLUMN receiver.outcomes.attempts_before_replay IS 'how many of them were before its last replay failed to apply it: they do not count for pauses';
COMMENT ON COLUMN receiver.outcomes.processed_at IS 'null while it is failed';
COMMENT ON COLUMN receiver.outcomes.error IS 'of the last attempt';
COMMENT ON COLUMN receiver.outcomes.position IS 'in ems.events: of its event, which this delivery (processed) or an earlier one (duplicate) added';
COMMENT ON COLUMN receiver.outcomes.fingerprint IS 'SHA-256 of the event by value, where that is not the event''s at position';
COMMENT ON COLUMN receiver.outcomes.transaction_id IS 'that it names, where there is no position';
COMMENT ON COLUMN receiver.outcomes.card_holder_reference_id IS 'likewise';

CREATE TABLE receiver.processing_attempts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    delivery_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    attempted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT NOT NULL,
    trace TEXT,
    CONSTRAINT pk_processing_attempts PRIMARY KEY (id)
);
CREATE INDEX ix_processing_attempts_delivery_id ON receiver.processing_attempts (delivery_id);

COMMENT ON COLUMN receiver.processing_attempts.number IS '1 for the first try of this delivery';
COMMENT ON COLUMN receiver.processing_attempts.outcome IS 'the status that the delivery got by it';
COMMENT ON COLUMN receiver.processing_attempts.error IS 'one line for a person';
COMMENT ON COLUMN receiver.processing_attempts.trace IS 'the traceback, when there was an exception to explain';

CREATE TABLE receiver.worker_deaths (
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    deliveries BIGINT NOT NULL,
    CONSTRAINT pk_worker_deaths PRIMARY KEY (at)
);

COMMENT ON COLUMN receiver.worker_deaths.at IS 'the end of the lease, which identifies it';
COMMENT ON COLUMN receiver.worker_deaths.deliveries IS 'how many it held';

CREATE TABLE receiver.queue (
    delivery_id BIGINT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    leased_until TIMESTAMP WITH TIME ZONE,
    alone BOOLEAN DEFAULT false NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE,
    trace BYTEA,
    CONSTRAINT pk_queue PRIMARY KEY (delivery_id)
)
 WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ix_queue_due ON receiver.queue (alone, due_at, delivery_id);
CREATE INDEX ix_queue_failed ON receiver.queue (failed_at) WHERE failed_at IS NOT NULL;

COMMENT ON COLUMN receiver.queue.attempts IS 'how often processing was tried, counted at the claim';
COMMENT ON COLUMN receiver.queue.leased_until IS 'until when a worker has it; null when none does';
COMMENT ON COLUMN receiver.queue.alone IS 'processed in a separate batch: it failed, or was in a batch that did';
COMMENT ON COLUMN receiver.queue.failed_at IS 'when its last attempt failed: the pause until due_at is counted from then';
COMMENT ON COLUMN receiver.queue.trace IS 'ids of trace and span of its request, where traces are recorded and this one is sampled: 24 bytes';

CREATE TABLE receiver.receipt_downloads (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT,
    tpa_id TEXT,
    url TEXT NOT NULL,
    url_sha256 BYTEA GENERATED ALWAYS AS (sha256(decode(replace(url, '\', '\\'), 'escape'))) STORED NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    status TEXT DEFAULT 'waiting' NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_attempt_at TIMESTAMP WITH TIME ZONE,
    error TEXT,
    noted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_receipt_downloads PRIMARY KEY (id),
    CONSTRAINT ck_receipt_downloads_status CHECK (status IN ('waiting', 'expired', 'refused')),
    CONSTRAINT ck_receipt_downloads_one_subject CHECK (num_nonnulls(transaction_id, tpa_id) = 1)
);
CREATE INDEX ix_receipt_downloads_waiting ON receiver.receipt_downloads (next_attempt_at, id) WHERE status = 'waiting'::text;
CREATE UNIQUE INDEX uq_receipt_downloads_receipt ON receiver.receipt_downloads (organization_reference_id, transaction_id, url_sha256);
CREATE UNIQUE INDEX uq_receipt_downloads_tpa ON receiver.receipt_downloads (organization_reference_id, tpa_id) WHERE tpa_id IS NOT NULL;

COMMENT ON COLUMN receiver.receipt_downloads.transaction_id IS 'of a receipt; null for a TPA';
COMMENT ON COLUMN receiver.receipt_downloads.tpa_id IS 'of a signed TPA; null for a receipt';
COMMENT ON COLUMN receiver.receipt_downloads.url IS 'as in ems.receipts or ems.tpas; its query may be a secret';
COMMENT ON COLUMN receiver.receipt_downloads.expires_at IS 'until when the URL works; null when not sent';
COMMENT ON COLUMN receiver.receipt_downloads.status IS 'waiting: for a worker; expired: the URL works no more; refused: it must not be stored';
COMMENT ON COLUMN receiver.receipt_downloads.attempts IS 'how often it was begun';
COMMENT ON COLUMN receiver.receipt_downloads.next_attempt_at IS 'while one is under way: when it counts as dead';
COMMENT ON COLUMN receiver.receipt_downloads.last_attempt_at IS 'when it was begun last';
COMMENT ON COLUMN receiver.receipt_downloads.error IS 'why the last attempt failed, in one line for a person';
COMMENT ON COLUMN receiver.receipt_downloads.completed_at IS 'when it was given up; null while it waits';

CREATE TABLE receiver.replays (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    requested_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    filter JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    selecting_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    selected_at TIMESTAMP WITH TIME ZONE,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    cancelled_by TEXT,
    ended_at TIMESTAMP WITH TIME ZONE,
    selected INTEGER DEFAULT '0' NOT NULL,
    processed INTEGER DEFAULT '0' NOT NULL,
    failed INTEGER DEFAULT '0' NOT NULL,
    CONSTRAINT pk_replays PRIMARY KEY (id)
);
CREATE INDEX ix_replays_unfinished ON receiver.replays (id) WHERE ended_at IS NULL;

COMMENT ON COLUMN receiver.replays.filter IS 'which deliveries were requested';
COMMENT ON COLUMN receiver.replays.selecting_at IS 'last progress of the selection; minutes ago, with selected_at null: it was interrupted';
COMMENT ON COLUMN receiver.replays.selected_at IS 'when all were selected; workers take them from then on';
COMMENT ON COLUMN receiver.replays.selected IS 'how many deliveries';
COMMENT ON COLUMN receiver.replays.processed IS 'once it ended: how many of them became processed or duplicate';
COMMENT ON COLUMN receiver.replays.failed IS 'once it ended: how many of them failed, or were held again';

CREATE TABLE receiver.retention_runs (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    removed JSONB DEFAULT '{}' NOT NULL,
    caught_up BOOLEAN,
    error TEXT,
    CONSTRAINT pk_retention_runs PRIMARY KEY (id)
);
CREATE INDEX ix_retention_runs_started_at ON receiver.retention_runs (started_at);

COMMENT ON COLUMN receiver.retention_runs.removed IS 'how much of each kind went';
COMMENT ON COLUMN receiver.retention_runs.caught_up IS 'whether all expired data was deleted; false: the next run continues';

CREATE TABLE receiver.retention_walks (
    kind TEXT NOT NULL,
    position BIGINT DEFAULT '0' NOT NULL,
    pass_began_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_retention_walks PRIMARY KEY (kind)
);

COMMENT ON COLUMN receiver.retention_walks.kind IS 'what is deleted on this walk';
COMMENT ON COLUMN receiver.retention_walks.position IS 'the last row that was looked at';
COMMENT ON COLUMN receiver.retention_walks.pass_began_at IS 'when the walk last began at the first row';

CREATE TABLE receiver.sign_in_failures (
    subject BYTEA NOT NULL,
    failures INTEGER NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_sign_in_failures PRIMARY KEY (subject)
);
CREATE INDEX ix_sign_in_failures_failed_at ON receiver.sign_in_failures (failed_at);

COMMENT ON COLUMN receiver.sign_in_failures.subject IS 'SHA-256 of the name or the address; a name may be a mistyped password';
COMMENT ON COLUMN receiver.sign_in_failures.failures IS 'in a row, none of them a day apart';

CREATE TABLE receiver.stored_deliveries (
    id BIGSERIAL NOT NULL,
    webhook_id BIGINT NOT NULL,
    event TEXT NOT NULL,
    version TEXT,
    verification TEXT NOT NULL,
    source TEXT DEFAULT 'push' NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    written_ms INTEGER,
    CONSTRAINT pk_stored_deliveries PRIMARY KEY (id),
    CONSTRAINT ck_stored_deliveries_source CHECK (source IN ('push', 'log'))
)
 PARTITION BY RANGE (id);
CREATE INDEX ix_stored_deliveries_webhook_id_received_at ON receiver.stored_deliveries (webhook_id, received_at);

COMMENT ON COLUMN receiver.stored_deliveries.event IS 'X-Event, as received';
COMMENT ON COLUMN receiver.stored_deliveries.version IS 'X-Version, as received';
COMMENT ON COLUMN receiver.stored_deliveries.verification IS 'what proved that it is authentic';
COMMENT ON COLUMN receiver.stored_deliveries.source IS 'push, or log: recovered by reconcile';
COMMENT ON COLUMN receiver.stored_deliveries.occurred_at IS 'push: when it was received; log: the first attempt''s time';
COMMENT ON COLUMN receiver.stored_deliveries.written_ms IS 'milliseconds from the arrival of the request until this row was written; the commit and the answer followed; null: from the log';

CREATE TABLE receiver.webhooks (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    opencard_webhook_id BIGINT,
    organization_id BIGINT NOT NULL,
    organization_reference_id TEXT NOT NULL,
    endpoint_key TEXT NOT NULL,
    secret BYTEA NOT NULL,
    previous_secret BYTEA,
    previous_secret_expires_at TIMESTAMP WITH TIME ZONE,
    authentication_type TEXT DEFAULT 'none' NOT NULL,
    credentials BYTEA,
    previous_authentication_type TEXT,
    previous_credentials BYTEA,
    previous_credentials_expires_at TIMESTAMP WITH TIME ZONE,
    oauth_client_id TEXT,
    acknowledged_at TIMESTAMP WITH TIME ZONE,
    enabled BOOLEAN DEFAULT true NOT NULL,
    active BOOLEAN,
    test BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    registered_groups JSONB DEFAULT '[]' NOT NULL,
    reconcile_requested_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_webhooks PRIMARY KEY (id),
    CONSTRAINT ck_webhooks_authentication_type CHECK (authentication_type IN ('none', 'basic', 'custom', 'oauth')),
    CONSTRAINT uq_webhooks_opencard_webhook_id UNIQUE (opencard_webhook_id),
    CONSTRAINT uq_webhooks_endpoint_key UNIQUE (endpoint_key),
    CONSTRAINT uq_webhooks_oauth_client_id UNIQUE (oauth_client_id)
);
CREATE INDEX ix_webhooks_organization_reference_id ON receiver.webhooks (organization_reference_id);

COMMENT ON COLUMN receiver.webhooks.opencard_webhook_id IS 'the provider''s id';
COMMENT ON COLUMN receiver.webhooks.organization_id IS 'the provider''s id of the organization';
COMMENT ON COLUMN receiver.webhooks.organization_reference_id IS 'the EMS''s id of the organization';
COMMENT ON COLUMN receiver.webhooks.endpoint_key IS 'unguessable last part of the endpoint''s path';
COMMENT ON COLUMN receiver.webhooks.secret IS 'encrypted';
COMMENT ON COLUMN receiver.webhooks.previous_secret IS 'encrypted; good while one is rotated';
COMMENT ON COLUMN receiver.webhooks.credentials IS 'encrypted; a JSON object';
COMMENT ON COLUMN receiver.webhooks.previous_credentials IS 'encrypted; a JSON object; good while they are replaced';
COMMENT ON COLUMN receiver.webhooks.oauth_client_id IS 'by which OpenCard asks for tokens, with authentication_type oauth';
COMMENT ON COLUMN receiver.webhooks.acknowledged_at IS 'when OpenCard took secret and credentials as they stand here; null while it may not know them';
COMMENT ON COLUMN receiver.webhooks.enabled IS 'whether its deliveries are taken here';
COMMENT ON COLUMN receiver.webhooks.active IS 'whether OpenCard last said that the challenge has passed';
COMMENT ON COLUMN receiver.webhooks.test IS 'only for test deliveries: nothing that arrives at it is ever applied';
COMMENT ON COLUMN receiver.webhooks.deleted_at IS 'since when OpenCard does not have it; it is not reconciled then';
COMMENT ON COLUMN receiver.webhooks.registered_groups IS 'buyer parties that were registered, where OpenCard does not list them';
COMMENT ON COLUMN receiver.webhooks.reconcile_requested_at IS 'when an operator requested a run of reconcile; it is due unless one has started since';

CREATE TABLE receiver.delivery_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    webhook_id BIGINT NOT NULL,
    identity BYTEA NOT NULL,
    opencard_event_id TEXT,
    event TEXT NOT NULL,
    response_status INTEGER,
    attempted_at TIMESTAMP WITH TIME ZONE,
    fingerprint BYTEA,
    item BYTEA NOT NULL,
    unrecoverable BOOLEAN DEFAULT false NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_delivery_log PRIMARY KEY (id),
    CONSTRAINT fk_delivery_log_webhook_id_webhooks FOREIGN KEY(webhook_id) REFERENCES receiver.webhooks (id)
);
CREATE INDEX ix_delivery_log_unrecoverable ON receiver.delivery_log (webhook_id) WHERE unrecoverable;
CREATE INDEX ix_delivery_log_webhook_id_attempted_at ON receiver.delivery_log (webhook_id, attempted_at);
CREATE INDEX ix_delivery_log_webhook_id_fingerprint ON receiver.delivery_log (webhook_id, fingerprint);
CREATE UNIQUE INDEX uq_delivery_log_webhook_id_identity ON receiver.delivery_log (webhook_id, identity);

COMMENT ON COLUMN receiver.delivery_log.identity IS 'SHA-256 of the log''s id; without one, of what the entry says and its number among equal ones';
COMMENT ON COLUMN receiver.delivery_log.opencard_event_id IS 'the log''s id of the entry, if it has one';
COMMENT ON COLUMN receiver.delivery_log.event IS 'as the log has it; empty where it names none';
COMMENT ON COLUMN receiver.delivery_log.response_status IS 'what we answered, as the log has it';
COMMENT ON COLUMN receiver.delivery_log.fingerprint IS 'SHA-256 of the event by value; null without a payload';
COMMENT ON COLUMN receiver.delivery_log.item IS 'the log''s item, whole, as it came: JSON in UTF-8';
COMMENT ON COLUMN receiver.delivery_log.unrecoverable IS 'its event is missing here, and the log does not have the payload';
COMMENT ON COLUMN receiver.delivery_log.read_at IS 'when it was read first';

CREATE TABLE receiver.previous_endpoint_keys (
    endpoint_key TEXT NOT NULL,
    webhook_id BIGINT NOT NULL,
    replaced_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_previous_endpoint_keys PRIMARY KEY (endpoint_key),
    CONSTRAINT fk_previous_endpoint_keys_webhook_id_webhooks FOREIGN KEY(webhook_id) REFERENCES receiver.webhooks (id)
);
CREATE INDEX ix_previous_endpoint_keys_webhook_id ON receiver.previous_endpoint_keys (webhook_id);

CREATE TABLE receiver.reconcile_runs (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    webhook_id BIGINT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    since TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    checked_until TIMESTAMP WITH TIME ZONE,
    unconfirmed_before TIMESTAMP WITH TIME ZONE,
    log_entries INTEGER DEFAULT '0' NOT NULL,
    matched INTEGER DEFAULT '0' NOT NULL,
    recovered INTEGER DEFAULT '0' NOT NULL,
    unconfirmed INTEGER DEFAULT '0' NOT NULL,
    unrecoverable INTEGER DEFAULT '0' NOT NULL,
    recovered_in_all BIGINT DEFAULT '0' NOT NULL,
    clock_ahead INTERVAL,
    error TEXT,
    CONSTRAINT pk_reconcile_runs PRIMARY KEY (id),
    CONSTRAINT fk_reconcile_runs_webhook_id_webhooks FOREIGN KEY(webhook_id) REFERENCES receiver.webhooks (id)
);
CREATE INDEX ix_reconcile_runs_clock_seen ON receiver.reconcile_runs (started_at) WHERE clock_ahead IS NOT NULL;
CREATE INDEX ix_reconcile_runs_webhook_id_started_at ON receiver.reconcile_runs (webhook_id, started_at);

COMMENT ON COLUMN receiver.reconcile_runs.since IS 'how far back the log was read; null: to its beginning';
COMMENT ON COLUMN receiver.reconcile_runs.checked_until IS 'checked from the beginning up to here; null where the run does not prove that';
COMMENT ON COLUMN receiver.reconcile_runs.unconfirmed_before IS 'what was received before this and is not in the log counts as unconfirmed';
COMMENT ON COLUMN receiver.reconcile_runs.log_entries IS 'attempts read';
COMMENT ON COLUMN receiver.reconcile_runs.matched IS 'events that the log and the deliveries have';
COMMENT ON COLUMN receiver.reconcile_runs.recovered IS 'deliveries made from the log';
COMMENT ON COLUMN receiver.reconcile_runs.unconfirmed IS 'deliveries open when the run ended, less those answered since';
COMMENT ON COLUMN receiver.reconcile_runs.unrecoverable IS 'events open when the run ended';
COMMENT ON COLUMN receiver.reconcile_runs.recovered_in_all IS 'by this run and those before it';
COMMENT ON COLUMN receiver.reconcile_runs.clock_ahead IS 'how far OpenCard''s clock is ahead of PostgreSQL''s; null where nothing showed it';

CREATE TABLE receiver.replay_deliveries (
    replay_id BIGINT NOT NULL,
    delivery_id BIGINT NOT NULL,
    status_before TEXT NOT NULL,
    alone BOOLEAN DEFAULT false NOT NULL,
    queued_at TIMESTAMP WITH TIME ZONE,
    outcome TEXT,
    completed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_replay_deliveries PRIMARY KEY (replay_id, delivery_id),
    CONSTRAINT fk_replay_deliveries_replay_id_replays FOREIGN KEY(replay_id) REFERENCES receiver.replays (id) ON DELETE CASCADE
);
CREATE INDEX ix_replay_deliveries_delivery_id ON receiver.replay_deliveries (delivery_id);
CREATE INDEX ix_replay_deliveries_open ON receiver.replay_deliveries (replay_id, delivery_id) WHERE outcome IS NULL;
CREATE INDEX ix_replay_deliveries_queued ON receiver.replay_deliveries (delivery_id) WHERE outcome IS NULL AND queued_at IS NOT NULL;

COMMENT ON COLUMN receiver.replay_deliveries.status_before IS 'its status when it was selected';
COMMENT ON COLUMN receiver.replay_deliveries.alone IS 'processed in a separate batch: it crashed a worker before';
COMMENT ON COLUMN receiver.replay_deliveries.queued_at IS 'when it was queued; null while its turn has not come';
COMMENT ON COLUMN receiver.replay_deliveries.outcome IS 'the status it got; cancelled, or without-body, when it was not processed; null while it waits';

CREATE TABLE receiver.webhook_headers (
    webhook_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    value BYTEA NOT NULL,
    CONSTRAINT pk_webhook_headers PRIMARY KEY (webhook_id, key),
    CONSTRAINT fk_webhook_headers_webhook_id_webhooks FOREIGN KEY(webhook_id) REFERENCES receiver.webhooks (id)
);

COMMENT ON COLUMN receiver.webhook_headers.key IS 'the header''s name, in lower case';
COMMENT ON COLUMN receiver.webhook_headers.value IS 'encrypted';

-- Tables that only grow are partitioned. The retention process creates the next partitions; the default partition takes rows that have none.

CREATE TABLE receiver.stored_deliveries_default PARTITION OF receiver.stored_deliveries DEFAULT;

CREATE TABLE receiver.stored_deliveries_0 PARTITION OF receiver.stored_deliveries FOR VALUES FROM (0) TO (4194304);

CREATE TABLE receiver.bodies_default PARTITION OF receiver.bodies DEFAULT;

CREATE TABLE receiver.bodies_0 PARTITION OF receiver.bodies FOR VALUES FROM (0) TO (4194304);

CREATE TABLE receiver.events_default PARTITION OF ems.events DEFAULT;

CREATE TABLE receiver.events_0 PARTITION OF ems.events FOR VALUES FROM (0) TO (16777216);

-- What a registered consumer has not read is not deleted.

CREATE FUNCTION receiver.note_deleted_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    highest bigint := (SELECT max(position) FROM gone);
    behind text := (
        SELECT string_agg(format('%s (position %s)', consumer.name, consumer.position), ', ' ORDER BY consumer.name)
        FROM ems.consumers AS consumer WHERE consumer.position < highest
    );
BEGIN
    IF behind IS NOT NULL THEN
        RAISE EXCEPTION 'events up to position % are needed by consumers: %', highest, behind USING
            ERRCODE = 'object_in_use',
            HINT = 'Wait until they have read them, or run: receiver db consumers drop NAME';
    END IF;
    INSERT INTO ems.feed_horizon AS horizon (id, deleted_through, deleted_at)
    SELECT 1, highest, clock_timestamp() WHERE highest IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET
        deleted_through = greatest(horizon.deleted_through, excluded.deleted_through),
        deleted_at = excluded.deleted_at;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_deleted_events AFTER DELETE ON ems.events
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION receiver.note_deleted_events();

-- What identifies the history that PostgreSQL writes. Managed servers refuse some of these functions.

CREATE FUNCTION receiver.feed_history(
    OUT system_identifier bigint, OUT timeline integer, OUT backup_label bytea,
    OUT database_oid bigint, OUT events_oid bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    database_oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    events_oid := 'ems.events'::regclass::oid;
    BEGIN
        system_identifier := (SELECT control.system_identifier FROM pg_control_system() AS control);
    EXCEPTION WHEN OTHERS THEN
        system_identifier := NULL;
    END;
    BEGIN
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    EXCEPTION WHEN OTHERS THEN
        timeline := NULL;
    END;
    BEGIN
        backup_label := coalesce(sha256(pg_read_binary_file('backup_label.old', 0, 8192, true)), '');
    EXCEPTION WHEN OTHERS THEN
        backup_label := NULL;
    END;
END
$$;

INSERT INTO receiver.feed_epochs (epoch, system_identifier, timeline, backup_label, database_oid, events_oid)
SELECT 0, system_identifier, timeline, backup_label, database_oid, events_oid FROM receiver.feed_history();

-- Ends a transaction whose expectation does not hold, so that it can be tried again (SQLSTATE 40001).

CREATE FUNCTION receiver.expect(holds boolean, otherwise text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE serialization_failure USING MESSAGE = otherwise;
    END IF;
END
$$;

-- Tables from which retention and erasure take much.

ALTER TABLE receiver.counters SET (fillfactor = 50);

ALTER TABLE receiver.delivery_log SET (autovacuum_vacuum_scale_factor = 0.02);

CREATE VIEW receiver.deliveries AS
SELECT
    stored.id,
    stored.webhook_id,
    stored.event,
    stored.version,
    body.body,
    coalesce(body.headers, '{}') AS headers,
    stored.verification,
    stored.source,
    stored.received_at,
    coalesce(confirmation.occurred_at, stored.occurred_at) AS occurred_at,
    CASE
        WHEN outcome.status = 'failed' OR queued.delivery_id IS NULL THEN coalesce(outcome.status, 'pending')
        ELSE 'pending'
    END AS status,
    coalesce(queued.attempts, outcome.attempts, 0) AS attempts,
    coalesce(outcome.attempts_before_replay, 0) AS attempts_before_replay,
    queued.due_at AS next_attempt_at,
    outcome.processed_at,
    outcome.error,
    confirmation.confirmed_at,
    decision.decision,
    coalesce(queued.alone, false) AS alone,
    outcome.position,
    coalesce(outcome.fingerprint, event.fingerprint) AS fingerprint,
    coalesce(outcome.transaction_id, event.transaction_id) AS transaction_id,
    coalesce(outcome.card_holder_reference_id, event.card_holder_reference_id) AS card_holder_reference_id
FROM receiver.stored_deliveries AS stored
LEFT JOIN receiver.bodies AS body ON body.delivery_id = stored.id
LEFT JOIN receiver.queue AS queued ON queued.delivery_id = stored.id
LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
LEFT JOIN receiver.delivery_decisions AS decision ON decision.delivery_id = stored.id
LEFT JOIN ems.events AS event ON event.position = outcome.position;

CREATE VIEW ems.ledger AS
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
    CASE
        WHEN coalesce(t.original_amount, t.accounting_amount) < 0
            THEN -abs(coalesce(merchant_vat.vat_amount, t.vat_amount))
        ELSE coalesce(merchant_vat.vat_amount, t.vat_amount)
    END AS vat_amount,
    CASE
        WHEN merchant_vat.vat_amount IS NOT NULL THEN merchant_vat.currency
        WHEN t.vat_amount IS NOT NULL THEN coalesce(t.vat_currency, t.original_currency)
    END AS vat_currency,
    CASE
        WHEN merchant_vat.vat_amount IS NOT NULL THEN 'merchant'
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
    t.deleted_at,
    t.payment_product_id,
    t.payment_product_name,
    t.card_funding,
    t.booked_on,
    CASE
        WHEN receipt.url IS NULL THEN 'none'
        WHEN receipt.file_key IS NULL THEN 'reported'
        ELSE 'stored'
    END AS receipt_state
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT sum(line.vat_amount) AS vat_amount, coalesce(line.currency, t.original_currency) AS currency
    FROM (
        SELECT vat_amount, currency FROM ems.vat_totals AS total
        WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
        UNION ALL
        SELECT vat_amount, currency FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = t.organization_reference_id AND rate.transaction_id = t.id
            AND NOT EXISTS (
                SELECT FROM ems.vat_totals AS total
                WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
                    AND total.vat_amount IS NOT NULL
            )
    ) AS line
    WHERE line.vat_amount IS NOT NULL
    GROUP BY coalesce(line.currency, t.original_currency)
    ORDER BY coalesce(line.currency, t.original_currency) = t.original_currency DESC NULLS LAST,
        coalesce(line.currency, t.original_currency) = t.accounting_currency DESC NULLS LAST,
        coalesce(line.currency, t.original_currency)
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
WHERE t.state IN ('cleared', 'invoiced');

COMMENT ON VIEW ems.ledger IS 'Transactions to post: cleared and invoiced, one row each, with the amounts of the highest state (invoiced before cleared); a clearing reported after the invoice does not change them. What the highest state does not report comes from the state below it, as in ems.transactions. A later clearing under the same id replaces the earlier one: amounts are not added. Changes of day, amounts, currencies, VAT, card holder and receipt_state are in ledger_journal; those of other columns (state, invoice, merchant) are not. VAT is the merchant''s if a receipt has it, else the card network''s (see vat_source); ledger_vat has it by rate. Select a month by booked_on.';
COMMENT ON COLUMN ems.ledger.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.ledger.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.ledger.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.ledger.state IS 'cleared or invoiced';
COMMENT ON COLUMN ems.ledger.purchase_date IS 'Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.ledger.purchase_time IS 'Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.ledger.purchase_timezone IS 'Time zone of purchase_date and purchase_time; null when no state reports it';
COMMENT ON COLUMN ems.ledger.merchant IS 'Merchant''s normalized name, else the card network''s; null when no state reports one';
COMMENT ON COLUMN ems.ledger.purchase_country IS 'Country, as sent, normally ISO 3166 alpha-2; null when no state reports it';
COMMENT ON COLUMN ems.ledger.purchase_city IS 'City; null when no state reports it';
COMMENT ON COLUMN ems.ledger.mcc_code IS 'Merchant category code (ISO 18245); null when no state reports it';
COMMENT ON COLUMN ems.ledger.category_text IS 'OpenCard''s spending category; null when no state reports it';
COMMENT ON COLUMN ems.ledger.accounting_amount IS 'Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it';
COMMENT ON COLUMN ems.ledger.accounting_currency IS 'Currency of accounting_amount: the customer''s home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it';
COMMENT ON COLUMN ems.ledger.original_amount IS 'Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it';
COMMENT ON COLUMN ems.ledger.original_currency IS 'Currency of the purchase, as sent, normally ISO 4217; null when no state reports it';
COMMENT ON COLUMN ems.ledger.exchange_rate IS 'Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; from the highest state that reports it; null when no state reports it';
COMMENT ON COLUMN ems.ledger.vat_amount IS 'VAT in major units of vat_currency, from vat_source; for a credit (original_amount negative, or accounting_amount if there is none) never positive, whatever sign was sent; null when none was reported';
COMMENT ON COLUMN ems.ledger.vat_currency IS 'Currency of vat_amount, as sent, normally ISO 4217. If the VAT is in several currencies: that of the purchase, else accounting_currency. If the VAT has no currency: that of the purchase; null when no VAT was reported, or neither has a currency';
COMMENT ON COLUMN ems.ledger.vat_source IS 'merchant: from the receipt; network: from the card network, often wrong; null when no VAT was reported';
COMMENT ON COLUMN ems.ledger.receipt_url IS 'Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the newest; null without a receipt';
COMMENT ON COLUMN ems.ledger.receipt_file_key IS 'Name of the stored file of this receipt; null until downloaded';
COMMENT ON COLUMN ems.ledger.number_of_items IS 'How many lines ems.line_items has for the transaction; 0 without any';
COMMENT ON COLUMN ems.ledger.card_issuer IS 'Issuer of the card; null when no state reports it';
COMMENT ON COLUMN ems.ledger.cleared_card_issuer_reference IS 'Clearing reference of the issuer; compare it with the clearing reference in another source, such as the bank''s own file; not unique; null when the cleared state has none, and when the transaction was only reported as invoiced';
COMMENT ON COLUMN ems.ledger.invoice_number IS 'Number of the issuer''s invoice; whether it is unique across issuers is not documented; null until invoiced';
COMMENT ON COLUMN ems.ledger.invoice_date IS 'Date of the issuer''s invoice, a day without a zone; null until invoiced';
COMMENT ON COLUMN ems.ledger.card_id IS 'OpenCard''s id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not documented; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.ledger.card_type IS 'private, corporate or corporate_with_private_invoice; null when no state reports it';
COMMENT ON COLUMN ems.ledger.cleared_at IS 'When first reported as cleared; null when only reported as invoiced';
COMMENT ON COLUMN ems.ledger.invoiced_at IS 'When first reported as invoiced; null until invoiced';
COMMENT ON COLUMN ems.ledger.updated_at IS 'When the transaction''s row last changed in this database; VAT, receipts and items that arrive later do not change it';
COMMENT ON COLUMN ems.ledger.network_vat_rate IS 'VAT rate from the card network, as sent, often wrong; whether percent (25) or a fraction (0.25) is not documented; null when no state reports it';
COMMENT ON COLUMN ems.ledger.network_vat_amount IS 'VAT from the card network, in major units of network_vat_currency, often wrong; sign as sent, which may be positive for a refund (vat_amount corrects it); null when no state reports it';
COMMENT ON COLUMN ems.ledger.network_vat_currency IS 'Currency of network_vat_amount, as sent, normally ISO 4217; null when no state reports it';
COMMENT ON COLUMN ems.ledger.receipt_content_type IS 'Media type of this receipt''s file; null when not reported, and without a receipt';
COMMENT ON COLUMN ems.ledger.number_of_receipts IS 'How many receipts ems.receipts has for the transaction; 0 without any';
COMMENT ON COLUMN ems.ledger.type IS 'Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when no state reports it';
COMMENT ON COLUMN ems.ledger.mcc_text IS 'Name of the merchant category; null when no state reports it';
COMMENT ON COLUMN ems.ledger.card_product IS 'Product name of the card; null when no state reports it';
COMMENT ON COLUMN ems.ledger.card_last_four IS 'Last four digits of the card number (personal), not unique; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.ledger.card_issuer_customer_number IS 'The issuer''s number of the customer; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.ledger.authorized_at IS 'When first reported as authorized; null when never reported as authorized';
COMMENT ON COLUMN ems.ledger.deleted_at IS 'When first reported as deleted, although the transaction was cleared or invoiced; null when never reported';
COMMENT ON COLUMN ems.ledger.payment_product_id IS 'OpenCard''s id of the payment product that the card belongs to; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.ledger.payment_product_name IS 'Name of the payment product; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.ledger.card_funding IS 'debit or credit, as sent; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.ledger.booked_on IS 'Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer''s booking or posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null';
COMMENT ON COLUMN ems.ledger.receipt_state IS 'none: no receipt was reported; reported: a receipt was reported, and no file is stored; stored: a file is stored';

CREATE VIEW ems.ledger_vat AS
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
    coalesce(receipt.purchase_country, line.purchase_country) AS purchase_country,
    line.state,
    line.updated_at,
    line.booked_on
FROM ems.ledger AS line
LEFT JOIN LATERAL (
    SELECT stated.purchase_country FROM (
        SELECT purchase_country FROM ems.vat_totals AS total
        WHERE total.organization_reference_id = line.organization_reference_id
            AND total.transaction_id = line.transaction_id
        UNION ALL
        SELECT purchase_country FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = line.organization_reference_id
            AND rate.transaction_id = line.transaction_id
    ) AS stated
    WHERE stated.purchase_country <> ''
    LIMIT 1
) AS receipt ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS number, sum(rate.vat_amount) AS vat_amount,
        CASE
            WHEN coalesce(line.original_amount, line.accounting_amount) < 0 AND coalesce(
                nullif(sum(rate.vat_amount), 0), sum(coalesce(rate.taxable_amount, rate.total_amount))
            ) > 0 THEN -1
            ELSE 1
        END AS sign
    FROM ems.vat_rates AS rate
    WHERE line.vat_source = 'merchant' AND rate.organization_reference_id = line.organization_reference_id
        AND rate.transaction_id = line.transaction_id
        AND coalesce(rate.currency, line.original_currency) IS NOT DISTINCT FROM line.vat_currency
        AND rate.vat_amount IS NOT NULL
) AS rates
CROSS JOIN LATERAL (
    SELECT part.percentage, sum(part.vat_amount) AS vat_amount,
        CASE WHEN count(part.taxable_amount) = count(*) THEN sum(part.taxable_amount) END AS taxable_amount,
        CASE WHEN count(part.total_amount) = count(*) THEN sum(part.total_amount) END AS total_amount
    FROM (
        SELECT rate.percentage, rates.sign * rate.vat_amount AS vat_amount,
            rates.sign * rate.taxable_amount AS taxable_amount, rates.sign * rate.total_amount AS total_amount
        FROM ems.vat_rates AS rate
        WHERE line.vat_source = 'merchant' AND rate.organization_reference_id = line.organization_reference_id
            AND rate.transaction_id = line.transaction_id
            AND coalesce(rate.currency, line.original_currency) IS NOT DISTINCT FROM line.vat_currency
            AND rate.vat_amount IS NOT NULL
        UNION ALL
        SELECT CASE line.vat_source WHEN 'network' THEN line.network_vat_rate END,
            line.vat_amount - coalesce(rates.sign * rates.vat_amount, 0), NULL, NULL
        WHERE line.vat_source IS NOT NULL
            AND (rates.number = 0 OR line.vat_amount <> rates.sign * rates.vat_amount)
    ) AS part
    GROUP BY part.percentage
) AS vat;

COMMENT ON VIEW ems.ledger_vat IS 'The VAT of the ledger by rate: one row for each transaction and rate, in the ledger''s currency and from the ledger''s source. The rows of a transaction add up to its vat_amount in the ledger: if a receipt''s rates do not add up to its total, the difference is in the row whose percentage is null. A transaction without VAT has no row. For a credit (original_amount negative, or accounting_amount if there is none) amounts that the receipt has as positive are negated. VAT of a receipt in other currencies is in vat_rates and vat_totals.';
COMMENT ON COLUMN ems.ledger_vat.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.ledger_vat.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.ledger_vat.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.ledger_vat.vat_source IS 'merchant: from the receipt; network: from the card network, often wrong';
COMMENT ON COLUMN ems.ledger_vat.percentage IS 'The merchant''s rate in percent (25 means 25 %), or the card network''s rate as sent (percent or fraction: not documented by OpenCard); null in a row without a rate: a total without rates, or the difference between total and rates';
COMMENT ON COLUMN ems.ledger_vat.vat_amount IS 'VAT of this rate, in major units of vat_currency; for a credit the rows of a transaction add up to 0 or less';
COMMENT ON COLUMN ems.ledger_vat.taxable_amount IS 'Amount without VAT (tax base), in major units of vat_currency; negated with vat_amount for a credit; null when not reported, and from the network';
COMMENT ON COLUMN ems.ledger_vat.total_amount IS 'Amount with VAT, in major units of vat_currency; negated with vat_amount for a credit; null when not reported, and from the network';
COMMENT ON COLUMN ems.ledger_vat.vat_currency IS 'Currency of the amounts (normally ISO 4217), as in the ledger; null when no currency was reported, neither of the VAT nor of the purchase';
COMMENT ON COLUMN ems.ledger_vat.purchase_date IS 'Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.ledger_vat.purchase_country IS 'Country (normally ISO 3166 alpha-2) from the receipt, else from the card network; null when neither was reported';
COMMENT ON COLUMN ems.ledger_vat.state IS 'cleared or invoiced';
COMMENT ON COLUMN ems.ledger_vat.updated_at IS 'When the transaction''s row last changed in this database; VAT, receipts and items that arrive later do not change it';
COMMENT ON COLUMN ems.ledger_vat.booked_on IS 'Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer''s booking or posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null';

CREATE VIEW ems.pending_transactions AS
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
    t.updated_at,
    t.payment_product_id,
    t.payment_product_name,
    t.card_funding
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT url, file_key FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
    ORDER BY (r.file_key IS NOT NULL) DESC, r.fetched_at DESC, r.url
    LIMIT 1
) AS receipt ON true
WHERE t.state = 'authorized';

COMMENT ON VIEW ems.pending_transactions IS 'Transactions that are authorized and neither cleared nor deleted, for previews: amounts may still change. Clearing usually takes 3 to 5 days; a transaction that is open much longer may never be cleared.';
COMMENT ON COLUMN ems.pending_transactions.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.pending_transactions.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.pending_transactions.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.pending_transactions.purchase_date IS 'Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.purchase_time IS 'Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.purchase_timezone IS 'Time zone of purchase_date and purchase_time; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.merchant IS 'Merchant''s normalized name, else the card network''s; null when no state reports one';
COMMENT ON COLUMN ems.pending_transactions.purchase_country IS 'Country, as sent, normally ISO 3166 alpha-2; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.purchase_city IS 'City; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.mcc_code IS 'Merchant category code (ISO 18245); null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.category_text IS 'OpenCard''s spending category; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.accounting_amount IS 'Amount in accounting_currency, in major units; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; not final; null when not reported';
COMMENT ON COLUMN ems.pending_transactions.accounting_currency IS 'Currency of accounting_amount: the customer''s home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.original_amount IS 'Amount in the currency of the purchase, in major units; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; not final; null when not reported';
COMMENT ON COLUMN ems.pending_transactions.original_currency IS 'Currency of the purchase, as sent, normally ISO 4217; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.exchange_rate IS 'Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; not final; null when not reported';
COMMENT ON COLUMN ems.pending_transactions.card_issuer IS 'Issuer of the card; null when no state reports it';
COMMENT ON COLUMN ems.pending_transactions.card_id IS 'OpenCard''s id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not documented; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.pending_transactions.card_last_four IS 'Last four digits of the card number (personal), not unique; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.pending_transactions.receipt_url IS 'Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the newest; null without a receipt';
COMMENT ON COLUMN ems.pending_transactions.receipt_file_key IS 'Name of the stored file of this receipt; null until downloaded';
COMMENT ON COLUMN ems.pending_transactions.authorized_at IS 'When first reported as authorized';
COMMENT ON COLUMN ems.pending_transactions.age IS 'Time since authorized_at until the start of your database transaction';
COMMENT ON COLUMN ems.pending_transactions.days_open IS 'age in whole days of 24 hours';
COMMENT ON COLUMN ems.pending_transactions.updated_at IS 'When the transaction''s row last changed in this database; VAT, receipts and items that arrive later do not change it';
COMMENT ON COLUMN ems.pending_transactions.payment_product_id IS 'OpenCard''s id of the payment product that the card belongs to; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.pending_transactions.payment_product_name IS 'Name of the payment product; null when no state reports it, or once the card holder is erased';
COMMENT ON COLUMN ems.pending_transactions.card_funding IS 'debit or credit, as sent; null when no state reports it, or once the card holder is erased';

CREATE VIEW ems.possible_duplicates AS
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
WHERE btrim(one.cleared_card_issuer_reference) <> ''
    AND one.state IN ('cleared', 'invoiced') AND other.state IN ('cleared', 'invoiced');

COMMENT ON VIEW ems.possible_duplicates IS 'Transactions in the ledger that may be one transaction, reported twice: two transaction ids of one organization with the same issuer, the same clearing reference of the issuer, the same original amount and currency, and the same day. Each pair is listed twice, once from each side; transaction_id < other_transaction_id selects it once. Check each by hand: the reference is not unique, and a transaction without one is never listed.';
COMMENT ON COLUMN ems.possible_duplicates.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.possible_duplicates.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.possible_duplicates.other_transaction_id IS 'OpenCard''s id of the transaction that looks the same (ems.transactions.id)';
COMMENT ON COLUMN ems.possible_duplicates.card_issuer IS 'Issuer of both cards';
COMMENT ON COLUMN ems.possible_duplicates.cleared_card_issuer_reference IS 'Clearing reference of the issuer of both';
COMMENT ON COLUMN ems.possible_duplicates.purchase_date IS 'Day of both, each in the zone of its own purchase_timezone';
COMMENT ON COLUMN ems.possible_duplicates.original_amount IS 'Amount of both in the currency of the purchase, in major units, sign as sent';
COMMENT ON COLUMN ems.possible_duplicates.original_currency IS 'Currency of both, as sent, normally ISO 4217';
COMMENT ON COLUMN ems.possible_duplicates.merchant IS 'Merchant''s normalized name, else the card network''s; null when no state reports one';
COMMENT ON COLUMN ems.possible_duplicates.other_merchant IS 'Merchant''s normalized name, else the card network''s, of the other transaction; null when no state reports one';
COMMENT ON COLUMN ems.possible_duplicates.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.possible_duplicates.other_card_holder_reference_id IS 'The EMS''s own id of the other transaction''s card holder';
COMMENT ON COLUMN ems.possible_duplicates.cleared_at IS 'When first reported as cleared';
COMMENT ON COLUMN ems.possible_duplicates.other_cleared_at IS 'When the other was first reported as cleared';

CREATE VIEW ems.missing_receipts AS
SELECT
    t.organization_reference_id,
    t.id AS transaction_id,
    t.card_holder_reference_id,
    t.state,
    t.purchase_date,
    t.purchase_time,
    t.purchase_timezone,
    coalesce(t.purchase_merchant_common, t.purchase_merchant) AS merchant,
    t.accounting_amount,
    t.accounting_currency,
    t.original_amount,
    t.original_currency,
    t.card_issuer,
    t.cleared_at,
    t.invoiced_at,
    now() - coalesce(t.cleared_at, t.invoiced_at) AS age,
    floor(extract(epoch FROM now() - coalesce(t.cleared_at, t.invoiced_at)) / 86400)::integer AS days_missing,
    t.updated_at
FROM ems.transactions AS t
WHERE t.receiptable AND t.state IN ('cleared', 'invoiced') AND NOT EXISTS (
    SELECT FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
);

COMMENT ON VIEW ems.missing_receipts IS 'Transactions in the ledger whose digital receipt OpenCard announced (receiptable) and has not sent, one row each, credits, fees and withdrawals included. Those that are not receiptable need a receipt as well, and are not here: all without a receipt are those with number_of_receipts = 0 in ems.ledger. Some receipts arrive days after the clearing, so filter by age. If the organization''s billing profile at OpenCard does not include receipts, every receiptable transaction is listed.';
COMMENT ON COLUMN ems.missing_receipts.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.missing_receipts.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.missing_receipts.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.missing_receipts.state IS 'cleared or invoiced';
COMMENT ON COLUMN ems.missing_receipts.purchase_date IS 'Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.purchase_time IS 'Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.purchase_timezone IS 'Time zone of purchase_date and purchase_time; null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.merchant IS 'Merchant''s normalized name, else the card network''s; null when no state reports one';
COMMENT ON COLUMN ems.missing_receipts.accounting_amount IS 'Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.accounting_currency IS 'Currency of accounting_amount: the customer''s home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.original_amount IS 'Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.original_currency IS 'Currency of the purchase, as sent, normally ISO 4217; null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.card_issuer IS 'Issuer of the card; null when no state reports it';
COMMENT ON COLUMN ems.missing_receipts.cleared_at IS 'When first reported as cleared; null when only reported as invoiced';
COMMENT ON COLUMN ems.missing_receipts.invoiced_at IS 'When first reported as invoiced; null until invoiced';
COMMENT ON COLUMN ems.missing_receipts.age IS 'Time since cleared_at, else invoiced_at, until the start of your database transaction';
COMMENT ON COLUMN ems.missing_receipts.days_missing IS 'age in whole days of 24 hours';
COMMENT ON COLUMN ems.missing_receipts.updated_at IS 'When the transaction''s row last changed in this database; VAT, receipts and items that arrive later do not change it';

CREATE VIEW ems.transaction_states AS
SELECT
    position AS id,
    organization_reference_id,
    subject_id AS transaction_id,
    payload ->> 'state' AS state,
    CASE WHEN jsonb_typeof(payload -> 'card_issuer_reference') IN ('string', 'number')
        THEN payload ->> 'card_issuer_reference' END AS card_issuer_reference,
    CAST(payload ->> 'original_amount' AS numeric) AS original_amount,
    payload ->> 'original_currency' AS original_currency,
    CAST(payload ->> 'accounting_amount' AS numeric) AS accounting_amount,
    payload ->> 'accounting_currency' AS accounting_currency,
    CAST(payload ->> 'vat_amount' AS numeric) AS vat_amount,
    payload ->> 'vat_currency' AS vat_currency,
    payload,
    occurred_at,
    delivery_id
FROM ems.events
WHERE type IN (
    'card.transaction.authorized', 'card.transaction.cleared', 'card.transaction.deleted', 'card.transaction.invoiced'
)
    AND retracted_at IS NULL;

COMMENT ON VIEW ems.transaction_states IS 'Each snapshot of a transaction in ems.events, including those that arrived late and changed nothing; retries and retracted snapshots are left out.';
COMMENT ON COLUMN ems.transaction_states.id IS 'Position of the snapshot in ems.events (ems.events.position; the name id is fixed)';
COMMENT ON COLUMN ems.transaction_states.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.transaction_states.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.transaction_states.state IS 'authorized, deleted, cleared or invoiced: what this snapshot reports';
COMMENT ON COLUMN ems.transaction_states.card_issuer_reference IS 'The issuer''s reference of this state; null when not reported';
COMMENT ON COLUMN ems.transaction_states.original_amount IS 'Amount in the currency of the purchase, in major units; sign as sent (not documented by OpenCard); null when not reported';
COMMENT ON COLUMN ems.transaction_states.original_currency IS 'Currency of the purchase, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.transaction_states.accounting_amount IS 'Amount in accounting_currency, in major units; sign as sent (not documented by OpenCard); null when not reported';
COMMENT ON COLUMN ems.transaction_states.accounting_currency IS 'Currency of accounting_amount, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.transaction_states.vat_amount IS 'VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive for a refund; null when not reported';
COMMENT ON COLUMN ems.transaction_states.vat_currency IS 'Currency of vat_amount, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.transaction_states.payload IS 'The whole snapshot, unknown fields included';
COMMENT ON COLUMN ems.transaction_states.occurred_at IS 'Time of OpenCard''s first attempt to deliver the event; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself';
COMMENT ON COLUMN ems.transaction_states.delivery_id IS 'Delivery that contained the snapshot (receiver.deliveries.id)';

CREATE VIEW receiver.reconcile_state AS
SELECT
    webhook.id AS webhook_id,
    webhook.opencard_webhook_id,
    webhook.organization_reference_id,
    checked.checked_until,
    checked.unconfirmed_before,
    last.started_at AS last_started_at,
    last.ended_at AS last_ended_at,
    last.error AS last_error,
    coalesce(done.recovered_in_all, 0) AS recovered,
    coalesce(done.unconfirmed, 0) AS unconfirmed,
    coalesce(done.unrecoverable, 0) AS unrecoverable
FROM receiver.webhooks AS webhook
LEFT JOIN LATERAL (
    SELECT checked_until, unconfirmed_before FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.checked_until IS NOT NULL
    ORDER BY run.started_at DESC LIMIT 1
) AS checked ON true
LEFT JOIN LATERAL (
    SELECT started_at, ended_at, error FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.ended_at IS NOT NULL
    ORDER BY run.started_at DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT recovered_in_all, unconfirmed, unrecoverable FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.ended_at IS NOT NULL AND run.error IS NULL
    ORDER BY run.started_at DESC LIMIT 1
) AS done ON true
WHERE webhook.opencard_webhook_id IS NOT NULL AND NOT webhook.test;

CREATE VIEW receiver.delivery_gaps_by_hour AS
SELECT
    state.webhook_id,
    state.opencard_webhook_id,
    state.organization_reference_id,
    hours.hour,
    CASE
        WHEN state.checked_until IS NOT NULL THEN least(state.checked_until, hours.hour + interval '1 hour')
    END AS checked_until,
    coalesce(logged.log_entries, 0) AS log_entries,
    coalesce(kept.stored, 0) AS stored,
    coalesce(kept.recovered, 0) AS recovered,
    coalesce(kept.unconfirmed, 0) AS unconfirmed,
    coalesce(logged.unrecoverable, 0) AS unrecoverable,
    coalesce(logged.unrecoverable, 0) = 0 AND coalesce(
        state.checked_until >= CASE
            WHEN hours.hour + interval '1 hour' <= now() THEN hours.hour + interval '1 hour'
            ELSE greatest(hours.hour, kept.latest)
        END,
        false
    ) AS complete
FROM receiver.reconcile_state AS state
CROSS JOIN (
    SELECT generate_series(
        date_trunc('hour', now(), 'UTC') - interval '8 days', date_trunc('hour', now(), 'UTC'), interval '1 hour'
    ) AS hour
) AS hours
LEFT JOIN (
    SELECT webhook.id AS webhook_id, entries.*
    FROM receiver.webhooks AS webhook
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', entry.attempted_at, 'UTC') AS hour, count(*) AS log_entries,
            count(*) FILTER (WHERE entry.unrecoverable) AS unrecoverable
        FROM receiver.delivery_log AS entry
        WHERE entry.webhook_id = webhook.id
            AND entry.attempted_at >= date_trunc('hour', now(), 'UTC') - interval '8 days'
        GROUP BY 1
    ) AS entries
) AS logged ON logged.webhook_id = state.webhook_id AND logged.hour = hours.hour
LEFT JOIN (
    SELECT webhook.id AS webhook_id, deliveries.*
    FROM receiver.reconcile_state AS checked
    JOIN receiver.webhooks AS webhook ON webhook.id = checked.webhook_id
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', coalesce(confirmation.occurred_at, delivery.occurred_at), 'UTC') AS hour,
            count(*) AS stored,
            count(*) FILTER (WHERE delivery.source = 'log') AS recovered,
            count(*) FILTER (
                WHERE delivery.source = 'push' AND confirmation.confirmed_at IS NULL
                    AND delivery.received_at < checked.unconfirmed_before
                    AND NOT EXISTS (
                        SELECT FROM receiver.delivery_decisions AS decision WHERE decision.delivery_id = delivery.id
                    )
            ) AS unconfirmed,
            max(delivery.received_at) FILTER (WHERE delivery.source = 'push') AS latest
        FROM receiver.stored_deliveries AS delivery
        LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = delivery.id
        WHERE delivery.webhook_id = webhook.id
            AND delivery.received_at >= date_trunc('hour', now(), 'UTC') - interval '8 days'
        GROUP BY 1
    ) AS deliveries
) AS kept ON kept.webhook_id = state.webhook_id AND kept.hour = hours.hour;

CREATE TABLE receiver.unknown_versions (
    event TEXT NOT NULL,
    version TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    first_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_unknown_versions PRIMARY KEY (event, version)
);

COMMENT ON COLUMN receiver.unknown_versions.event IS 'its name in the catalogue';
COMMENT ON COLUMN receiver.unknown_versions.version IS 'X-Version, as received';
COMMENT ON COLUMN receiver.unknown_versions.deliveries IS 'how many were applied, replays counted again';

CREATE TABLE ems.ledger_journal (
    position BIGINT NOT NULL,
    line INTEGER NOT NULL,
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    sign SMALLINT NOT NULL,
    changed TEXT[],
    booked_on DATE NOT NULL,
    card_holder_reference_id TEXT NOT NULL,
    original_amount NUMERIC,
    original_currency TEXT,
    accounting_amount NUMERIC,
    accounting_currency TEXT,
    vat_amount NUMERIC,
    vat_currency TEXT,
    vat_source TEXT,
    receipt_state TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_ledger_journal PRIMARY KEY (position, line),
    CONSTRAINT ck_ledger_journal_kind CHECK (kind IN ('booking', 'reversal', 'correction')),
    CONSTRAINT ck_ledger_journal_sign CHECK (sign = CASE kind WHEN 'reversal' THEN -1 ELSE 1 END)
);
CREATE INDEX ix_ledger_journal_transaction ON ems.ledger_journal (organization_reference_id, transaction_id, position, line);
CREATE INDEX ix_ledger_journal_booked_on ON ems.ledger_journal (booked_on, organization_reference_id);

COMMENT ON TABLE ems.ledger_journal IS 'Every change of ems.ledger (day, amounts, currencies, VAT, card holder, state of the receipt), as a reversal of the previous line and a new line; a change of receipt or card holder is a pair with equal amounts. Lines are only added; none changes later, except that the reference of an erased card holder is replaced. The amounts of all lines up to a position add up to the ledger at that position, and the signs to its number of lines. Several events of a transaction that were applied together are one change.';
COMMENT ON COLUMN ems.ledger_journal.position IS 'Position in ems.events of the event that changed the line; of several applied together, the last';
COMMENT ON COLUMN ems.ledger_journal.line IS 'Number of the line at its position, from 1';
COMMENT ON COLUMN ems.ledger_journal.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.ledger_journal.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.ledger_journal.kind IS 'booking: the first line of a transaction; reversal: cancels the previous line; correction: the new line instead of it, for example when a cleared amount turned negative';
COMMENT ON COLUMN ems.ledger_journal.sign IS '-1 for a reversal, else 1; the sum is the number of lines in the ledger';
COMMENT ON COLUMN ems.ledger_journal.changed IS 'Columns of a correction that differ from the reversed line; null for bookings and reversals, and for a transaction that returns to the ledger';
COMMENT ON COLUMN ems.ledger_journal.booked_on IS 'The line''s booked_on in the ledger, a day without a zone; a reversal has that of the line it reverses';
COMMENT ON COLUMN ems.ledger_journal.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased';
COMMENT ON COLUMN ems.ledger_journal.original_amount IS 'The line''s original_amount in the ledger, in major units of original_currency, negated in a reversal; null when not reported';
COMMENT ON COLUMN ems.ledger_journal.original_currency IS 'Currency of the purchase, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.ledger_journal.accounting_amount IS 'The line''s accounting_amount in the ledger, in major units of accounting_currency, negated in a reversal; null when not reported';
COMMENT ON COLUMN ems.ledger_journal.accounting_currency IS 'Currency of accounting_amount, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.ledger_journal.vat_amount IS 'The line''s vat_amount in the ledger, in major units of vat_currency, negated in a reversal; null when none was reported';
COMMENT ON COLUMN ems.ledger_journal.vat_currency IS 'Currency of vat_amount, as in the ledger (normally ISO 4217); null when no VAT or no currency was reported';
COMMENT ON COLUMN ems.ledger_journal.vat_source IS 'merchant or network, as in the ledger; null when no VAT was reported';
COMMENT ON COLUMN ems.ledger_journal.receipt_state IS 'none, reported or stored, as in the ledger';
COMMENT ON COLUMN ems.ledger_journal.recorded_at IS 'When the line was written';

-- Lines are only added. The reference of a card holder who is erased is replaced.

CREATE FUNCTION receiver.keep_journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        old.card_holder_reference_id := new.card_holder_reference_id;
        IF new IS NOT DISTINCT FROM old THEN
            RETURN new;
        END IF;
    END IF;
    RAISE EXCEPTION 'lines of ems.ledger_journal are neither changed nor deleted: what is wrong is reversed by a new line';
END
$$;

CREATE TRIGGER keep_journal BEFORE UPDATE OR DELETE ON ems.ledger_journal
FOR EACH ROW EXECUTE FUNCTION receiver.keep_journal();

CREATE FUNCTION ems.ledger_as_of(through bigint) RETURNS TABLE (
    organization_reference_id text, transaction_id text, booked_on date, card_holder_reference_id text,
    original_amount numeric, original_currency text, accounting_amount numeric, accounting_currency text,
    vat_amount numeric, vat_currency text, vat_source text, receipt_state text, "position" bigint
) LANGUAGE sql STABLE AS $$
    SELECT last.organization_reference_id, last.transaction_id, last.booked_on, last.card_holder_reference_id,
        last.original_amount, last.original_currency, last.accounting_amount, last.accounting_currency,
        last.vat_amount, last.vat_currency, last.vat_source, last.receipt_state, last.position
    FROM (
        SELECT DISTINCT ON (line.organization_reference_id, line.transaction_id) line.*
        FROM ems.ledger_journal AS line
        WHERE line.position <= $1
        ORDER BY line.organization_reference_id, line.transaction_id, line.position DESC, line.line DESC
    ) AS last
    WHERE last.sign = 1
$$;

COMMENT ON FUNCTION ems.ledger_as_of(bigint) IS 'The ledger as it was at a position of the feed: one row for each transaction that was in it. organization_reference_id, transaction_id, booked_on, card_holder_reference_id, original_amount, original_currency, accounting_amount, accounting_currency, vat_amount, vat_currency, vat_source and receipt_state are those of ems.ledger then; position is that of the last change of the row, at most the given one. The amounts of a row may be null as in ems.ledger.';

CREATE TABLE ems.organizations (
    organization_reference_id TEXT NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE NOT NULL,
    log_begins_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_organizations PRIMARY KEY (organization_reference_id)
);

COMMENT ON TABLE ems.organizations IS 'The organizations that have or had a webhook of this service.';
COMMENT ON COLUMN ems.organizations.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.organizations.added_at IS 'When its first webhook was added';
COMMENT ON COLUMN ems.organizations.log_begins_at IS 'Time from which OpenCard''s delivery log covers the organization: added_at, or the time of the log''s oldest entry if that is earlier (of a webhook that was registered elsewhere and adopted). What OpenCard sent before may be missing';

CREATE FUNCTION receiver.note_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ems.organizations (organization_reference_id, added_at, log_begins_at)
    SELECT new.organization_reference_id, added.at, added.at FROM (SELECT clock_timestamp() AS at) AS added
    ON CONFLICT (organization_reference_id) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_organization AFTER INSERT OR UPDATE OF organization_reference_id ON receiver.webhooks
FOR EACH ROW WHEN (NOT new.test) EXECUTE FUNCTION receiver.note_organization();

CREATE TABLE receiver.acknowledged_gaps (
    kind TEXT NOT NULL,
    id BIGINT NOT NULL,
    organization_reference_id TEXT NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE,
    acknowledged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    acknowledged_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_acknowledged_gaps PRIMARY KEY (kind, id),
    CONSTRAINT ck_acknowledged_gaps_kind CHECK (kind IN ('delivery', 'log_entry'))
);

COMMENT ON COLUMN receiver.acknowledged_gaps.kind IS 'what is missing in ems: a delivery that was not applied, or an event of which the delivery log has no payload';
COMMENT ON COLUMN receiver.acknowledged_gaps.id IS 'of the delivery, or of the entry in receiver.delivery_log';
COMMENT ON COLUMN receiver.acknowledged_gaps.occurred_at IS 'when the event was first attempted; null where the log has no time';

-- What of an organization is not applied. Readers see it by ems.completeness alone: they have no rights on schema receiver.

CREATE FUNCTION receiver.gaps_of(organization text) RETURNS TABLE (
    kind text, id bigint, event text, status text, occurred_at timestamptz, acknowledged boolean
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    WITH webhook AS MATERIALIZED (
        SELECT webhook.id FROM receiver.webhooks AS webhook
        WHERE webhook.organization_reference_id = $1 AND NOT webhook.test
    ), held AS (
        SELECT outcome.delivery_id, outcome.status FROM receiver.outcomes AS outcome
        WHERE outcome.status IN ('failed', 'dead', 'quarantined')
            OR outcome.status = 'ignored' AND outcome.error IS DISTINCT FROM 'test delivery'
        UNION ALL
        SELECT queued.delivery_id, 'pending' FROM receiver.queue AS queued
        WHERE NOT EXISTS (
            SELECT FROM receiver.outcomes AS outcome WHERE outcome.delivery_id = queued.delivery_id
                AND outcome.status IN ('failed', 'dead', 'quarantined', 'ignored')
        )
    ), gap AS (
        SELECT 'log_entry' AS kind, entry.id, entry.event, 'unrecoverable' AS status, entry.attempted_at AS occurred_at
        FROM receiver.delivery_log AS entry JOIN webhook ON webhook.id = entry.webhook_id
        WHERE entry.unrecoverable
        UNION ALL
        SELECT 'delivery', stored.id, stored.event, held.status,
            coalesce(confirmation.occurred_at, stored.occurred_at)
        FROM held
        JOIN receiver.stored_deliveries AS stored ON stored.id = held.delivery_id
        JOIN webhook ON webhook.id = stored.webhook_id
        LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
        WHERE held.status <> 'ignored'
            OR stored.event LIKE 'card.transaction.%' OR stored.event LIKE 'transaction.%'
    )
    SELECT gap.kind, gap.id, gap.event, gap.status, gap.occurred_at, known.id IS NOT NULL
    FROM gap LEFT JOIN receiver.acknowledged_gaps AS known ON known.kind = gap.kind AND known.id = gap.id
$$;

CREATE FUNCTION receiver.completeness_of(
    organization text,
    OUT complete_through timestamptz, OUT open_gaps bigint, OUT acknowledged_gaps bigint, OUT checked_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT
        nullif(CASE WHEN checked.unchecked = 0 THEN least(checked.checked_until, gaps.first - interval '1 microsecond') END,
            '-infinity'),
        gaps.open, gaps.acknowledged, checked.at
    FROM (
        SELECT count(*) FILTER (WHERE run.checked_until IS NULL) + CASE WHEN count(*) = 0 THEN 1 ELSE 0 END AS unchecked,
            min(run.checked_until) AS checked_until, min(run.ended_at) AS at
        FROM receiver.webhooks AS webhook
        LEFT JOIN LATERAL (
            SELECT run.checked_until, run.ended_at FROM receiver.reconcile_runs AS run
            WHERE run.webhook_id = webhook.id AND run.checked_until IS NOT NULL
                AND run.id > (SELECT coalesce(max(epoch.last_run_id), 0) FROM receiver.feed_epochs AS epoch)
            ORDER BY run.started_at DESC LIMIT 1
        ) AS run ON true
        WHERE webhook.organization_reference_id = $1 AND NOT webhook.test AND webhook.deleted_at IS NULL
            AND webhook.opencard_webhook_id IS NOT NULL
    ) AS checked
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE NOT gap.acknowledged AND gap.status <> 'pending') AS open,
            count(*) FILTER (WHERE gap.acknowledged) AS acknowledged,
            min(coalesce(gap.occurred_at, '-infinity')) FILTER (WHERE NOT gap.acknowledged) AS first
        FROM receiver.gaps_of($1) AS gap
    ) AS gaps
$$;

CREATE VIEW ems.completeness AS
SELECT
    organization.organization_reference_id,
    state.complete_through,
    state.open_gaps,
    state.checked_at,
    state.acknowledged_gaps,
    organization.log_begins_at AS complete_from
FROM ems.organizations AS organization
CROSS JOIN LATERAL receiver.completeness_of(organization.organization_reference_id) AS state;

COMMENT ON VIEW ems.completeness IS 'Time up to which each organization is complete, one row each: everything that OpenCard sent from complete_from to complete_through, according to its delivery log, is applied to these tables. A month is covered if it begins at or after complete_from and ends at or before complete_through. Transactions of that time that OpenCard reports later are not included.';
COMMENT ON COLUMN ems.completeness.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.completeness.complete_through IS 'Everything that OpenCard sent from complete_from up to this time is applied. Always before the first event that is missing or not applied yet, unless an operator acknowledged it; null until the delivery log of each webhook has been read from its beginning (again after a restore or a failover), and while the organization has no webhook';
COMMENT ON COLUMN ems.completeness.open_gaps IS 'Number of events that are missing from the tables and that no operator has acknowledged: in the delivery log without a payload, or received and failed, dead, quarantined, or transaction events that were ignored. A failed one is still tried again; 0 if none';
COMMENT ON COLUMN ems.completeness.checked_at IS 'When the delivery log was last read; with several webhooks, the earliest of these times; null until then';
COMMENT ON COLUMN ems.completeness.acknowledged_gaps IS 'Number of such events that an operator acknowledged or resolved, so that they no longer hold back complete_through; 0 if none';
COMMENT ON COLUMN ems.completeness.complete_from IS 'Time from which OpenCard''s delivery log covers the organization (log_begins_at of ems.organizations): when its first webhook was added here, or the log''s oldest entry if that is earlier. A month that began before cannot be shown to be complete';

CREATE TABLE ems.closings (
    organization_reference_id TEXT NOT NULL,
    month DATE NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    closed_by TEXT NOT NULL,
    complete_from TIMESTAMP WITH TIME ZONE NOT NULL,
    complete_through TIMESTAMP WITH TIME ZONE NOT NULL,
    acknowledged_gaps BIGINT NOT NULL,
    position BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    sums JSONB NOT NULL,
    vat_sums JSONB NOT NULL,
    sha256 TEXT NOT NULL,
    CONSTRAINT pk_closings PRIMARY KEY (organization_reference_id, month)
);

COMMENT ON TABLE ems.closings IS 'Months that an operator closed (receiver close), and what the ledger contained then. A month is closed once; later changes of it are in ems.late_changes.';
COMMENT ON COLUMN ems.closings.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.closings.month IS 'First day of the month, without a zone; the lines of a month are those with a booked_on in it';
COMMENT ON COLUMN ems.closings.closed_at IS 'When it was closed';
COMMENT ON COLUMN ems.closings.closed_by IS 'Who closed it: user@host of the command line, or the user of the console';
COMMENT ON COLUMN ems.closings.complete_from IS 'complete_from of ems.completeness when it was closed; if the month began before, what OpenCard sent earlier may be missing';
COMMENT ON COLUMN ems.closings.complete_through IS 'complete_through of ems.completeness when it was closed: everything that OpenCard sent from complete_from until then was applied, except the acknowledged gaps';
COMMENT ON COLUMN ems.closings.acknowledged_gaps IS 'Number of events of the organization, missing or not applied, that an operator had acknowledged or resolved; 0 if none';
COMMENT ON COLUMN ems.closings.position IS 'Newest position of the feed when it was closed; ems.ledger_as_of(position) is the ledger at that time';
COMMENT ON COLUMN ems.closings.lines IS 'Number of lines that the ledger had in the month, credits included';
COMMENT ON COLUMN ems.closings.sums IS 'Net sum of accounting_amount of these lines (credits are negative) by accounting_currency; exact, as strings; the key is an empty string for lines without a currency';
COMMENT ON COLUMN ems.closings.vat_sums IS 'Net sum of vat_amount of these lines by vat_currency, in the same form';
COMMENT ON COLUMN ems.closings.sha256 IS 'SHA-256 of these lines without the card holder, hexadecimal; receiver close --verify computes it again';

CREATE VIEW ems.late_changes AS
SELECT
    closing.organization_reference_id,
    closing.month,
    line.transaction_id,
    line.position,
    line.recorded_at AS changed_at,
    CASE
        WHEN before.booked_on IS NULL OR NOT before.in_month THEN 'added'
        WHEN after.booked_on IS NULL OR NOT after.in_month THEN 'removed'
        ELSE 'changed'
    END AS kind,
    after.changed,
    before.booked_on AS booked_on_before,
    after.booked_on AS booked_on_after,
    before.card_holder_reference_id AS card_holder_reference_id_before,
    after.card_holder_reference_id AS card_holder_reference_id_after,
    -before.original_amount AS original_amount_before,
    after.original_amount AS original_amount_after,
    before.original_currency AS original_currency_before,
    after.original_currency AS original_currency_after,
    -before.accounting_amount AS accounting_amount_before,
    after.accounting_amount AS accounting_amount_after,
    before.accounting_currency AS accounting_currency_before,
    after.accounting_currency AS accounting_currency_after,
    -before.vat_amount AS vat_amount_before,
    after.vat_amount AS vat_amount_after,
    before.vat_currency AS vat_currency_before,
    after.vat_currency AS vat_currency_after,
    before.receipt_state AS receipt_state_before,
    after.receipt_state AS receipt_state_after
FROM ems.closings AS closing
JOIN ems.ledger_journal AS line
    ON line.organization_reference_id = closing.organization_reference_id
    AND line.booked_on >= closing.month AND line.booked_on < closing.month + interval '1 month'
    AND line.position > closing.position
LEFT JOIN LATERAL (
    SELECT old.*, old.booked_on >= closing.month AND old.booked_on < closing.month + interval '1 month' AS in_month
    FROM ems.ledger_journal AS old
    WHERE old.position = line.position AND old.line = CASE line.sign WHEN -1 THEN line.line ELSE line.line - 1 END
        AND old.organization_reference_id = line.organization_reference_id
        AND old.transaction_id = line.transaction_id AND old.sign = -1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT new.*, new.booked_on >= closing.month AND new.booked_on < closing.month + interval '1 month' AS in_month
    FROM ems.ledger_journal AS new
    WHERE new.position = line.position AND new.line = CASE line.sign WHEN 1 THEN line.line ELSE line.line + 1 END
        AND new.organization_reference_id = line.organization_reference_id
        AND new.transaction_id = line.transaction_id AND new.sign = 1
) AS after ON true
WHERE line.sign = -1 OR before.in_month IS NOT TRUE;

COMMENT ON VIEW ems.late_changes IS 'Each change of a month after it was closed, from the journal: the line before and after the change. A line that moves from one closed month to another is listed in both.';
COMMENT ON COLUMN ems.late_changes.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.late_changes.month IS 'First day of the closed month, without a zone (ems.closings.month)';
COMMENT ON COLUMN ems.late_changes.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.late_changes.position IS 'Position in ems.events of the event that changed the line; higher than that of the closing';
COMMENT ON COLUMN ems.late_changes.changed_at IS 'When the change was written to the journal';
COMMENT ON COLUMN ems.late_changes.kind IS 'added: a line is new in the month; removed: a line left it; changed: a line in it changed. A line that moved is removed in the month of booked_on_before, and added in that of booked_on_after';
COMMENT ON COLUMN ems.late_changes.changed IS 'Columns that differ; null for a line that is new in the ledger or left it';
COMMENT ON COLUMN ems.late_changes.booked_on_before IS 'booked_on before the change, without a zone; null if there was no line';
COMMENT ON COLUMN ems.late_changes.booked_on_after IS 'booked_on after the change, without a zone; null if there is no line';
COMMENT ON COLUMN ems.late_changes.card_holder_reference_id_before IS 'The EMS''s own id of the card holder before the change; null if there was no line';
COMMENT ON COLUMN ems.late_changes.card_holder_reference_id_after IS 'The EMS''s own id of the card holder after the change; null if there is no line';
COMMENT ON COLUMN ems.late_changes.original_amount_before IS 'Amount in the currency of the purchase, in major units, sign as sent, before the change; null when not reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.original_amount_after IS 'Amount in the currency of the purchase, in major units, sign as sent, after the change; null when not reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.original_currency_before IS 'Currency of original_amount_before, as sent, normally ISO 4217; null when not reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.original_currency_after IS 'Currency of original_amount_after, as sent, normally ISO 4217; null when not reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.accounting_amount_before IS 'Amount in accounting_currency_before, in major units, sign as sent, before the change; null when not reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.accounting_amount_after IS 'Amount in accounting_currency_after, in major units, sign as sent, after the change; null when not reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.accounting_currency_before IS 'Currency of accounting_amount_before, as sent, normally ISO 4217; null when not reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.accounting_currency_after IS 'Currency of accounting_amount_after, as sent, normally ISO 4217; null when not reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.vat_amount_before IS 'VAT in the ledger, in major units of vat_currency_before, before the change; null when none was reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.vat_amount_after IS 'VAT in the ledger, in major units of vat_currency_after, after the change; null when none was reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.vat_currency_before IS 'Currency of vat_amount_before, as sent, normally ISO 4217; null when no VAT or no currency was reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.vat_currency_after IS 'Currency of vat_amount_after, as sent, normally ISO 4217; null when no VAT or no currency was reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.receipt_state_before IS 'none, reported or stored, before the change; null if there was no line';
COMMENT ON COLUMN ems.late_changes.receipt_state_after IS 'none, reported or stored, after the change; null if there is no line';

CREATE VIEW ems.invoice_control AS
SELECT
    invoice.organization_reference_id,
    invoice.id AS invoice_id,
    invoice.invoice_number,
    invoice.invoice_date,
    invoice.no_of_transactions,
    booked.number AS booked_transactions,
    invoice.invoice_amount,
    invoice.invoice_currency,
    booked.amount AS booked_amount,
    booked.number_in_other_currencies AS transactions_in_other_currencies,
    invoice.invoice_amount - booked.amount AS difference,
    invoice.no_of_transactions IS NOT DISTINCT FROM booked.number
        AND invoice.invoice_amount IS NOT DISTINCT FROM booked.amount
        AND booked.number_in_other_currencies = 0 AS agrees
FROM ems.invoices AS invoice
CROSS JOIN LATERAL (
    SELECT count(*) AS number,
        coalesce(sum(t.accounting_amount) FILTER (
            WHERE t.accounting_currency = invoice.invoice_currency
        ), 0) AS amount,
        count(*) FILTER (
            WHERE t.accounting_currency IS DISTINCT FROM invoice.invoice_currency
        ) AS number_in_other_currencies
    FROM ems.transactions AS t
    WHERE t.organization_reference_id = invoice.organization_reference_id
        AND t.invoice_number = invoice.invoice_number AND t.state = 'invoiced'
) AS booked;

COMMENT ON VIEW ems.invoice_control IS 'Invoice reconciliation: the issuer''s invoices compared with the ledger, number and amount of the transactions as the invoice reports them (invoice.created), and of the transactions in state invoiced with its invoice_number. An invoice names no issuer, so two invoices of an organization with one number count the same transactions. Empty until OpenCard sends invoice.created, which it has announced and does not send yet.';
COMMENT ON COLUMN ems.invoice_control.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.invoice_control.invoice_id IS 'OpenCard''s id of the invoice (ems.invoices.id)';
COMMENT ON COLUMN ems.invoice_control.invoice_number IS 'Number of the invoice; null when not reported, and then no transaction is found for it';
COMMENT ON COLUMN ems.invoice_control.invoice_date IS 'Date of the invoice, a day without a zone; null when not reported';
COMMENT ON COLUMN ems.invoice_control.no_of_transactions IS 'Number of transactions on the invoice, as reported; null when not reported';
COMMENT ON COLUMN ems.invoice_control.booked_transactions IS 'Number of transactions in state invoiced with this invoice_number; 0 if none';
COMMENT ON COLUMN ems.invoice_control.invoice_amount IS 'Amount of the invoice, in major units of invoice_currency; fees, payments and the sign of a credit note are not documented by OpenCard; null when not reported';
COMMENT ON COLUMN ems.invoice_control.invoice_currency IS 'Currency of the invoice, as sent, normally ISO 4217; null when not reported';
COMMENT ON COLUMN ems.invoice_control.booked_amount IS 'Net sum of their accounting_amount in invoice_currency, in major units; 0 if none';
COMMENT ON COLUMN ems.invoice_control.transactions_in_other_currencies IS 'Number of them with another accounting_currency, or with none';
COMMENT ON COLUMN ems.invoice_control.difference IS 'invoice_amount minus booked_amount, in major units of invoice_currency: positive if more was billed than is in the ledger; null when no invoice_amount was reported';
COMMENT ON COLUMN ems.invoice_control.agrees IS 'Whether number and amount are equal, and every transaction is in invoice_currency';

-- Readers of the feed that say how far they have read.

CREATE TABLE ems.consumers (
    name TEXT NOT NULL,
    role TEXT,
    "position" BIGINT DEFAULT 0 NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_consumers PRIMARY KEY (name)
);

COMMENT ON TABLE ems.consumers IS 'Readers of the feed that report how far they have read, one row each. Written by ems.commit_position(name, position) and receiver db grant-reader. As long as a consumer is registered, no event that it has not read can be deleted.';
COMMENT ON COLUMN ems.consumers.name IS 'Name of the consumer, as it was granted; by default the name of its role';
COMMENT ON COLUMN ems.consumers.role IS 'Role that may commit positions under this name, besides the owner of the schema; null: the role of that name';
COMMENT ON COLUMN ems.consumers.position IS 'Position of ems.events up to which it has read, and stored its results; 0 until it commits one';
COMMENT ON COLUMN ems.consumers.registered_at IS 'When it was granted, or first committed a position';
COMMENT ON COLUMN ems.consumers.updated_at IS 'When it last committed a position; null until it commits one';

-- It runs with the rights of the schema's owner, so it checks who calls: session_user is the role that logged in.

CREATE FUNCTION ems.commit_position(name text, "position" bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner oid := (SELECT nspowner FROM pg_namespace WHERE nspname = 'ems');
    known ems.consumers;
    newest bigint := greatest(
        (SELECT max(event.position) FROM ems.events AS event),
        (SELECT greatest(deleted_through, epoch_start) FROM ems.feed_horizon), 0
    );
    reached bigint := commit_position.position;
BEGIN
    IF commit_position.name IS NULL THEN
        RAISE EXCEPTION 'the name of a consumer is null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT * INTO known FROM ems.consumers AS consumer WHERE consumer.name = commit_position.name;
    IF NOT pg_has_role(session_user, owner, 'MEMBER') AND NOT coalesce(
        pg_has_role(session_user, to_regrole(quote_ident(coalesce(known.role, commit_position.name)))::oid, 'MEMBER'), false
    ) THEN
        RAISE EXCEPTION 'consumer % is not granted to %', commit_position.name, session_user USING
            ERRCODE = 'insufficient_privilege',
            HINT = 'Run: receiver db grant-reader ' || session_user || ' --consumer ' || commit_position.name;
    END IF;
    IF reached > newest THEN
        IF EXISTS (
            SELECT FROM (SELECT * FROM receiver.feed_epochs ORDER BY epoch DESC LIMIT 1) AS stored,
                receiver.feed_history() AS present
            WHERE stored.system_identifier <> present.system_identifier OR stored.timeline <> present.timeline
                OR stored.backup_label <> present.backup_label OR stored.database_oid <> present.database_oid
                OR stored.events_oid <> present.events_oid
        ) THEN
            -- What a reader has read was lost in a failover, and the next epoch has not begun yet.
            reached := newest;
        ELSE
            -- The next epoch may have begun since.
            newest := greatest(newest, (SELECT epoch_start FROM ems.feed_horizon));
        END IF;
    END IF;
    IF reached IS NULL OR reached NOT BETWEEN 0 AND newest THEN
        RAISE EXCEPTION 'position % is not between 0 and %, the newest position of the feed',
            reached, newest USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO ems.consumers AS consumer (name, position, updated_at)
    VALUES (commit_position.name, reached, clock_timestamp())
    ON CONFLICT ON CONSTRAINT pk_consumers DO UPDATE
    SET position = excluded.position, updated_at = excluded.updated_at;
END
$$;

COMMENT ON FUNCTION ems.commit_position(text, bigint) IS 'Reports that a consumer has read the feed up to a position and stored its results; returns nothing. Errors: SQLSTATE 22023, the position is null, negative or higher than the newest one; 42501, the name is not granted to this role; 22004, the name is null. After a restore that PostgreSQL shows, a position that is too high is stored as the newest one.';

CREATE TABLE receiver.issues (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity INTEGER NOT NULL,
    text TEXT NOT NULL,
    command TEXT DEFAULT '' NOT NULL,
    example_delivery_id BIGINT,
    organization_reference_id TEXT,
    count BIGINT NOT NULL,
    state TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    first_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE,
    owner TEXT,
    note TEXT,
    accepted_count BIGINT,
    accepted_until TIMESTAMP WITH TIME ZONE,
    by_person BOOLEAN NOT NULL,
    CONSTRAINT pk_issues PRIMARY KEY (id),
    CONSTRAINT uq_issues_kind_subject UNIQUE (kind, subject),
    CONSTRAINT ck_issues_state CHECK (state IN ('open', 'acknowledged', 'resolved'))
);

COMMENT ON COLUMN receiver.issues.subject IS 'what has the trouble; empty for the whole service';
COMMENT ON COLUMN receiver.issues.severity IS '1 warning, 2 critical';
COMMENT ON COLUMN receiver.issues.text IS 'what was found last, for people';
COMMENT ON COLUMN receiver.issues.command IS 'what to run about it; empty: no command';
COMMENT ON COLUMN receiver.issues.example_delivery_id IS 'one of the affected deliveries';
COMMENT ON COLUMN receiver.issues.count IS 'how many deliveries, events or files are affected';
COMMENT ON COLUMN receiver.issues.opened_at IS 'when it opened last';
COMMENT ON COLUMN receiver.issues.owner IS 'who acknowledged or resolved it last';
COMMENT ON COLUMN receiver.issues.accepted_count IS 'the count up to which it does not reopen; null: any';
COMMENT ON COLUMN receiver.issues.accepted_until IS 'when the acknowledgement ends; null: never';
COMMENT ON COLUMN receiver.issues.by_person IS 'whether a person acknowledged or resolved it since it opened';

CREATE TABLE receiver.notifications (
    issue_id BIGINT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    error TEXT,
    sent_state TEXT,
    sent_opened_at TIMESTAMP WITH TIME ZONE,
    sent_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_notifications PRIMARY KEY (issue_id, target),
    CONSTRAINT fk_notifications_issue_id_issues FOREIGN KEY(issue_id) REFERENCES receiver.issues (id) ON DELETE CASCADE
);

COMMENT ON COLUMN receiver.notifications.target IS 'a hash of the address, which is a secret';
COMMENT ON COLUMN receiver.notifications.state IS 'the state to be sent';
COMMENT ON COLUMN receiver.notifications.opened_at IS 'when the issue opened last: opened again, it is sent again';
COMMENT ON COLUMN receiver.notifications.due_at IS 'when it is sent next, or tried again; not before a minute after the last time';
COMMENT ON COLUMN receiver.notifications.attempts IS 'how many failed since it was sent last';
COMMENT ON COLUMN receiver.notifications.error IS 'why the last attempt failed';
COMMENT ON COLUMN receiver.notifications.sent_state IS 'what was sent last; null: nothing';

CREATE TABLE receiver.audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    address TEXT,
    action TEXT NOT NULL,
    object TEXT,
    reason TEXT,
    outcome TEXT NOT NULL,
    error TEXT,
    CONSTRAINT pk_audit PRIMARY KEY (id),
    CONSTRAINT ck_audit_via CHECK (via IN ('command line', 'console')),
    CONSTRAINT ck_audit_outcome CHECK (outcome IN ('done', 'failed', 'refused'))
);
CREATE INDEX ix_audit_action_object ON receiver.audit (action, object);

COMMENT ON COLUMN receiver.audit.at IS 'when it was recorded: at its end';
COMMENT ON COLUMN receiver.audit.actor IS 'a user of the console, or user@host of the operating system at the command line';
COMMENT ON COLUMN receiver.audit.via IS 'command line or console';
COMMENT ON COLUMN receiver.audit.address IS 'of the console''s client, as the proxy says; null at the command line';
COMMENT ON COLUMN receiver.audit.action IS 'the command, such as webhooks rotate-secret; the console uses the same names';
COMMENT ON COLUMN receiver.audit.object IS 'what it was done to: the command''s arguments, without secrets and personal data';
COMMENT ON COLUMN receiver.audit.reason IS 'why, where the action asks for it';
COMMENT ON COLUMN receiver.audit.outcome IS 'done, failed (some of it may be done) or refused';
COMMENT ON COLUMN receiver.audit.error IS 'the class of the error, where it failed by one';

-- Records are only added. Retention, which deletes the oldest, says so in its transaction.

CREATE FUNCTION receiver.keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('receiver.retention', true) = 'audit' THEN
        RETURN old;
    END IF;
    RAISE EXCEPTION 'records of receiver.audit are neither changed nor deleted, other than by retention';
END
$$;

CREATE TRIGGER keep_audit BEFORE UPDATE OR DELETE ON receiver.audit
FOR EACH ROW EXECUTE FUNCTION receiver.keep_audit();
