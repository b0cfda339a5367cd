"""Records: the normalized tables, the ledger and the change feed that the EMS reads (schema ``ems``).

- ``models``        the tables
- ``views``         the views over them: the ledger, its VAT by rate, what is pending, possible duplicates
- ``folds``         the current rows of one subject, from its events: pure
- ``history``       reads the events of subjects, and the deliveries of each
- ``tables``        how the rows of each table are written
- ``write``         appends events and writes rows and outcomes, in one transaction
- ``locked``        runs that transaction under the feed's lock
- ``journal``       the ledger's journal
- ``rewrite``       replaces events of the event log, for erasure and ``rebuild``
- ``epochs``        the feed's epochs, and what identifies PostgreSQL's history
"""
