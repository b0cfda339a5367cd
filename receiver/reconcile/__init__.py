"""Reconcile: the provider's delivery log against the stored deliveries, so that "nothing is missing" can be proven.

- ``run``        ``Reconciler``: all webhooks, or some, side by side
- ``session``    one webhook after another: lock, read, compare, write
- ``compare``    what is missing, confirmed, unrecoverable: pure
- ``identity``   when a delivery and an attempt tell of the same, by value
- ``erased``     entries about card holders who are erased: compared, and mirrored without what they say
- ``workspace``  where log and deliveries lie side by side
- ``clock``      how far OpenCard's clock is ahead, so that what is recovered takes its place among what arrived
- ``write``      what comes of it, in one transaction
- ``runs``       the rows that say what was proven
- ``outcome``    what a run found and did
- ``due``        when each webhook's turn is: pure
- ``schedule``   the job that runs what is due
- ``models``     the mirror of the log, and the runs
- ``views``      how complete the deliveries are, for one query
"""
