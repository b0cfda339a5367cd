"""Receives OpenCard's webhook deliveries, verifies and stores them, and turns them into tables that an EMS reads.

How a purchase gets into the ledger: OpenCard POSTs ``card.transaction.cleared``. ``deliveries`` verifies the request,
stores its bytes and answers 200. A worker (``processing``) claims it with others, parses it (``events``) and appends
the event to the log ``ems.events``, unless it is there already. From all events of a purchase ``records`` computes its
row in ``ems.transactions``, which the view ``ems.ledger`` shows once it is cleared. Read in this order:

``receiver.gunicorn_worker``       the web process' threads, which no slow client can hold
``receiver.deliveries.endpoint``   the HTTP route
``receiver.deliveries.receive``    arrive → verify → store → answer 200 → wake a worker
``receiver.deliveries.committer``  deliveries are stored in one statement, and answered when that is committed
``receiver.queue``                 wakes a worker; Redis carries no data
``receiver.processing.batch``      the journey of a batch: claim → parse → find out what is new → fold → commit
``receiver.events``                the event in a delivery, and which deliveries are one event: pure
``receiver.records.folds``         the current rows of a purchase, card holder, …, from its events: pure
``receiver.records.write``         the commit: the event log and the rows of schema ``ems``, in one transaction

Outside this path:

``receiver.opencard``              the provider's API: tokens with just the scopes needed, routes, errors
``receiver.webhooks``              the registrations at OpenCard that this service manages, and their secrets
``receiver.bootstrap``             desired webhooks against registered ones: match, plan, apply
``receiver.connections``           how every connection to PostgreSQL is opened: its session's settings and bounds
``receiver.locks``                 every advisory lock, with its key
``receiver.partitions``            the next partitions of what only grows, made ahead
``receiver.verify``                each layer derived from the one above it again: ``verify`` and ``rebuild``
``receiver.erasure``               replaces an erased card holder's reference by a pseudonym
``receiver.readers``               the roles that may read schema ``ems``, and the dictionary of its columns
``receiver.reconcile``             the provider's delivery log against the stored deliveries: recover, confirm, flag
``receiver.files``                 receipts downloaded before their URLs expire, and kept
``receiver.exports``               tables of ``ems`` as CSV, JSON lines or Parquet
``receiver.ops``                   what operators look at and do
``receiver.counters``              what each process counts; ``receiver.counter_store`` adds it up in PostgreSQL
``receiver.sandbox``               a local OpenCard, its API included, for development, the demo and the tests
"""
