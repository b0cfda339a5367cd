"""The rows of schema ``ems``, a dataclass for each table and view. Written by ``make docs`` from the migrated database."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Base of all rows."""

    TABLE: ClassVar[str]
    """The table or view in schema ``ems``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardHolder(Row):
    """Card holders and what was reported of each. OpenCard sends no time of an event, so each time is that of its
    first attempt to deliver the event (the time of its arrival if the delivery log shows no earlier attempt);
    of several events of one type, the newest.
    """

    TABLE: ClassVar[str] = "card_holders"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    created_at: datetime | None
    """When last reported as created through the API; null when never reported"""
    identified_at: datetime | None
    """When last reported as identified (identity linked, in OpenCard's words); transactions follow from then on;
    null when never reported
    """
    signed_pdpc_at: datetime | None
    """When the consent (PDPC) was last reported as signed; null when never reported"""
    email_delivered_at: datetime | None
    """When the consent e-mail was last reported as delivered; if email_failed_at is set, too, the later one holds;
    null when never reported
    """
    email_failed_at: datetime | None
    """When the consent e-mail was last reported as bounced; if email_delivered_at is set, too, the later one
    holds; null when never reported
    """
    deleted_at: datetime | None
    """When last reported as deleted; null when never reported, and after the card holder was created again"""
    erased_at: datetime | None
    """When reference_id was replaced by a pseudonym, here and in every other table; null when it was not"""
    updated_at: datetime
    """When this row last changed in this database; not a time of the transaction"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing(Row):
    """Months that an operator closed (receiver close), and what the ledger contained then. A month is closed once;
    later changes of it are in ems.late_changes.
    """

    TABLE: ClassVar[str] = "closings"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    month: date
    """First day of the month, without a zone; the lines of a month are those with a booked_on in it"""
    closed_at: datetime
    """When it was closed"""
    closed_by: str
    """Who closed it: user@host of the command line, or the user of the console"""
    complete_from: datetime
    """complete_from of ems.completeness when it was closed; if the month began before, what OpenCard sent earlier
    may be missing
    """
    complete_through: datetime
    """complete_through of ems.completeness when it was closed: everything that OpenCard sent from complete_from
    until then was applied, except the acknowledged gaps
    """
    acknowledged_gaps: int
    """Number of events of the organization, missing or not applied, that an operator had acknowledged or resolved;
    0 if none
    """
    position: int
    """Newest position of the feed when it was closed; ems.ledger_as_of(position) is the ledger at that time"""
    lines: int
    """Number of lines that the ledger had in the month, credits included"""
    sums: dict[str, Any]
    """Net sum of accounting_amount of these lines (credits are negative) by accounting_currency; exact, as
    strings; the key is an empty string for lines without a currency
    """
    vat_sums: dict[str, Any]
    """Net sum of vat_amount of these lines by vat_currency, in the same form"""
    sha256: str
    """SHA-256 of these lines without the card holder, hexadecimal; receiver close --verify computes it again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer(Row):
    """Readers of the feed that report how far they have read, one row each. Written by ems.commit_position(name,
    position) and receiver db grant-reader. As long as a consumer is registered, no event that it has not read
    can be deleted.
    """

    TABLE: ClassVar[str] = "consumers"

    name: str
    """Name of the consumer, as it was granted; by default the name of its role"""
    role: str | None
    """Role that may commit positions under this name, besides the owner of the schema; null: the role of that name"""
    position: int
    """Position of ems.events up to which it has read, and stored its results; 0 until it commits one"""
    registered_at: datetime
    """When it was granted, or first committed a position"""
    updated_at: datetime | None
    """When it last committed a position; null until it commits one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentalImpact(Row):
    """CO2 of transactions, one row for each provider of the figure."""

    TABLE: ClassVar[str] = "environmental_impacts"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction, the same through all its states (source: transaction.id)"""
    provider: str
    """aland_index, deedster, or unspecified if the event names none"""
    carbon_emission_in_grams: Decimal | None
    """Emission in grams of CO2; null when not reported"""
    carbon_social_cost_amount: Decimal | None
    """Social cost of the emission, in major units of carbon_social_cost_currency; null when not reported"""
    carbon_social_cost_currency: str | None
    """Currency of the cost, as sent, normally ISO 4217; null when not reported"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased, as in this event; ems.transactions has that of the transaction
    """
    card_issuer: str | None
    """Issuer of the card (source: transaction.card_issuer); null when not reported"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""
    updated_at: datetime
    """When this row last changed in this database; not a time of the transaction"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Row):
    """The event log: each event once, in the order in which it was applied; the change feed and the history.
    Follow it with WHERE position > :last ORDER BY position; wait with LISTEN ems_events. Entries of type
    receiver.changed announce a change of the tables that no event of OpenCard announces.
    """

    TABLE: ClassVar[str] = "events"

    position: int
    """Number of the event in commit order: an event that is committed later has a higher position. Some numbers
    are not used; none is used twice. Its high bits are the feed's epoch (position >> 40), see feed_horizon
    """
    type: str
    """Name of the event in OpenCard's catalogue, for example card.transaction.cleared; or receiver.changed"""
    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    card_holder_reference_id: str | None
    """The EMS's own id of the card holder; null for organization events"""
    transaction_id: str | None
    """OpenCard's id of the transaction; null for events without a transaction"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event; the time of its arrival if the delivery log shows no
    earlier attempt. OpenCard sends no time of the event itself; not in the order of position
    """
    recorded_at: datetime
    """When it was applied"""
    source: str
    """push: delivered to this service; log: recovered from OpenCard's delivery log; receiver: a receiver.changed"""
    delivery_id: int
    """Delivery that contained it, or that a receiver.changed is about (receiver.deliveries.id)"""
    payload: dict[str, Any]
    """The event's whole payload, unknown fields included; amounts in major units, digits as sent. Of a
    receiver.changed: the reason, and the tables whose rows may have changed
    """
    subject_id: str
    """What the event is about: the id of its transaction, card holder, TPA or invoice"""
    fingerprint: bytes | None
    """SHA-256 of type and payload by value, equal for equal events; null for receiver.changed"""
    retracted_at: datetime | None
    """When an operator retracted the event as forged: the tables are computed without it; null unless it is
    retracted
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedHorizon(Row):
    """The highest position of the change feed that was deleted, and its epoch, in one row; no row until events are
    deleted or an epoch begins. A reader whose position is less than deleted_through may have missed events, and
    one whose position is less than epoch_start may have read events that a restore or a failover lost. What
    readers do then depends on how they use the feed: docs/ems/feed.md.
    """

    TABLE: ClassVar[str] = "feed_horizon"

    id: int
    """Always 1"""
    deleted_through: int
    """Highest position in ems.events that was deleted, 0 if none; no event after it was deleted"""
    deleted_at: datetime
    """When events were last deleted; if none were, when the first epoch began"""
    epoch: int
    """The feed's current epoch, the high bits of new positions (position >> 40). It grows when PostgreSQL is
    restored or fails over
    """
    epoch_start: int
    """Position at which the current epoch began: its positions are higher, those of earlier epochs are not. 0 in
    epoch 0
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice(Row):
    """Invoices of the card issuer (OpenCard has announced their event and does not send it yet)."""

    TABLE: ClassVar[str] = "invoices"

    organization_reference_id: str
    """The EMS's own id of the organization (source: the webhook that brought it)"""
    id: str
    """OpenCard's id of the invoice"""
    organization_number: str | None
    """Company registration number; null when not reported"""
    invoice_number: str | None
    """Number of the invoice; whether it is unique across issuers is not documented; null when not reported"""
    no_of_transactions: int | None
    """How many transactions it bills; null when not reported"""
    invoice_amount: Decimal | None
    """Amount of the invoice, in major units of invoice_currency; whether it includes fees and payments, and the
    sign of a credit note, are not documented by OpenCard; null when not reported
    """
    invoice_currency: str | None
    """Currency of the invoice, as sent, normally ISO 4217; null when not reported"""
    invoice_date: date | None
    """Date of the invoice, a day without a zone; null when not reported"""
    due_date: date | None
    """Date by which it is to be paid, a day without a zone; null when not reported"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""
    updated_at: datetime
    """When this row last changed in this database; not a time of the transaction"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerJournal(Row):
    """Every change of ems.ledger (day, amounts, currencies, VAT, card holder, state of the receipt), as a reversal
    of the previous line and a new line; a change of receipt or card holder is a pair with equal amounts. Lines
    are only added; none changes later, except that the reference of an erased card holder is replaced. The
    amounts of all lines up to a position add up to the ledger at that position, and the signs to its number of
    lines. Several events of a transaction that were applied together are one change.
    """

    TABLE: ClassVar[str] = "ledger_journal"

    position: int
    """Position in ems.events of the event that changed the line; of several applied together, the last"""
    line: int
    """Number of the line at its position, from 1"""
    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    kind: str
    """booking: the first line of a transaction; reversal: cancels the previous line; correction: the new line
    instead of it, for example when a cleared amount turned negative
    """
    sign: int
    """-1 for a reversal, else 1; the sum is the number of lines in the ledger"""
    changed: list[str] | None
    """Columns of a correction that differ from the reversed line; null for bookings and reversals, and for a
    transaction that returns to the ledger
    """
    booked_on: date
    """The line's booked_on in the ledger, a day without a zone; a reversal has that of the line it reverses"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    original_amount: Decimal | None
    """The line's original_amount in the ledger, in major units of original_currency, negated in a reversal; null
    when not reported
    """
    original_currency: str | None
    """Currency of the purchase, as sent, normally ISO 4217; null when not reported"""
    accounting_amount: Decimal | None
    """The line's accounting_amount in the ledger, in major units of accounting_currency, negated in a reversal;
    null when not reported
    """
    accounting_currency: str | None
    """Currency of accounting_amount, as sent, normally ISO 4217; null when not reported"""
    vat_amount: Decimal | None
    """The line's vat_amount in the ledger, in major units of vat_currency, negated in a reversal; null when none
    was reported
    """
    vat_currency: str | None
    """Currency of vat_amount, as in the ledger (normally ISO 4217); null when no VAT or no currency was reported"""
    vat_source: str | None
    """merchant or network, as in the ledger; null when no VAT was reported"""
    receipt_state: str
    """none, reported or stored, as in the ledger"""
    recorded_at: datetime
    """When the line was written"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineItem(Row):
    """Items bought; a newer event replaces all items of a transaction. May arrive before the transaction."""

    TABLE: ClassVar[str] = "line_items"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction, the same through all its states (source: transaction.id)"""
    line_number: int
    """Position in the merchant's list, from 1; the order as sent"""
    description: str | None
    """What was bought; null when not reported"""
    amount: Decimal | None
    """Price of one unit, in major units of currency; for weighed goods the price of the whole line, as
    total_amount; whether VAT is included, and the sign of discounts and refunds, are not documented by
    OpenCard; null when not reported
    """
    total_amount: Decimal | None
    """Price of the line, in major units of currency; whether VAT is included, and the sign of discounts and
    refunds, are not documented by OpenCard; null when not reported
    """
    quantity: Decimal | None
    """How many, or how much: may be a fraction (0.195 of a weighed good); null when not reported"""
    currency: str | None
    """Currency of the amounts, as sent, normally ISO 4217; null when not reported"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased, as in this event; ems.transactions has that of the transaction
    """
    card_issuer: str | None
    """Issuer of the card (source: transaction.card_issuer); null when not reported"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization(Row):
    """The organizations that have or had a webhook of this service."""

    TABLE: ClassVar[str] = "organizations"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    added_at: datetime
    """When its first webhook was added"""
    log_begins_at: datetime
    """Time from which OpenCard's delivery log covers the organization: added_at, or the time of the log's oldest
    entry if that is earlier (of a webhook that was registered elsewhere and adopted). What OpenCard sent before
    may be missing
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Row):
    """Digital receipts matched to transactions, and the stored file of each once downloaded. A transaction may
    have several: one with another url replaces none. A receipt may arrive before its transaction.
    """

    TABLE: ClassVar[str] = "receipts"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction, the same through all its states (source: transaction.id)"""
    url: str
    """Address of the file at OpenCard; expires (source: url)"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased, as in this event; ems.transactions has that of the transaction
    """
    card_issuer: str | None
    """Issuer of the card (source: transaction.card_issuer); null when not reported"""
    content_type: str | None
    """Media type of the file; null when not reported"""
    expiration_time: datetime | None
    """Expiry time of url (OpenCard sends no zone; read as UTC); null when not reported"""
    purchase_merchant: str | None
    """Merchant on the receipt; null when not reported"""
    original_amount: Decimal | None
    """Amount on the receipt, in major units of original_currency; whether VAT is included, and the sign of a
    refund, are not documented by OpenCard; null when not reported
    """
    original_currency: str | None
    """Currency of original_amount, as sent, normally ISO 4217; null when not reported"""
    purchase_date: date | None
    """Day on the receipt, in the zone of the shop; null when not reported"""
    purchase_time: time | None
    """Time of day on the receipt, in the zone of the shop; null when not reported"""
    fetched_at: datetime
    """Time of OpenCard's first attempt to deliver the receipt's event; the time of its arrival if the delivery log
    shows no earlier attempt. OpenCard sends no time of the event itself; the time of the download is
    downloaded_at
    """
    file_key: str | None
    """Name of the stored file; null until downloaded"""
    file_size: int | None
    """Size of the stored file in bytes; null until downloaded"""
    file_sha256: str | None
    """SHA-256 of the stored file, hexadecimal; null until downloaded"""
    downloaded_at: datetime | None
    """When the file was stored; null until downloaded"""
    download_error: str | None
    """Why the last attempt to download failed; null if none failed, and once the file is stored"""
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""
    updated_at: datetime
    """When this row last changed in this database; not a time of the transaction"""
    url_sha256: bytes
    """SHA-256 of url (UTF-8), which may be longer than a key can be"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpa(Row):
    """Processing authorizations (TPAs) of organizations, once fully signed."""

    TABLE: ClassVar[str] = "tpas"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    id: str
    """OpenCard's id of the TPA"""
    name: str | None
    """Name of the organization on the TPA; null when not reported"""
    organization_number: str | None
    """Company registration number; null when not reported"""
    url: str | None
    """Address of the signed PDF at OpenCard; null when not reported"""
    signed_at: datetime
    """When first reported as signed"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""
    updated_at: datetime
    """When this row last changed in this database; not a time of the transaction"""
    file_key: str | None
    """Name of the stored document; null until downloaded"""
    file_size: int | None
    """Size of the stored document in bytes; null until downloaded"""
    file_sha256: str | None
    """SHA-256 of the stored document, hexadecimal; null until downloaded"""
    downloaded_at: datetime | None
    """When the document was stored; null until downloaded"""
    download_error: str | None
    """Why the last attempt to download failed; null if none failed, and once the file is stored"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Row):
    """Card transactions (purchases, refunds, fees, withdrawals), one row each, in their current state: the highest
    that was reported (authorized < deleted < cleared < invoiced). Of each state only the newest snapshot
    counts, by the time of OpenCard's first attempt to deliver it, of equal times the one received last; a field
    that is missing or null there comes from the state below it. A deleted transaction keeps its row. A column
    with the name of a field of OpenCard's card.transaction.* payload contains that field.
    """

    TABLE: ClassVar[str] = "transactions"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    id: str
    """OpenCard's id of the transaction, the same through all its states"""
    state: str
    """Current state: authorized, deleted, cleared or invoiced"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    receiptable: bool | None
    """Whether a partner of OpenCard has a digital receipt (its older documentation says: may have one); null when
    no state reports it
    """
    card_issuer: str | None
    """Issuer of the card; null when no state reports it"""
    card_issuer_reference: str | None
    """The issuer's reference of the highest state that has one; different in each state, not unique; null when no
    state reports it
    """
    card_issuer_customer_number: str | None
    """The issuer's number of the customer; null when no state reports it, or once the card holder is erased"""
    type: str | None
    """Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have
    been seen, and the list is open; null when no state reports it
    """
    invoice_number: str | None
    """Number of the issuer's invoice; whether it is unique across issuers is not documented; null until invoiced"""
    invoice_date: date | None
    """Date of the issuer's invoice, a day without a zone; null until invoiced"""
    original_amount: Decimal | None
    """Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by
    OpenCard); negative is read as a credit: a refund, chargeback or discount; may change until cleared; null
    when no state reports it
    """
    original_currency: str | None
    """Currency of the purchase, as sent, normally ISO 4217; null when no state reports it"""
    vat_rate: Decimal | None
    """VAT rate from the card network, as sent, often wrong; whether it is percent (25) or a fraction (0.25) is not
    documented; the ledger prefers the merchant's VAT; null when no state reports it
    """
    vat_amount: Decimal | None
    """VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive
    for a refund; the ledger corrects the sign, and prefers the merchant's; null when no state reports it
    """
    vat_currency: str | None
    """Currency of vat_amount, as sent, normally ISO 4217; null when no state reports it"""
    accounting_amount: Decimal | None
    """Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard);
    negative is read as a credit: a refund, chargeback or discount; as a rule final once cleared; null when no
    state reports it
    """
    accounting_currency: str | None
    """Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may
    have several; null when no state reports it
    """
    exchange_rate: Decimal | None
    """Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; null when
    no state reports it
    """
    purchase_merchant: str | None
    """Merchant as the card network names it; null when no state reports it"""
    purchase_merchant_common: str | None
    """Merchant's normalized name; null when no state reports it"""
    purchase_date: date | None
    """Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports
    it
    """
    purchase_time: time | None
    """Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it"""
    purchase_timezone: str | None
    """Time zone of purchase_date and purchase_time (IANA name as a rule); null when no state reports it"""
    purchase_country: str | None
    """Country, as sent, normally ISO 3166 alpha-2; null when no state reports it"""
    purchase_city: str | None
    """City; null when no state reports it"""
    card_id: int | None
    """OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed,
    is not documented; null when no state reports it, or once the card holder is erased
    """
    card_product: str | None
    """Product name of the card; null when no state reports it"""
    card_type: str | None
    """private, corporate or corporate_with_private_invoice; null when no state reports it"""
    card_last_four: str | None
    """Last four digits of the card number (personal), not unique; null when no state reports it, or once the card
    holder is erased
    """
    mcc_code: str | None
    """Merchant category code (ISO 18245); null when no state reports it"""
    mcc_text: str | None
    """Name of the merchant category; null when no state reports it"""
    mcc_top_level: str | None
    """Top level of the merchant category; null when no state reports it"""
    branch_code: str | None
    """Code of the merchant's line of business; null when no state reports it"""
    branch_text: str | None
    """Name of the merchant's line of business; null when no state reports it"""
    category_text: str | None
    """OpenCard's spending category; null when no state reports it"""
    cleared_card_issuer_reference: str | None
    """Clearing reference of the issuer, kept in later states; compare it with the clearing reference in another
    source, such as the bank's own file; null until cleared, and when not reported
    """
    cleared_snapshot_at: datetime | None
    """When the newest cleared snapshot was reported, which cleared_card_issuer_reference is from; null until
    cleared
    """
    authorized_at: datetime | None
    """When first reported as authorized; null when never reported"""
    cleared_at: datetime | None
    """When first reported as cleared; null when never reported"""
    invoiced_at: datetime | None
    """When first reported as invoiced; null when never reported"""
    deleted_at: datetime | None
    """When first reported as deleted; kept if the transaction is cleared later; null when never reported"""
    snapshot_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""
    updated_at: datetime
    """When this row last changed in this database; not a time of the transaction"""
    payment_product_id: str | None
    """OpenCard's id of the payment product that the card belongs to (source: payment_product.id); null when not
    reported, or once the card holder is erased
    """
    payment_product_name: str | None
    """Name of the payment product (source: payment_product.name); null when no state reports it, or once the card
    holder is erased
    """
    card_funding: str | None
    """debit or credit, as sent; null when no state reports it, or once the card holder is erased"""
    unreadable: list[str] | None
    """Names of columns that are null because their field of the payload could not be read; the event's payload has
    the field as sent; null when every field could be read
    """
    booked_on: date | None
    """Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or
    posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as
    invoiced; null only while authorized or deleted
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class VatRate(Row):
    """VAT by rate from the merchant's receipt; a newer event replaces all rows of a transaction. May arrive before
    the transaction.
    """

    TABLE: ClassVar[str] = "vat_rates"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction, the same through all its states (source: transaction.id)"""
    line_number: int
    """Position in the merchant's list, from 1; the order as sent"""
    vat_amount: Decimal | None
    """VAT of this rate, in major units of currency (source: vat_rates[].vat_amount); sign as sent, which may be
    positive for a refund (ledger and ledger_vat correct it); null when not reported
    """
    taxable_amount: Decimal | None
    """Amount without VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and
    ledger_vat correct it); null when not reported
    """
    total_amount: Decimal | None
    """Amount with VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and
    ledger_vat correct it); null when not reported
    """
    percentage: Decimal | None
    """The rate in percent (25 means 25 %); null when not reported"""
    currency: str | None
    """Currency of the amounts, as sent, normally ISO 4217; null when not reported"""
    purchase_country: str | None
    """Country of the purchase, as sent, normally ISO 3166 alpha-2; null when not reported"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased, as in this event; ems.transactions has that of the transaction
    """
    card_issuer: str | None
    """Issuer of the card (source: transaction.card_issuer); null when not reported"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VatTotal(Row):
    """Total VAT from the merchant's receipt, usually one row for each currency; a newer event replaces all rows of
    a transaction. May arrive before the transaction.
    """

    TABLE: ClassVar[str] = "vat_totals"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction, the same through all its states (source: transaction.id)"""
    line_number: int
    """Position in the merchant's list, from 1; the order as sent"""
    vat_amount: Decimal | None
    """VAT in total, in major units of currency (source: totals[].vat_amount); sign as sent, which may be positive
    for a refund (ledger and ledger_vat correct it); null when not reported
    """
    taxable_amount: Decimal | None
    """Amount without VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and
    ledger_vat correct it); null when not reported
    """
    total_amount: Decimal | None
    """Amount with VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and
    ledger_vat correct it); null when not reported
    """
    currency: str | None
    """Currency of the amounts, as sent, normally ISO 4217; null when not reported"""
    purchase_country: str | None
    """Country of the purchase, as sent, normally ISO 3166 alpha-2; null when not reported"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased, as in this event; ems.transactions has that of the transaction
    """
    card_issuer: str | None
    """Issuer of the card (source: transaction.card_issuer); null when not reported"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival
    if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that the current values come from (receiver.deliveries.id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness(Row):
    """Time up to which each organization is complete, one row each: everything that OpenCard sent from
    complete_from to complete_through, according to its delivery log, is applied to these tables. A month is
    covered if it begins at or after complete_from and ends at or before complete_through. Transactions of that
    time that OpenCard reports later are not included.
    """

    TABLE: ClassVar[str] = "completeness"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    complete_through: datetime | None
    """Everything that OpenCard sent from complete_from up to this time is applied. Always before the first event
    that is missing or not applied yet, unless an operator acknowledged it; null until the delivery log of each
    webhook has been read from its beginning (again after a restore or a failover), and while the organization
    has no webhook
    """
    open_gaps: int
    """Number of events that are missing from the tables and that no operator has acknowledged: in the delivery log
    without a payload, or received and failed, dead, quarantined, or transaction events that were ignored. A
    failed one is still tried again; 0 if none
    """
    checked_at: datetime | None
    """When the delivery log was last read; with several webhooks, the earliest of these times; null until then"""
    acknowledged_gaps: int
    """Number of such events that an operator acknowledged or resolved, so that they no longer hold back
    complete_through; 0 if none
    """
    complete_from: datetime
    """Time from which OpenCard's delivery log covers the organization (log_begins_at of ems.organizations): when
    its first webhook was added here, or the log's oldest entry if that is earlier. A month that began before
    cannot be shown to be complete
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceControl(Row):
    """Invoice reconciliation: the issuer's invoices compared with the ledger, number and amount of the
    transactions as the invoice reports them (invoice.created), and of the transactions in state invoiced with
    its invoice_number. An invoice names no issuer, so two invoices of an organization with one number count the
    same transactions. Empty until OpenCard sends invoice.created, which it has announced and does not send yet.
    """

    TABLE: ClassVar[str] = "invoice_control"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    invoice_id: str
    """OpenCard's id of the invoice (ems.invoices.id)"""
    invoice_number: str | None
    """Number of the invoice; null when not reported, and then no transaction is found for it"""
    invoice_date: date | None
    """Date of the invoice, a day without a zone; null when not reported"""
    no_of_transactions: int | None
    """Number of transactions on the invoice, as reported; null when not reported"""
    booked_transactions: int
    """Number of transactions in state invoiced with this invoice_number; 0 if none"""
    invoice_amount: Decimal | None
    """Amount of the invoice, in major units of invoice_currency; fees, payments and the sign of a credit note are
    not documented by OpenCard; null when not reported
    """
    invoice_currency: str | None
    """Currency of the invoice, as sent, normally ISO 4217; null when not reported"""
    booked_amount: Decimal
    """Net sum of their accounting_amount in invoice_currency, in major units; 0 if none"""
    transactions_in_other_currencies: int
    """Number of them with another accounting_currency, or with none"""
    difference: Decimal | None
    """invoice_amount minus booked_amount, in major units of invoice_currency: positive if more was billed than is
    in the ledger; null when no invoice_amount was reported
    """
    agrees: bool
    """Whether number and amount are equal, and every transaction is in invoice_currency"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateChange(Row):
    """Each change of a month after it was closed, from the journal: the line before and after the change. A line
    that moves from one closed month to another is listed in both.
    """

    TABLE: ClassVar[str] = "late_changes"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    month: date
    """First day of the closed month, without a zone (ems.closings.month)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    position: int
    """Position in ems.events of the event that changed the line; higher than that of the closing"""
    changed_at: datetime
    """When the change was written to the journal"""
    kind: str
    """added: a line is new in the month; removed: a line left it; changed: a line in it changed. A line that moved
    is removed in the month of booked_on_before, and added in that of booked_on_after
    """
    changed: list[str] | None
    """Columns that differ; null for a line that is new in the ledger or left it"""
    booked_on_before: date | None
    """booked_on before the change, without a zone; null if there was no line"""
    booked_on_after: date | None
    """booked_on after the change, without a zone; null if there is no line"""
    card_holder_reference_id_before: str | None
    """The EMS's own id of the card holder before the change; null if there was no line"""
    card_holder_reference_id_after: str | None
    """The EMS's own id of the card holder after the change; null if there is no line"""
    original_amount_before: Decimal | None
    """Amount in the currency of the purchase, in major units, sign as sent, before the change; null when not
    reported, and if there was no line
    """
    original_amount_after: Decimal | None
    """Amount in the currency of the purchase, in major units, sign as sent, after the change; null when not
    reported, and if there is no line
    """
    original_currency_before: str | None
    """Currency of original_amount_before, as sent, normally ISO 4217; null when not reported, and if there was no
    line
    """
    original_currency_after: str | None
    """Currency of original_amount_after, as sent, normally ISO 4217; null when not reported, and if there is no
    line
    """
    accounting_amount_before: Decimal | None
    """Amount in accounting_currency_before, in major units, sign as sent, before the change; null when not
    reported, and if there was no line
    """
    accounting_amount_after: Decimal | None
    """Amount in accounting_currency_after, in major units, sign as sent, after the change; null when not reported,
    and if there is no line
    """
    accounting_currency_before: str | None
    """Currency of accounting_amount_before, as sent, normally ISO 4217; null when not reported, and if there was
    no line
    """
    accounting_currency_after: str | None
    """Currency of accounting_amount_after, as sent, normally ISO 4217; null when not reported, and if there is no
    line
    """
    vat_amount_before: Decimal | None
    """VAT in the ledger, in major units of vat_currency_before, before the change; null when none was reported,
    and if there was no line
    """
    vat_amount_after: Decimal | None
    """VAT in the ledger, in major units of vat_currency_after, after the change; null when none was reported, and
    if there is no line
    """
    vat_currency_before: str | None
    """Currency of vat_amount_before, as sent, normally ISO 4217; null when no VAT or no currency was reported, and
    if there was no line
    """
    vat_currency_after: str | None
    """Currency of vat_amount_after, as sent, normally ISO 4217; null when no VAT or no currency was reported, and
    if there is no line
    """
    receipt_state_before: str | None
    """none, reported or stored, before the change; null if there was no line"""
    receipt_state_after: str | None
    """none, reported or stored, after the change; null if there is no line"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger(Row):
    """Transactions to post: cleared and invoiced, one row each, with the amounts of the highest state (invoiced
    before cleared); a clearing reported after the invoice does not change them. What the highest state does not
    report comes from the state below it, as in ems.transactions. A later clearing under the same id replaces
    the earlier one: amounts are not added. Changes of day, amounts, currencies, VAT, card holder and
    receipt_state are in ledger_journal; those of other columns (state, invoice, merchant) are not. VAT is the
    merchant's if a receipt has it, else the card network's (see vat_source); ledger_vat has it by rate. Select
    a month by booked_on.
    """

    TABLE: ClassVar[str] = "ledger"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    state: str
    """cleared or invoiced"""
    purchase_date: date | None
    """Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports
    it
    """
    purchase_time: time | None
    """Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it"""
    purchase_timezone: str | None
    """Time zone of purchase_date and purchase_time; null when no state reports it"""
    merchant: str | None
    """Merchant's normalized name, else the card network's; null when no state reports one"""
    purchase_country: str | None
    """Country, as sent, normally ISO 3166 alpha-2; null when no state reports it"""
    purchase_city: str | None
    """City; null when no state reports it"""
    mcc_code: str | None
    """Merchant category code (ISO 18245); null when no state reports it"""
    category_text: str | None
    """OpenCard's spending category; null when no state reports it"""
    accounting_amount: Decimal | None
    """Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard);
    negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so
    possibly from the authorization; null when no state reports it
    """
    accounting_currency: str | None
    """Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may
    have several; null when no state reports it
    """
    original_amount: Decimal | None
    """Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by
    OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that
    reports it, so possibly from the authorization; null when no state reports it
    """
    original_currency: str | None
    """Currency of the purchase, as sent, normally ISO 4217; null when no state reports it"""
    exchange_rate: Decimal | None
    """Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; from the
    highest state that reports it; null when no state reports it
    """
    vat_amount: Decimal | None
    """VAT in major units of vat_currency, from vat_source; for a credit (original_amount negative, or
    accounting_amount if there is none) never positive, whatever sign was sent; null when none was reported
    """
    vat_currency: str | None
    """Currency of vat_amount, as sent, normally ISO 4217. If the VAT is in several currencies: that of the
    purchase, else accounting_currency. If the VAT has no currency: that of the purchase; null when no VAT was
    reported, or neither has a currency
    """
    vat_source: str | None
    """merchant: from the receipt; network: from the card network, often wrong; null when no VAT was reported"""
    receipt_url: str | None
    """Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the
    newest; null without a receipt
    """
    receipt_file_key: str | None
    """Name of the stored file of this receipt; null until downloaded"""
    number_of_items: int
    """How many lines ems.line_items has for the transaction; 0 without any"""
    card_issuer: str | None
    """Issuer of the card; null when no state reports it"""
    cleared_card_issuer_reference: str | None
    """Clearing reference of the issuer; compare it with the clearing reference in another source, such as the
    bank's own file; not unique; null when the cleared state has none, and when the transaction was only
    reported as invoiced
    """
    invoice_number: str | None
    """Number of the issuer's invoice; whether it is unique across issuers is not documented; null until invoiced"""
    invoice_date: date | None
    """Date of the issuer's invoice, a day without a zone; null until invoiced"""
    card_id: int | None
    """OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed,
    is not documented; null when no state reports it, or once the card holder is erased
    """
    card_type: str | None
    """private, corporate or corporate_with_private_invoice; null when no state reports it"""
    cleared_at: datetime | None
    """When first reported as cleared; null when only reported as invoiced"""
    invoiced_at: datetime | None
    """When first reported as invoiced; null until invoiced"""
    updated_at: datetime
    """When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not
    change it
    """
    network_vat_rate: Decimal | None
    """VAT rate from the card network, as sent, often wrong; whether percent (25) or a fraction (0.25) is not
    documented; null when no state reports it
    """
    network_vat_amount: Decimal | None
    """VAT from the card network, in major units of network_vat_currency, often wrong; sign as sent, which may be
    positive for a refund (vat_amount corrects it); null when no state reports it
    """
    network_vat_currency: str | None
    """Currency of network_vat_amount, as sent, normally ISO 4217; null when no state reports it"""
    receipt_content_type: str | None
    """Media type of this receipt's file; null when not reported, and without a receipt"""
    number_of_receipts: int
    """How many receipts ems.receipts has for the transaction; 0 without any"""
    type: str | None
    """Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have
    been seen, and the list is open; null when no state reports it
    """
    mcc_text: str | None
    """Name of the merchant category; null when no state reports it"""
    card_product: str | None
    """Product name of the card; null when no state reports it"""
    card_last_four: str | None
    """Last four digits of the card number (personal), not unique; null when no state reports it, or once the card
    holder is erased
    """
    card_issuer_customer_number: str | None
    """The issuer's number of the customer; null when no state reports it, or once the card holder is erased"""
    authorized_at: datetime | None
    """When first reported as authorized; null when never reported as authorized"""
    deleted_at: datetime | None
    """When first reported as deleted, although the transaction was cleared or invoiced; null when never reported"""
    payment_product_id: str | None
    """OpenCard's id of the payment product that the card belongs to; null when no state reports it, or once the
    card holder is erased
    """
    payment_product_name: str | None
    """Name of the payment product; null when no state reports it, or once the card holder is erased"""
    card_funding: str | None
    """debit or credit, as sent; null when no state reports it, or once the card holder is erased"""
    booked_on: date
    """Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or
    posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as
    invoiced; never null
    """
    receipt_state: str
    """none: no receipt was reported; reported: a receipt was reported, and no file is stored; stored: a file is
    stored
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerVat(Row):
    """The VAT of the ledger by rate: one row for each transaction and rate, in the ledger's currency and from the
    ledger's source. The rows of a transaction add up to its vat_amount in the ledger: if a receipt's rates do
    not add up to its total, the difference is in the row whose percentage is null. A transaction without VAT
    has no row. For a credit (original_amount negative, or accounting_amount if there is none) amounts that the
    receipt has as positive are negated. VAT of a receipt in other currencies is in vat_rates and vat_totals.
    """

    TABLE: ClassVar[str] = "ledger_vat"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    vat_source: str
    """merchant: from the receipt; network: from the card network, often wrong"""
    percentage: Decimal | None
    """The merchant's rate in percent (25 means 25 %), or the card network's rate as sent (percent or fraction: not
    documented by OpenCard); null in a row without a rate: a total without rates, or the difference between
    total and rates
    """
    vat_amount: Decimal
    """VAT of this rate, in major units of vat_currency; for a credit the rows of a transaction add up to 0 or less"""
    taxable_amount: Decimal | None
    """Amount without VAT (tax base), in major units of vat_currency; negated with vat_amount for a credit; null
    when not reported, and from the network
    """
    total_amount: Decimal | None
    """Amount with VAT, in major units of vat_currency; negated with vat_amount for a credit; null when not
    reported, and from the network
    """
    vat_currency: str | None
    """Currency of the amounts (normally ISO 4217), as in the ledger; null when no currency was reported, neither
    of the VAT nor of the purchase
    """
    purchase_date: date | None
    """Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports
    it
    """
    purchase_country: str | None
    """Country (normally ISO 3166 alpha-2) from the receipt, else from the card network; null when neither was
    reported
    """
    state: str
    """cleared or invoiced"""
    updated_at: datetime
    """When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not
    change it
    """
    booked_on: date
    """Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or
    posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as
    invoiced; never null
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingReceipt(Row):
    """Transactions in the ledger whose digital receipt OpenCard announced (receiptable) and has not sent, one row
    each, credits, fees and withdrawals included. Those that are not receiptable need a receipt as well, and are
    not here: all without a receipt are those with number_of_receipts = 0 in ems.ledger. Some receipts arrive
    days after the clearing, so filter by age. If the organization's billing profile at OpenCard does not
    include receipts, every receiptable transaction is listed.
    """

    TABLE: ClassVar[str] = "missing_receipts"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    state: str
    """cleared or invoiced"""
    purchase_date: date | None
    """Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports
    it
    """
    purchase_time: time | None
    """Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it"""
    purchase_timezone: str | None
    """Time zone of purchase_date and purchase_time; null when no state reports it"""
    merchant: str | None
    """Merchant's normalized name, else the card network's; null when no state reports one"""
    accounting_amount: Decimal | None
    """Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard);
    negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so
    possibly from the authorization; null when no state reports it
    """
    accounting_currency: str | None
    """Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may
    have several; null when no state reports it
    """
    original_amount: Decimal | None
    """Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by
    OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that
    reports it, so possibly from the authorization; null when no state reports it
    """
    original_currency: str | None
    """Currency of the purchase, as sent, normally ISO 4217; null when no state reports it"""
    card_issuer: str | None
    """Issuer of the card; null when no state reports it"""
    cleared_at: datetime | None
    """When first reported as cleared; null when only reported as invoiced"""
    invoiced_at: datetime | None
    """When first reported as invoiced; null until invoiced"""
    age: timedelta
    """Time since cleared_at, else invoiced_at, until the start of your database transaction"""
    days_missing: int
    """age in whole days of 24 hours"""
    updated_at: datetime
    """When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not
    change it
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTransaction(Row):
    """Transactions that are authorized and neither cleared nor deleted, for previews: amounts may still change.
    Clearing usually takes 3 to 5 days; a transaction that is open much longer may never be cleared.
    """

    TABLE: ClassVar[str] = "pending_transactions"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    purchase_date: date | None
    """Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports
    it
    """
    purchase_time: time | None
    """Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it"""
    purchase_timezone: str | None
    """Time zone of purchase_date and purchase_time; null when no state reports it"""
    merchant: str | None
    """Merchant's normalized name, else the card network's; null when no state reports one"""
    purchase_country: str | None
    """Country, as sent, normally ISO 3166 alpha-2; null when no state reports it"""
    purchase_city: str | None
    """City; null when no state reports it"""
    mcc_code: str | None
    """Merchant category code (ISO 18245); null when no state reports it"""
    category_text: str | None
    """OpenCard's spending category; null when no state reports it"""
    accounting_amount: Decimal | None
    """Amount in accounting_currency, in major units; sign as sent (not documented by OpenCard); negative is read
    as a credit: a refund, chargeback or discount; not final; null when not reported
    """
    accounting_currency: str | None
    """Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may
    have several; null when no state reports it
    """
    original_amount: Decimal | None
    """Amount in the currency of the purchase, in major units; sign as sent (not documented by OpenCard); negative
    is read as a credit: a refund, chargeback or discount; not final; null when not reported
    """
    original_currency: str | None
    """Currency of the purchase, as sent, normally ISO 4217; null when no state reports it"""
    exchange_rate: Decimal | None
    """Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; not
    final; null when not reported
    """
    card_issuer: str | None
    """Issuer of the card; null when no state reports it"""
    card_id: int | None
    """OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed,
    is not documented; null when no state reports it, or once the card holder is erased
    """
    card_last_four: str | None
    """Last four digits of the card number (personal), not unique; null when no state reports it, or once the card
    holder is erased
    """
    receipt_url: str | None
    """Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the
    newest; null without a receipt
    """
    receipt_file_key: str | None
    """Name of the stored file of this receipt; null until downloaded"""
    authorized_at: datetime
    """When first reported as authorized"""
    age: timedelta
    """Time since authorized_at until the start of your database transaction"""
    days_open: int
    """age in whole days of 24 hours"""
    updated_at: datetime
    """When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not
    change it
    """
    payment_product_id: str | None
    """OpenCard's id of the payment product that the card belongs to; null when no state reports it, or once the
    card holder is erased
    """
    payment_product_name: str | None
    """Name of the payment product; null when no state reports it, or once the card holder is erased"""
    card_funding: str | None
    """debit or credit, as sent; null when no state reports it, or once the card holder is erased"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PossibleDuplicate(Row):
    """Transactions in the ledger that may be one transaction, reported twice: two transaction ids of one
    organization with the same issuer, the same clearing reference of the issuer, the same original amount and
    currency, and the same day. Each pair is listed twice, once from each side; transaction_id <
    other_transaction_id selects it once. Check each by hand: the reference is not unique, and a transaction
    without one is never listed.
    """

    TABLE: ClassVar[str] = "possible_duplicates"

    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    other_transaction_id: str
    """OpenCard's id of the transaction that looks the same (ems.transactions.id)"""
    card_issuer: str
    """Issuer of both cards"""
    cleared_card_issuer_reference: str
    """Clearing reference of the issuer of both"""
    purchase_date: date
    """Day of both, each in the zone of its own purchase_timezone"""
    original_amount: Decimal
    """Amount of both in the currency of the purchase, in major units, sign as sent"""
    original_currency: str
    """Currency of both, as sent, normally ISO 4217"""
    merchant: str | None
    """Merchant's normalized name, else the card network's; null when no state reports one"""
    other_merchant: str | None
    """Merchant's normalized name, else the card network's, of the other transaction; null when no state reports
    one
    """
    card_holder_reference_id: str
    """The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the
    card holder is erased
    """
    other_card_holder_reference_id: str
    """The EMS's own id of the other transaction's card holder"""
    cleared_at: datetime
    """When first reported as cleared"""
    other_cleared_at: datetime
    """When the other was first reported as cleared"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionState(Row):
    """Each snapshot of a transaction in ems.events, including those that arrived late and changed nothing; retries
    and retracted snapshots are left out.
    """

    TABLE: ClassVar[str] = "transaction_states"

    id: int
    """Position of the snapshot in ems.events (ems.events.position; the name id is fixed)"""
    organization_reference_id: str
    """The EMS's own id of the organization (source: organization.reference_id)"""
    transaction_id: str
    """OpenCard's id of the transaction (ems.transactions.id)"""
    state: str
    """authorized, deleted, cleared or invoiced: what this snapshot reports"""
    card_issuer_reference: str | None
    """The issuer's reference of this state; null when not reported"""
    original_amount: Decimal | None
    """Amount in the currency of the purchase, in major units; sign as sent (not documented by OpenCard); null when
    not reported
    """
    original_currency: str | None
    """Currency of the purchase, as sent, normally ISO 4217; null when not reported"""
    accounting_amount: Decimal | None
    """Amount in accounting_currency, in major units; sign as sent (not documented by OpenCard); null when not
    reported
    """
    accounting_currency: str | None
    """Currency of accounting_amount, as sent, normally ISO 4217; null when not reported"""
    vat_amount: Decimal | None
    """VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive
    for a refund; null when not reported
    """
    vat_currency: str | None
    """Currency of vat_amount, as sent, normally ISO 4217; null when not reported"""
    payload: dict[str, Any]
    """The whole snapshot, unknown fields included"""
    occurred_at: datetime
    """Time of OpenCard's first attempt to deliver the event; the time of its arrival if the delivery log shows no
    earlier attempt. OpenCard sends no time of the event itself
    """
    delivery_id: int
    """Delivery that contained the snapshot (receiver.deliveries.id)"""
