"""Derives events from deliveries and rows from events again, while the service runs: ``verify`` and ``rebuild``.

- ``run``         both commands, for all organizations or some
- ``events``      events of the event log from the deliveries that still have their bodies
- ``rows``        rows from the events of their subject
- ``journal``     the ledger's journal, whose lines must add up to the ledger
- ``difference``  a difference, and the change that removes it
"""
