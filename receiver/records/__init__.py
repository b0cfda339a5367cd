"""Records: the normalized tables, the ledger and the change feed that the EMS reads (schema ``ems``)."""
