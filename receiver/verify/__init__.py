"""Each layer derived from the one above it again, while the service runs: ``verify`` and ``rebuild``.

- ``run``         the two, of all organizations or of some
- ``events``      events of the log from the deliveries that still have their bodies
- ``rows``        rows from the events of their subject
- ``journal``     the ledger's journal, which is to add up to the ledger
- ``difference``  what is found
"""
