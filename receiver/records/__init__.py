"""Records: the normalized tables, the ledger and the change feed that the EMS reads (schema ``ems``).

- ``models``        the tables
- ``views``         the views over them: the ledger, its VAT by rate, what is pending, possible duplicates
- ``folds``         the current rows of one subject, from its events: pure
- ``history``       reads the events of subjects, with those that repeat them
- ``write``         the one statement that appends events, writes rows and notes outcomes
- ``epochs``        the feed's epochs, and what identifies PostgreSQL's history
"""
