"""Receives OpenCard's webhook deliveries, proves them, keeps them, and turns them into tables an EMS can read.

The journey of a delivery, in the order in which it reads:

``receiver.gunicorn_worker``       the web process' threads, which no slow client can hold
``receiver.deliveries.endpoint``   the HTTP route
``receiver.deliveries.receive``    arrive → verify → store → answer 200 → wake a worker
``receiver.deliveries.committer``  deliveries are stored in one statement, and answered when that is committed
``receiver.queue``                 the coalesced wake-up; Redis carries no data
``receiver.processing.batch``      the journey of a batch: claim → parse → find out what is new → fold → commit
``receiver.events``                what a delivery says, and which deliveries are one event: pure
``receiver.records.folds``         what is true now, from what happened: one pure function for each kind of subject
``receiver.records.write``         the commit: the event log and the rows of schema ``ems``, in one transaction

Beside the road:

``receiver.opencard``              the provider's API: tokens with just the scopes needed, routes, errors
``receiver.bootstrap``             the webhooks that are wanted against those that are registered: match, plan, apply
``receiver.connections``           how every connection to PostgreSQL is opened: its session's settings and bounds
``receiver.locks``                 every advisory lock, with its key
``receiver.partitions``            the next partitions of what only grows, made ahead
``receiver.verify``                each layer derived from the one above it again: ``verify`` and ``rebuild``
``receiver.erasure``               card holders who are erased
``receiver.reconcile``             the provider's delivery log against the stored deliveries: recover, confirm, flag
``receiver.files``                 receipts downloaded before their URLs expire, and kept
``receiver.exports``               tables of ``ems`` as CSV, JSON lines or Parquet
``receiver.ops``                   what operators look at and do
``receiver.counters``              what each process counts; ``receiver.counter_store`` adds it up in PostgreSQL
``receiver.sandbox``               a local OpenCard, its API included, for development, the demo and the tests
"""
