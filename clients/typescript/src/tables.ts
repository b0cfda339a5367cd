// The rows of schema `ems`, an interface for each table and view. Written by ``make docs`` from the migrated database.

/** JSON with each number as a string: its digits as sent. */
export type Json = string | boolean | null | Json[] | JsonObject;
export type JsonObject = { [name: string]: Json };

/** Card holders and what was reported of each. OpenCard sends no time of an event, so each time is that of its first attempt to deliver the event (the time of its arrival if the delivery log shows no earlier attempt); of several events of one type, the newest. */
export interface CardHolder {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  reference_id: string;
  /** When last reported as created through the API; null when never reported */
  created_at: Date | null;
  /** When last reported as identified (identity linked, in OpenCard's words); transactions follow from then on; null when never reported */
  identified_at: Date | null;
  /** When the consent (PDPC) was last reported as signed; null when never reported */
  signed_pdpc_at: Date | null;
  /** When the consent e-mail was last reported as delivered; if email_failed_at is set, too, the later one holds; null when never reported */
  email_delivered_at: Date | null;
  /** When the consent e-mail was last reported as bounced; if email_delivered_at is set, too, the later one holds; null when never reported */
  email_failed_at: Date | null;
  /** When last reported as deleted; null when never reported, and after the card holder was created again */
  deleted_at: Date | null;
  /** When reference_id was replaced by a pseudonym, here and in every other table; null when it was not */
  erased_at: Date | null;
  /** When this row last changed in this database; not a time of the transaction */
  updated_at: Date;
}

/** Months that an operator closed (receiver close), and what the ledger contained then. A month is closed once; later changes of it are in ems.late_changes. */
export interface Closing {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** First day of the month, without a zone; the lines of a month are those with a booked_on in it */
  month: string;
  /** When it was closed */
  closed_at: Date;
  /** Who closed it: user@host of the command line, or the user of the console */
  closed_by: string;
  /** complete_from of ems.completeness when it was closed; if the month began before, what OpenCard sent earlier may be missing */
  complete_from: Date;
  /** complete_through of ems.completeness when it was closed: everything that OpenCard sent from complete_from until then was applied, except the acknowledged gaps */
  complete_through: Date;
  /** Number of events of the organization, missing or not applied, that an operator had acknowledged or resolved; 0 if none */
  acknowledged_gaps: bigint;
  /** Newest position of the feed when it was closed; ems.ledger_as_of(position) is the ledger at that time */
  position: bigint;
  /** Number of lines that the ledger had in the month, credits included */
  lines: bigint;
  /** Net sum of accounting_amount of these lines (credits are negative) by accounting_currency; exact, as strings; the key is an empty string for lines without a currency */
  sums: JsonObject;
  /** Net sum of vat_amount of these lines by vat_currency, in the same form */
  vat_sums: JsonObject;
  /** SHA-256 of these lines without the card holder, hexadecimal; receiver close --verify computes it again */
  sha256: string;
}

/** Readers of the feed that report how far they have read, one row each. Written by ems.commit_position(name, position) and receiver db grant-reader. As long as a consumer is registered, no event that it has not read can be deleted. */
export interface Consumer {
  /** Name of the consumer, as it was granted; by default the name of its role */
  name: string;
  /** Role that may commit positions under this name, besides the owner of the schema; null: the role of that name */
  role: string | null;
  /** Position of ems.events up to which it has read, and stored its results; 0 until it commits one */
  position: bigint;
  /** When it was granted, or first committed a position */
  registered_at: Date;
  /** When it last committed a position; null until it commits one */
  updated_at: Date | null;
}

/** CO2 of transactions, one row for each provider of the figure. */
export interface EnvironmentalImpact {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction, the same through all its states (source: transaction.id) */
  transaction_id: string;
  /** aland_index, deedster, or unspecified if the event names none */
  provider: string;
  /** Emission in grams of CO2; null when not reported */
  carbon_emission_in_grams: string | null;
  /** Social cost of the emission, in major units of carbon_social_cost_currency; null when not reported */
  carbon_social_cost_amount: string | null;
  /** Currency of the cost, as sent, normally ISO 4217; null when not reported */
  carbon_social_cost_currency: string | null;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction */
  card_holder_reference_id: string;
  /** Issuer of the card (source: transaction.card_issuer); null when not reported */
  card_issuer: string | null;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
  /** When this row last changed in this database; not a time of the transaction */
  updated_at: Date;
}

/** The event log: each event once, in the order in which it was applied; the change feed and the history. Follow it with WHERE position > :last ORDER BY position; wait with LISTEN ems_events. Entries of type receiver.changed announce a change of the tables that no event of OpenCard announces. */
export interface Event {
  /** Number of the event in commit order: an event that is committed later has a higher position. Some numbers are not used; none is used twice. Its high bits are the feed's epoch (position >> 40), see feed_horizon */
  position: bigint;
  /** Name of the event in OpenCard's catalogue, for example card.transaction.cleared; or receiver.changed */
  type: string;
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** The EMS's own id of the card holder; null for organization events */
  card_holder_reference_id: string | null;
  /** OpenCard's id of the transaction; null for events without a transaction */
  transaction_id: string | null;
  /** Time of OpenCard's first attempt to deliver the event; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself; not in the order of position */
  occurred_at: Date;
  /** When it was applied */
  recorded_at: Date;
  /** push: delivered to this service; log: recovered from OpenCard's delivery log; receiver: a receiver.changed */
  source: string;
  /** Delivery that contained it, or that a receiver.changed is about (receiver.deliveries.id) */
  delivery_id: bigint;
  /** The event's whole payload, unknown fields included; amounts in major units, digits as sent. Of a receiver.changed: the reason, and the tables whose rows may have changed */
  payload: JsonObject;
  /** What the event is about: the id of its transaction, card holder, TPA or invoice */
  subject_id: string;
  /** SHA-256 of type and payload by value, equal for equal events; null for receiver.changed */
  fingerprint: Buffer | null;
  /** When an operator retracted the event as forged: the tables are computed without it; null unless it is retracted */
  retracted_at: Date | null;
}

/** The highest position of the change feed that was deleted, and its epoch, in one row; no row until events are deleted or an epoch begins. A reader whose position is less than deleted_through may have missed events, and one whose position is less than epoch_start may have read events that a restore or a failover lost. What readers do then depends on how they use the feed: docs/ems/feed.md. */
export interface FeedHorizon {
  /** Always 1 */
  id: number;
  /** Highest position in ems.events that was deleted, 0 if none; no event after it was deleted */
  deleted_through: bigint;
  /** When events were last deleted; if none were, when the first epoch began */
  deleted_at: Date;
  /** The feed's current epoch, the high bits of new positions (position >> 40). It grows when PostgreSQL is restored or fails over */
  epoch: number;
  /** Position at which the current epoch began: its positions are higher, those of earlier epochs are not. 0 in epoch 0 */
  epoch_start: bigint;
}

/** Invoices of the card issuer (OpenCard has announced their event and does not send it yet). */
export interface Invoice {
  /** The EMS's own id of the organization (source: the webhook that brought it) */
  organization_reference_id: string;
  /** OpenCard's id of the invoice */
  id: string;
  /** Company registration number; null when not reported */
  organization_number: string | null;
  /** Number of the invoice; whether it is unique across issuers is not documented; null when not reported */
  invoice_number: string | null;
  /** How many transactions it bills; null when not reported */
  no_of_transactions: bigint | null;
  /** Amount of the invoice, in major units of invoice_currency; whether it includes fees and payments, and the sign of a credit note, are not documented by OpenCard; null when not reported */
  invoice_amount: string | null;
  /** Currency of the invoice, as sent, normally ISO 4217; null when not reported */
  invoice_currency: string | null;
  /** Date of the invoice, a day without a zone; null when not reported */
  invoice_date: string | null;
  /** Date by which it is to be paid, a day without a zone; null when not reported */
  due_date: string | null;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
  /** When this row last changed in this database; not a time of the transaction */
  updated_at: Date;
}

/** Every change of ems.ledger (day, amounts, currencies, VAT, card holder, state of the receipt), as a reversal of the previous line and a new line; a change of receipt or card holder is a pair with equal amounts. Lines are only added; none changes later, except that the reference of an erased card holder is replaced. The amounts of all lines up to a position add up to the ledger at that position, and the signs to its number of lines. Several events of a transaction that were applied together are one change. */
export interface LedgerJournal {
  /** Position in ems.events of the event that changed the line; of several applied together, the last */
  position: bigint;
  /** Number of the line at its position, from 1 */
  line: number;
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** booking: the first line of a transaction; reversal: cancels the previous line; correction: the new line instead of it, for example when a cleared amount turned negative */
  kind: string;
  /** -1 for a reversal, else 1; the sum is the number of lines in the ledger */
  sign: number;
  /** Columns of a correction that differ from the reversed line; null for bookings and reversals, and for a transaction that returns to the ledger */
  changed: string[] | null;
  /** The line's booked_on in the ledger, a day without a zone; a reversal has that of the line it reverses */
  booked_on: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** The line's original_amount in the ledger, in major units of original_currency, negated in a reversal; null when not reported */
  original_amount: string | null;
  /** Currency of the purchase, as sent, normally ISO 4217; null when not reported */
  original_currency: string | null;
  /** The line's accounting_amount in the ledger, in major units of accounting_currency, negated in a reversal; null when not reported */
  accounting_amount: string | null;
  /** Currency of accounting_amount, as sent, normally ISO 4217; null when not reported */
  accounting_currency: string | null;
  /** The line's vat_amount in the ledger, in major units of vat_currency, negated in a reversal; null when none was reported */
  vat_amount: string | null;
  /** Currency of vat_amount, as in the ledger (normally ISO 4217); null when no VAT or no currency was reported */
  vat_currency: string | null;
  /** merchant or network, as in the ledger; null when no VAT was reported */
  vat_source: string | null;
  /** none, reported or stored, as in the ledger */
  receipt_state: string;
  /** When the line was written */
  recorded_at: Date;
}

/** Items bought; a newer event replaces all items of a transaction. May arrive before the transaction. */
export interface LineItem {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction, the same through all its states (source: transaction.id) */
  transaction_id: string;
  /** Position in the merchant's list, from 1; the order as sent */
  line_number: number;
  /** What was bought; null when not reported */
  description: string | null;
  /** Price of one unit, in major units of currency; for weighed goods the price of the whole line, as total_amount; whether VAT is included, and the sign of discounts and refunds, are not documented by OpenCard; null when not reported */
  amount: string | null;
  /** Price of the line, in major units of currency; whether VAT is included, and the sign of discounts and refunds, are not documented by OpenCard; null when not reported */
  total_amount: string | null;
  /** How many, or how much: may be a fraction (0.195 of a weighed good); null when not reported */
  quantity: string | null;
  /** Currency of the amounts, as sent, normally ISO 4217; null when not reported */
  currency: string | null;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction */
  card_holder_reference_id: string;
  /** Issuer of the card (source: transaction.card_issuer); null when not reported */
  card_issuer: string | null;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
}

/** The organizations that have or had a webhook of this service. */
export interface Organization {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** When its first webhook was added */
  added_at: Date;
  /** Time from which OpenCard's delivery log covers the organization: added_at, or the time of the log's oldest entry if that is earlier (of a webhook that was registered elsewhere and adopted). What OpenCard sent before may be missing */
  log_begins_at: Date;
}

/** Digital receipts matched to transactions, and the stored file of each once downloaded. A transaction may have several: one with another url replaces none. A receipt may arrive before its transaction. */
export interface Receipt {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction, the same through all its states (source: transaction.id) */
  transaction_id: string;
  /** Address of the file at OpenCard; expires (source: url) */
  url: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction */
  card_holder_reference_id: string;
  /** Issuer of the card (source: transaction.card_issuer); null when not reported */
  card_issuer: string | null;
  /** Media type of the file; null when not reported */
  content_type: string | null;
  /** Expiry time of url (OpenCard sends no zone; read as UTC); null when not reported */
  expiration_time: Date | null;
  /** Merchant on the receipt; null when not reported */
  purchase_merchant: string | null;
  /** Amount on the receipt, in major units of original_currency; whether VAT is included, and the sign of a refund, are not documented by OpenCard; null when not reported */
  original_amount: string | null;
  /** Currency of original_amount, as sent, normally ISO 4217; null when not reported */
  original_currency: string | null;
  /** Day on the receipt, in the zone of the shop; null when not reported */
  purchase_date: string | null;
  /** Time of day on the receipt, in the zone of the shop; null when not reported */
  purchase_time: string | null;
  /** Time of OpenCard's first attempt to deliver the receipt's event; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself; the time of the download is downloaded_at */
  fetched_at: Date;
  /** Name of the stored file; null until downloaded */
  file_key: string | null;
  /** Size of the stored file in bytes; null until downloaded */
  file_size: bigint | null;
  /** SHA-256 of the stored file, hexadecimal; null until downloaded */
  file_sha256: string | null;
  /** When the file was stored; null until downloaded */
  downloaded_at: Date | null;
  /** Why the last attempt to download failed; null if none failed, and once the file is stored */
  download_error: string | null;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
  /** When this row last changed in this database; not a time of the transaction */
  updated_at: Date;
  /** SHA-256 of url (UTF-8), which may be longer than a key can be */
  url_sha256: Buffer;
}

/** Processing authorizations (TPAs) of organizations, once fully signed. */
export interface Tpa {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the TPA */
  id: string;
  /** Name of the organization on the TPA; null when not reported */
  name: string | null;
  /** Company registration number; null when not reported */
  organization_number: string | null;
  /** Address of the signed PDF at OpenCard; null when not reported */
  url: string | null;
  /** When first reported as signed */
  signed_at: Date;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
  /** When this row last changed in this database; not a time of the transaction */
  updated_at: Date;
  /** Name of the stored document; null until downloaded */
  file_key: string | null;
  /** Size of the stored document in bytes; null until downloaded */
  file_size: bigint | null;
  /** SHA-256 of the stored document, hexadecimal; null until downloaded */
  file_sha256: string | null;
  /** When the document was stored; null until downloaded */
  downloaded_at: Date | null;
  /** Why the last attempt to download failed; null if none failed, and once the file is stored */
  download_error: string | null;
}

/** Card transactions (purchases, refunds, fees, withdrawals), one row each, in their current state: the highest that was reported (authorized < deleted < cleared < invoiced). Of each state only the newest snapshot counts, by the time of OpenCard's first attempt to deliver it, of equal times the one received last; a field that is missing or null there comes from the state below it. A deleted transaction keeps its row. A column with the name of a field of OpenCard's card.transaction.* payload contains that field. */
export interface Transaction {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction, the same through all its states */
  id: string;
  /** Current state: authorized, deleted, cleared or invoiced */
  state: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** Whether a partner of OpenCard has a digital receipt (its older documentation says: may have one); null when no state reports it */
  receiptable: boolean | null;
  /** Issuer of the card; null when no state reports it */
  card_issuer: string | null;
  /** The issuer's reference of the highest state that has one; different in each state, not unique; null when no state reports it */
  card_issuer_reference: string | null;
  /** The issuer's number of the customer; null when no state reports it, or once the card holder is erased */
  card_issuer_customer_number: string | null;
  /** Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when no state reports it */
  type: string | null;
  /** Number of the issuer's invoice; whether it is unique across issuers is not documented; null until invoiced */
  invoice_number: string | null;
  /** Date of the issuer's invoice, a day without a zone; null until invoiced */
  invoice_date: string | null;
  /** Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; may change until cleared; null when no state reports it */
  original_amount: string | null;
  /** Currency of the purchase, as sent, normally ISO 4217; null when no state reports it */
  original_currency: string | null;
  /** VAT rate from the card network, as sent, often wrong; whether it is percent (25) or a fraction (0.25) is not documented; the ledger prefers the merchant's VAT; null when no state reports it */
  vat_rate: string | null;
  /** VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive for a refund; the ledger corrects the sign, and prefers the merchant's; null when no state reports it */
  vat_amount: string | null;
  /** Currency of vat_amount, as sent, normally ISO 4217; null when no state reports it */
  vat_currency: string | null;
  /** Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; as a rule final once cleared; null when no state reports it */
  accounting_amount: string | null;
  /** Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it */
  accounting_currency: string | null;
  /** Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; null when no state reports it */
  exchange_rate: string | null;
  /** Merchant as the card network names it; null when no state reports it */
  purchase_merchant: string | null;
  /** Merchant's normalized name; null when no state reports it */
  purchase_merchant_common: string | null;
  /** Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_date: string | null;
  /** Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_time: string | null;
  /** Time zone of purchase_date and purchase_time (IANA name as a rule); null when no state reports it */
  purchase_timezone: string | null;
  /** Country, as sent, normally ISO 3166 alpha-2; null when no state reports it */
  purchase_country: string | null;
  /** City; null when no state reports it */
  purchase_city: string | null;
  /** OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not documented; null when no state reports it, or once the card holder is erased */
  card_id: bigint | null;
  /** Product name of the card; null when no state reports it */
  card_product: string | null;
  /** private, corporate or corporate_with_private_invoice; null when no state reports it */
  card_type: string | null;
  /** Last four digits of the card number (personal), not unique; null when no state reports it, or once the card holder is erased */
  card_last_four: string | null;
  /** Merchant category code (ISO 18245); null when no state reports it */
  mcc_code: string | null;
  /** Name of the merchant category; null when no state reports it */
  mcc_text: string | null;
  /** Top level of the merchant category; null when no state reports it */
  mcc_top_level: string | null;
  /** Code of the merchant's line of business; null when no state reports it */
  branch_code: string | null;
  /** Name of the merchant's line of business; null when no state reports it */
  branch_text: string | null;
  /** OpenCard's spending category; null when no state reports it */
  category_text: string | null;
  /** Clearing reference of the issuer, kept in later states; compare it with the clearing reference in another source, such as the bank's own file; null until cleared, and when not reported */
  cleared_card_issuer_reference: string | null;
  /** When the newest cleared snapshot was reported, which cleared_card_issuer_reference is from; null until cleared */
  cleared_snapshot_at: Date | null;
  /** When first reported as authorized; null when never reported */
  authorized_at: Date | null;
  /** When first reported as cleared; null when never reported */
  cleared_at: Date | null;
  /** When first reported as invoiced; null when never reported */
  invoiced_at: Date | null;
  /** When first reported as deleted; kept if the transaction is cleared later; null when never reported */
  deleted_at: Date | null;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  snapshot_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
  /** When this row last changed in this database; not a time of the transaction */
  updated_at: Date;
  /** OpenCard's id of the payment product that the card belongs to (source: payment_product.id); null when not reported, or once the card holder is erased */
  payment_product_id: string | null;
  /** Name of the payment product (source: payment_product.name); null when no state reports it, or once the card holder is erased */
  payment_product_name: string | null;
  /** debit or credit, as sent; null when no state reports it, or once the card holder is erased */
  card_funding: string | null;
  /** Names of columns that are null because their field of the payload could not be read; the event's payload has the field as sent; null when every field could be read */
  unreadable: string[] | null;
  /** Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; null only while authorized or deleted */
  booked_on: string | null;
}

/** VAT by rate from the merchant's receipt; a newer event replaces all rows of a transaction. May arrive before the transaction. */
export interface VatRate {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction, the same through all its states (source: transaction.id) */
  transaction_id: string;
  /** Position in the merchant's list, from 1; the order as sent */
  line_number: number;
  /** VAT of this rate, in major units of currency (source: vat_rates[].vat_amount); sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported */
  vat_amount: string | null;
  /** Amount without VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported */
  taxable_amount: string | null;
  /** Amount with VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported */
  total_amount: string | null;
  /** The rate in percent (25 means 25 %); null when not reported */
  percentage: string | null;
  /** Currency of the amounts, as sent, normally ISO 4217; null when not reported */
  currency: string | null;
  /** Country of the purchase, as sent, normally ISO 3166 alpha-2; null when not reported */
  purchase_country: string | null;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction */
  card_holder_reference_id: string;
  /** Issuer of the card (source: transaction.card_issuer); null when not reported */
  card_issuer: string | null;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
}

/** Total VAT from the merchant's receipt, usually one row for each currency; a newer event replaces all rows of a transaction. May arrive before the transaction. */
export interface VatTotal {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction, the same through all its states (source: transaction.id) */
  transaction_id: string;
  /** Position in the merchant's list, from 1; the order as sent */
  line_number: number;
  /** VAT in total, in major units of currency (source: totals[].vat_amount); sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported */
  vat_amount: string | null;
  /** Amount without VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported */
  taxable_amount: string | null;
  /** Amount with VAT, in major units of currency; sign as sent, which may be positive for a refund (ledger and ledger_vat correct it); null when not reported */
  total_amount: string | null;
  /** Currency of the amounts, as sent, normally ISO 4217; null when not reported */
  currency: string | null;
  /** Country of the purchase, as sent, normally ISO 3166 alpha-2; null when not reported */
  purchase_country: string | null;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased, as in this event; ems.transactions has that of the transaction */
  card_holder_reference_id: string;
  /** Issuer of the card (source: transaction.card_issuer); null when not reported */
  card_issuer: string | null;
  /** Time of OpenCard's first attempt to deliver the event that these values come from; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that the current values come from (receiver.deliveries.id) */
  delivery_id: bigint;
}

/** Time up to which each organization is complete, one row each: everything that OpenCard sent from complete_from to complete_through, according to its delivery log, is applied to these tables. A month is covered if it begins at or after complete_from and ends at or before complete_through. Transactions of that time that OpenCard reports later are not included. */
export interface Completeness {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** Everything that OpenCard sent from complete_from up to this time is applied. Always before the first event that is missing or not applied yet, unless an operator acknowledged it; null until the delivery log of each webhook has been read from its beginning (again after a restore or a failover), and while the organization has no webhook */
  complete_through: Date | null;
  /** Number of events that are missing from the tables and that no operator has acknowledged: in the delivery log without a payload, or received and failed, dead, quarantined, or transaction events that were ignored. A failed one is still tried again; 0 if none */
  open_gaps: bigint;
  /** When the delivery log was last read; with several webhooks, the earliest of these times; null until then */
  checked_at: Date | null;
  /** Number of such events that an operator acknowledged or resolved, so that they no longer hold back complete_through; 0 if none */
  acknowledged_gaps: bigint;
  /** Time from which OpenCard's delivery log covers the organization (log_begins_at of ems.organizations): when its first webhook was added here, or the log's oldest entry if that is earlier. A month that began before cannot be shown to be complete */
  complete_from: Date;
}

/** Invoice reconciliation: the issuer's invoices compared with the ledger, number and amount of the transactions as the invoice reports them (invoice.created), and of the transactions in state invoiced with its invoice_number. An invoice names no issuer, so two invoices of an organization with one number count the same transactions. Empty until OpenCard sends invoice.created, which it has announced and does not send yet. */
export interface InvoiceControl {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the invoice (ems.invoices.id) */
  invoice_id: string;
  /** Number of the invoice; null when not reported, and then no transaction is found for it */
  invoice_number: string | null;
  /** Date of the invoice, a day without a zone; null when not reported */
  invoice_date: string | null;
  /** Number of transactions on the invoice, as reported; null when not reported */
  no_of_transactions: bigint | null;
  /** Number of transactions in state invoiced with this invoice_number; 0 if none */
  booked_transactions: bigint;
  /** Amount of the invoice, in major units of invoice_currency; fees, payments and the sign of a credit note are not documented by OpenCard; null when not reported */
  invoice_amount: string | null;
  /** Currency of the invoice, as sent, normally ISO 4217; null when not reported */
  invoice_currency: string | null;
  /** Net sum of their accounting_amount in invoice_currency, in major units; 0 if none */
  booked_amount: string;
  /** Number of them with another accounting_currency, or with none */
  transactions_in_other_currencies: bigint;
  /** invoice_amount minus booked_amount, in major units of invoice_currency: positive if more was billed than is in the ledger; null when no invoice_amount was reported */
  difference: string | null;
  /** Whether number and amount are equal, and every transaction is in invoice_currency */
  agrees: boolean;
}

/** Each change of a month after it was closed, from the journal: the line before and after the change. A line that moves from one closed month to another is listed in both. */
export interface LateChange {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** First day of the closed month, without a zone (ems.closings.month) */
  month: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** Position in ems.events of the event that changed the line; higher than that of the closing */
  position: bigint;
  /** When the change was written to the journal */
  changed_at: Date;
  /** added: a line is new in the month; removed: a line left it; changed: a line in it changed. A line that moved is removed in the month of booked_on_before, and added in that of booked_on_after */
  kind: string;
  /** Columns that differ; null for a line that is new in the ledger or left it */
  changed: string[] | null;
  /** booked_on before the change, without a zone; null if there was no line */
  booked_on_before: string | null;
  /** booked_on after the change, without a zone; null if there is no line */
  booked_on_after: string | null;
  /** The EMS's own id of the card holder before the change; null if there was no line */
  card_holder_reference_id_before: string | null;
  /** The EMS's own id of the card holder after the change; null if there is no line */
  card_holder_reference_id_after: string | null;
  /** Amount in the currency of the purchase, in major units, sign as sent, before the change; null when not reported, and if there was no line */
  original_amount_before: string | null;
  /** Amount in the currency of the purchase, in major units, sign as sent, after the change; null when not reported, and if there is no line */
  original_amount_after: string | null;
  /** Currency of original_amount_before, as sent, normally ISO 4217; null when not reported, and if there was no line */
  original_currency_before: string | null;
  /** Currency of original_amount_after, as sent, normally ISO 4217; null when not reported, and if there is no line */
  original_currency_after: string | null;
  /** Amount in accounting_currency_before, in major units, sign as sent, before the change; null when not reported, and if there was no line */
  accounting_amount_before: string | null;
  /** Amount in accounting_currency_after, in major units, sign as sent, after the change; null when not reported, and if there is no line */
  accounting_amount_after: string | null;
  /** Currency of accounting_amount_before, as sent, normally ISO 4217; null when not reported, and if there was no line */
  accounting_currency_before: string | null;
  /** Currency of accounting_amount_after, as sent, normally ISO 4217; null when not reported, and if there is no line */
  accounting_currency_after: string | null;
  /** VAT in the ledger, in major units of vat_currency_before, before the change; null when none was reported, and if there was no line */
  vat_amount_before: string | null;
  /** VAT in the ledger, in major units of vat_currency_after, after the change; null when none was reported, and if there is no line */
  vat_amount_after: string | null;
  /** Currency of vat_amount_before, as sent, normally ISO 4217; null when no VAT or no currency was reported, and if there was no line */
  vat_currency_before: string | null;
  /** Currency of vat_amount_after, as sent, normally ISO 4217; null when no VAT or no currency was reported, and if there is no line */
  vat_currency_after: string | null;
  /** none, reported or stored, before the change; null if there was no line */
  receipt_state_before: string | null;
  /** none, reported or stored, after the change; null if there is no line */
  receipt_state_after: string | null;
}

/** Transactions to post: cleared and invoiced, one row each, with the amounts of the highest state (invoiced before cleared); a clearing reported after the invoice does not change them. What the highest state does not report comes from the state below it, as in ems.transactions. A later clearing under the same id replaces the earlier one: amounts are not added. Changes of day, amounts, currencies, VAT, card holder and receipt_state are in ledger_journal; those of other columns (state, invoice, merchant) are not. VAT is the merchant's if a receipt has it, else the card network's (see vat_source); ledger_vat has it by rate. Select a month by booked_on. */
export interface Ledger {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** cleared or invoiced */
  state: string;
  /** Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_date: string | null;
  /** Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_time: string | null;
  /** Time zone of purchase_date and purchase_time; null when no state reports it */
  purchase_timezone: string | null;
  /** Merchant's normalized name, else the card network's; null when no state reports one */
  merchant: string | null;
  /** Country, as sent, normally ISO 3166 alpha-2; null when no state reports it */
  purchase_country: string | null;
  /** City; null when no state reports it */
  purchase_city: string | null;
  /** Merchant category code (ISO 18245); null when no state reports it */
  mcc_code: string | null;
  /** OpenCard's spending category; null when no state reports it */
  category_text: string | null;
  /** Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it */
  accounting_amount: string | null;
  /** Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it */
  accounting_currency: string | null;
  /** Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it */
  original_amount: string | null;
  /** Currency of the purchase, as sent, normally ISO 4217; null when no state reports it */
  original_currency: string | null;
  /** Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; from the highest state that reports it; null when no state reports it */
  exchange_rate: string | null;
  /** VAT in major units of vat_currency, from vat_source; for a credit (original_amount negative, or accounting_amount if there is none) never positive, whatever sign was sent; null when none was reported */
  vat_amount: string | null;
  /** Currency of vat_amount, as sent, normally ISO 4217. If the VAT is in several currencies: that of the purchase, else accounting_currency. If the VAT has no currency: that of the purchase; null when no VAT was reported, or neither has a currency */
  vat_currency: string | null;
  /** merchant: from the receipt; network: from the card network, often wrong; null when no VAT was reported */
  vat_source: string | null;
  /** Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the newest; null without a receipt */
  receipt_url: string | null;
  /** Name of the stored file of this receipt; null until downloaded */
  receipt_file_key: string | null;
  /** How many lines ems.line_items has for the transaction; 0 without any */
  number_of_items: bigint;
  /** Issuer of the card; null when no state reports it */
  card_issuer: string | null;
  /** Clearing reference of the issuer; compare it with the clearing reference in another source, such as the bank's own file; not unique; null when the cleared state has none, and when the transaction was only reported as invoiced */
  cleared_card_issuer_reference: string | null;
  /** Number of the issuer's invoice; whether it is unique across issuers is not documented; null until invoiced */
  invoice_number: string | null;
  /** Date of the issuer's invoice, a day without a zone; null until invoiced */
  invoice_date: string | null;
  /** OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not documented; null when no state reports it, or once the card holder is erased */
  card_id: bigint | null;
  /** private, corporate or corporate_with_private_invoice; null when no state reports it */
  card_type: string | null;
  /** When first reported as cleared; null when only reported as invoiced */
  cleared_at: Date | null;
  /** When first reported as invoiced; null until invoiced */
  invoiced_at: Date | null;
  /** When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not change it */
  updated_at: Date;
  /** VAT rate from the card network, as sent, often wrong; whether percent (25) or a fraction (0.25) is not documented; null when no state reports it */
  network_vat_rate: string | null;
  /** VAT from the card network, in major units of network_vat_currency, often wrong; sign as sent, which may be positive for a refund (vat_amount corrects it); null when no state reports it */
  network_vat_amount: string | null;
  /** Currency of network_vat_amount, as sent, normally ISO 4217; null when no state reports it */
  network_vat_currency: string | null;
  /** Media type of this receipt's file; null when not reported, and without a receipt */
  receipt_content_type: string | null;
  /** How many receipts ems.receipts has for the transaction; 0 without any */
  number_of_receipts: bigint;
  /** Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when no state reports it */
  type: string | null;
  /** Name of the merchant category; null when no state reports it */
  mcc_text: string | null;
  /** Product name of the card; null when no state reports it */
  card_product: string | null;
  /** Last four digits of the card number (personal), not unique; null when no state reports it, or once the card holder is erased */
  card_last_four: string | null;
  /** The issuer's number of the customer; null when no state reports it, or once the card holder is erased */
  card_issuer_customer_number: string | null;
  /** When first reported as authorized; null when never reported as authorized */
  authorized_at: Date | null;
  /** When first reported as deleted, although the transaction was cleared or invoiced; null when never reported */
  deleted_at: Date | null;
  /** OpenCard's id of the payment product that the card belongs to; null when no state reports it, or once the card holder is erased */
  payment_product_id: string | null;
  /** Name of the payment product; null when no state reports it, or once the card holder is erased */
  payment_product_name: string | null;
  /** debit or credit, as sent; null when no state reports it, or once the card holder is erased */
  card_funding: string | null;
  /** Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null */
  booked_on: string;
  /** none: no receipt was reported; reported: a receipt was reported, and no file is stored; stored: a file is stored */
  receipt_state: string;
}

/** The VAT of the ledger by rate: one row for each transaction and rate, in the ledger's currency and from the ledger's source. The rows of a transaction add up to its vat_amount in the ledger: if a receipt's rates do not add up to its total, the difference is in the row whose percentage is null. A transaction without VAT has no row. For a credit (original_amount negative, or accounting_amount if there is none) amounts that the receipt has as positive are negated. VAT of a receipt in other currencies is in vat_rates and vat_totals. */
export interface LedgerVat {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** merchant: from the receipt; network: from the card network, often wrong */
  vat_source: string;
  /** The merchant's rate in percent (25 means 25 %), or the card network's rate as sent (percent or fraction: not documented by OpenCard); null in a row without a rate: a total without rates, or the difference between total and rates */
  percentage: string | null;
  /** VAT of this rate, in major units of vat_currency; for a credit the rows of a transaction add up to 0 or less */
  vat_amount: string;
  /** Amount without VAT (tax base), in major units of vat_currency; negated with vat_amount for a credit; null when not reported, and from the network */
  taxable_amount: string | null;
  /** Amount with VAT, in major units of vat_currency; negated with vat_amount for a credit; null when not reported, and from the network */
  total_amount: string | null;
  /** Currency of the amounts (normally ISO 4217), as in the ledger; null when no currency was reported, neither of the VAT nor of the purchase */
  vat_currency: string | null;
  /** Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_date: string | null;
  /** Country (normally ISO 3166 alpha-2) from the receipt, else from the card network; null when neither was reported */
  purchase_country: string | null;
  /** cleared or invoiced */
  state: string;
  /** When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not change it */
  updated_at: Date;
  /** Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null */
  booked_on: string;
}

/** Transactions in the ledger whose digital receipt OpenCard announced (receiptable) and has not sent, one row each, credits, fees and withdrawals included. Those that are not receiptable need a receipt as well, and are not here: all without a receipt are those with number_of_receipts = 0 in ems.ledger. Some receipts arrive days after the clearing, so filter by age. If the organization's billing profile at OpenCard does not include receipts, every receiptable transaction is listed. */
export interface MissingReceipt {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** cleared or invoiced */
  state: string;
  /** Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_date: string | null;
  /** Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_time: string | null;
  /** Time zone of purchase_date and purchase_time; null when no state reports it */
  purchase_timezone: string | null;
  /** Merchant's normalized name, else the card network's; null when no state reports one */
  merchant: string | null;
  /** Amount in accounting_currency, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it */
  accounting_amount: string | null;
  /** Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it */
  accounting_currency: string | null;
  /** Amount in the currency of the purchase, in major units, VAT included; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; from the highest state that reports it, so possibly from the authorization; null when no state reports it */
  original_amount: string | null;
  /** Currency of the purchase, as sent, normally ISO 4217; null when no state reports it */
  original_currency: string | null;
  /** Issuer of the card; null when no state reports it */
  card_issuer: string | null;
  /** When first reported as cleared; null when only reported as invoiced */
  cleared_at: Date | null;
  /** When first reported as invoiced; null until invoiced */
  invoiced_at: Date | null;
  /** Time since cleared_at, else invoiced_at, until the start of your database transaction */
  age: string;
  /** age in whole days of 24 hours */
  days_missing: number;
  /** When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not change it */
  updated_at: Date;
}

/** Transactions that are authorized and neither cleared nor deleted, for previews: amounts may still change. Clearing usually takes 3 to 5 days; a transaction that is open much longer may never be cleared. */
export interface PendingTransaction {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_date: string | null;
  /** Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it */
  purchase_time: string | null;
  /** Time zone of purchase_date and purchase_time; null when no state reports it */
  purchase_timezone: string | null;
  /** Merchant's normalized name, else the card network's; null when no state reports one */
  merchant: string | null;
  /** Country, as sent, normally ISO 3166 alpha-2; null when no state reports it */
  purchase_country: string | null;
  /** City; null when no state reports it */
  purchase_city: string | null;
  /** Merchant category code (ISO 18245); null when no state reports it */
  mcc_code: string | null;
  /** OpenCard's spending category; null when no state reports it */
  category_text: string | null;
  /** Amount in accounting_currency, in major units; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; not final; null when not reported */
  accounting_amount: string | null;
  /** Currency of accounting_amount: the customer's home currency, as sent, normally ISO 4217; an organization may have several; null when no state reports it */
  accounting_currency: string | null;
  /** Amount in the currency of the purchase, in major units; sign as sent (not documented by OpenCard); negative is read as a credit: a refund, chargeback or discount; not final; null when not reported */
  original_amount: string | null;
  /** Currency of the purchase, as sent, normally ISO 4217; null when no state reports it */
  original_currency: string | null;
  /** Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; not final; null when not reported */
  exchange_rate: string | null;
  /** Issuer of the card; null when no state reports it */
  card_issuer: string | null;
  /** OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not documented; null when no state reports it, or once the card holder is erased */
  card_id: bigint | null;
  /** Last four digits of the card number (personal), not unique; null when no state reports it, or once the card holder is erased */
  card_last_four: string | null;
  /** Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the newest; null without a receipt */
  receipt_url: string | null;
  /** Name of the stored file of this receipt; null until downloaded */
  receipt_file_key: string | null;
  /** When first reported as authorized */
  authorized_at: Date;
  /** Time since authorized_at until the start of your database transaction */
  age: string;
  /** age in whole days of 24 hours */
  days_open: number;
  /** When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not change it */
  updated_at: Date;
  /** OpenCard's id of the payment product that the card belongs to; null when no state reports it, or once the card holder is erased */
  payment_product_id: string | null;
  /** Name of the payment product; null when no state reports it, or once the card holder is erased */
  payment_product_name: string | null;
  /** debit or credit, as sent; null when no state reports it, or once the card holder is erased */
  card_funding: string | null;
}

/** Transactions in the ledger that may be one transaction, reported twice: two transaction ids of one organization with the same issuer, the same clearing reference of the issuer, the same original amount and currency, and the same day. Each pair is listed twice, once from each side; transaction_id < other_transaction_id selects it once. Check each by hand: the reference is not unique, and a transaction without one is never listed. */
export interface PossibleDuplicate {
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** OpenCard's id of the transaction that looks the same (ems.transactions.id) */
  other_transaction_id: string;
  /** Issuer of both cards */
  card_issuer: string;
  /** Clearing reference of the issuer of both */
  cleared_card_issuer_reference: string;
  /** Day of both, each in the zone of its own purchase_timezone */
  purchase_date: string;
  /** Amount of both in the currency of the purchase, in major units, sign as sent */
  original_amount: string;
  /** Currency of both, as sent, normally ISO 4217 */
  original_currency: string;
  /** Merchant's normalized name, else the card network's; null when no state reports one */
  merchant: string | null;
  /** Merchant's normalized name, else the card network's, of the other transaction; null when no state reports one */
  other_merchant: string | null;
  /** The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card holder is erased */
  card_holder_reference_id: string;
  /** The EMS's own id of the other transaction's card holder */
  other_card_holder_reference_id: string;
  /** When first reported as cleared */
  cleared_at: Date;
  /** When the other was first reported as cleared */
  other_cleared_at: Date;
}

/** Each snapshot of a transaction in ems.events, including those that arrived late and changed nothing; retries and retracted snapshots are left out. */
export interface TransactionState {
  /** Position of the snapshot in ems.events (ems.events.position; the name id is fixed) */
  id: bigint;
  /** The EMS's own id of the organization (source: organization.reference_id) */
  organization_reference_id: string;
  /** OpenCard's id of the transaction (ems.transactions.id) */
  transaction_id: string;
  /** authorized, deleted, cleared or invoiced: what this snapshot reports */
  state: string;
  /** The issuer's reference of this state; null when not reported */
  card_issuer_reference: string | null;
  /** Amount in the currency of the purchase, in major units; sign as sent (not documented by OpenCard); null when not reported */
  original_amount: string | null;
  /** Currency of the purchase, as sent, normally ISO 4217; null when not reported */
  original_currency: string | null;
  /** Amount in accounting_currency, in major units; sign as sent (not documented by OpenCard); null when not reported */
  accounting_amount: string | null;
  /** Currency of accounting_amount, as sent, normally ISO 4217; null when not reported */
  accounting_currency: string | null;
  /** VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive for a refund; null when not reported */
  vat_amount: string | null;
  /** Currency of vat_amount, as sent, normally ISO 4217; null when not reported */
  vat_currency: string | null;
  /** The whole snapshot, unknown fields included */
  payload: JsonObject;
  /** Time of OpenCard's first attempt to deliver the event; the time of its arrival if the delivery log shows no earlier attempt. OpenCard sends no time of the event itself */
  occurred_at: Date;
  /** Delivery that contained the snapshot (receiver.deliveries.id) */
  delivery_id: bigint;
}

/** Each table and view by its name. */
export interface Tables {
  card_holders: CardHolder;
  closings: Closing;
  consumers: Consumer;
  environmental_impacts: EnvironmentalImpact;
  events: Event;
  feed_horizon: FeedHorizon;
  invoices: Invoice;
  ledger_journal: LedgerJournal;
  line_items: LineItem;
  organizations: Organization;
  receipts: Receipt;
  tpas: Tpa;
  transactions: Transaction;
  vat_rates: VatRate;
  vat_totals: VatTotal;
  completeness: Completeness;
  invoice_control: InvoiceControl;
  late_changes: LateChange;
  ledger: Ledger;
  ledger_vat: LedgerVat;
  missing_receipts: MissingReceipt;
  pending_transactions: PendingTransaction;
  possible_duplicates: PossibleDuplicate;
  transaction_states: TransactionState;
}
