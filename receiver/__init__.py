"""Receives OpenCard's webhook deliveries, proves them, keeps them, and turns them into tables an EMS can read.

The journey of a delivery, in the order in which it reads:

``receiver.gunicorn_worker``       the web process' threads, which no slow client can hold
``receiver.deliveries.endpoint``   the HTTP route
``receiver.deliveries.receive``    arrive → verify → store → answer 200 → wake a worker
``receiver.deliveries.committer``  what waits is stored in one statement, and answered when that is committed
``receiver.queue``                 the coalesced wake-up; Redis carries no data
``receiver.processing.drain``        the RQ job: claim a batch, apply it, commit effect and outcome together
``receiver.events.apply``          the road of a batch: understand → tell retries apart → settle → apply → feed
``receiver.events.handlers``       one module for each kind of resource, one function for each event
``receiver.records``               the normalized tables, the ledger and the change feed: schema ``ems``

Beside the road:

``receiver.opencard``              the provider's API: tokens with just the scopes needed, routes, errors
``receiver.bootstrap``             the webhooks that are wanted against those that are registered: match, plan, apply
``receiver.connections``           how every connection to PostgreSQL is opened: its session's settings and bounds
``receiver.locks``                 every advisory lock, with its key
``receiver.partitions``            the next partitions of what only grows, made ahead
``receiver.reconcile``             the provider's delivery log against the stored deliveries: recover, confirm, flag
``receiver.files``                 receipts downloaded before their URLs expire, and kept
``receiver.exports``               tables of ``ems`` as CSV, JSON lines or Parquet
``receiver.ops``                   what operators look at and do
``receiver.counters``              what each process counts; ``receiver.counter_store`` adds it up in PostgreSQL
``receiver.sandbox``               a local OpenCard, its API included, for development, the demo and the tests
"""
