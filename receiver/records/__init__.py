"""Records: the normalized tables, the ledger and the change feed that the EMS reads (schema ``ems``).

- ``models``        the tables
- ``views``         the views over them: the ledger, its VAT by rate, what is pending, possible duplicates
- ``transactions``  which state of a transaction wins
- ``upsert``        many rows in one statement
- ``feed``          appending to the change feed without holes
- ``readers``       roles that may read, and nothing else
- ``standing``      whether a role can become a reader: pure
- ``tenants``       row-level security: which organizations a restricted reader sees
- ``dictionary``    what every column means, as a page; ``examples`` what may stand in each
- ``promises``      the columns of the last release are still there
"""
