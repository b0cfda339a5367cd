"""Receives OpenCard's webhook deliveries, verifies and stores them, and turns them into tables that an EMS reads.

How a purchase gets into the ledger: OpenCard POSTs ``card.transaction.cleared``. ``deliveries`` verifies the request,
stores its bytes and answers 200. A worker (``processing``) claims it in a batch, parses it (``events``) and appends
the event to the log ``ems.events``, unless it is there already. From the snapshots of a purchase (its
``card.transaction.*`` events) ``records`` computes its row in ``ems.transactions``. The view ``ems.ledger`` shows it
once it is cleared or invoiced, with VAT and receipt from the tables of other kinds. Read in this order:

``receiver.gunicorn_worker``       the web server's worker: a slow client cannot block it
``receiver.deliveries.endpoint``   the HTTP route
``receiver.deliveries.receive``    arrive → verify → store → wake a worker → answer 200
``receiver.deliveries.committer``  stores waiting deliveries in one statement, and answers them after its commit
``receiver.queue``                 wakes a worker; Redis carries no data
``receiver.processing.batch``      the steps of a batch: parse → find the new events → fold → commit
``receiver.events``                parses events, and finds which deliveries are the same event: pure
``receiver.records.folds``         computes the rows of a purchase, card holder, … from its events: pure
``receiver.records.write``         writes the event log and the rows of schema ``ems``, in one transaction

Outside this path:

``receiver.opencard``              the provider's API: tokens with only the needed scopes, routes, errors
``receiver.webhooks``              the registrations at OpenCard that this service manages, and their secrets
``receiver.bootstrap``             compares desired and registered webhooks: match, plan, apply
``receiver.connections``           opens every connection to PostgreSQL, with the session's settings and time limits
``receiver.locks``                 every advisory lock, with its key
``receiver.partitions``            creates the next partitions of the tables that only grow
``receiver.verify``                derives each layer again from the one before it: ``verify`` and ``rebuild``
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
