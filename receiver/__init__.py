"""Receives OpenCard's webhook deliveries, authenticates and stores them, and turns them into tables that an EMS reads.

How a purchase gets into the ledger: OpenCard POSTs ``card.transaction.cleared``. ``deliveries`` authenticates the
request, stores its bytes and answers 200. A worker (``processing``) claims it in a batch, parses it (``events``) and
finds whether the event log ``ems.events`` has the event already. From the snapshots of a purchase (its
``card.transaction.*`` events) ``records`` folds its row in ``ems.transactions``, and writes the new event and the row
in one transaction. The view ``ems.ledger`` shows the purchase once it is cleared or invoiced, with VAT and receipt from
the tables of other kinds. Read in this order:

``receiver.gunicorn_worker``       the web server's worker: a slow client cannot block it
``receiver.deliveries.endpoint``   the HTTP route
``receiver.deliveries.receive``    arrive → authenticate → store → wake a worker → answer 200
``receiver.deliveries.committer``  stores waiting deliveries in one statement, and answers them after its commit
``receiver.queue``                 wakes a worker; Redis carries no data
``receiver.processing.job``        what RQ runs: drain, then wait for the next wake-up
``receiver.processing.drain``      claims batch after batch, and calls ``batch.apply``, until nothing is due
``receiver.processing.claim``      leases: no two workers process a delivery at once
``receiver.processing.batch``      the steps of a batch: parse → find the new events → fold → write
``receiver.events``                parses events, and finds which deliveries are the same event: pure
``receiver.processing.decide``     which deliveries of a subject are new events, which are retries: pure
``receiver.records.folds``         computes the rows of a purchase, card holder, … from its events: pure
``receiver.records.write``         commits a ``LogChange``: new events, folded rows, outcomes, in one transaction
``receiver/records/sql/append.sql``  its main statement; reads the change from settings (``receiver.events``, …)
``receiver.records.views.ledger``  the view ``ems.ledger``

Outside this path:

``receiver.opencard``              the provider's API: tokens with only the needed scopes, routes, errors
``receiver.webhooks``              the registrations at OpenCard that this service manages, and their secrets
``receiver.bootstrap``             compares desired and registered webhooks: match, plan, apply
``receiver.connections``           opens every connection to PostgreSQL, with the session's settings and time limits
``receiver.locks``                 every advisory lock, with its key
``receiver.partitions``            creates the next partitions of the tables that only grow
``receiver.verify``                derives each stage again from the one before it: ``verify`` and ``rebuild``
``receiver.erasure``               replaces an erased card holder's reference by a pseudonym
``receiver.readers``               the roles that may read schema ``ems``, and the dictionary of its columns
``receiver.reconcile``             compares the delivery log with the stored deliveries: recover, confirm, report
``receiver.files``                 downloads receipts before their URLs expire
``receiver.exports``               exports tables of ``ems`` as CSV, JSON lines or Parquet
``receiver.ops``                   what operators see and do: status, replay, console, metrics, retention
``receiver.counters``              counts in each process; ``receiver.counter_store`` adds the counts up in PostgreSQL
``receiver.sandbox``               a local OpenCard, its API included, for development, the demo and the tests
``receiver.testing``               a pytest plugin for the tests of a program that reads schema ``ems``
"""
