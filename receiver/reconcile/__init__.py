"""Reconcile: the provider's delivery log against the stored deliveries, so that "nothing is missing" can be proven.

- ``run``        ``Reconciler``: all webhooks, or some, in parallel
- ``session``    one webhook after another: lock, read, compare, write
- ``compare``    what is missing, confirmed, unrecoverable: pure
- ``identity``   when a delivery and an attempt describe the same event, by value
- ``erased``     entries about erased card holders: compared, and mirrored without their content
- ``workspace``  the temporary tables that hold the log and the deliveries of a run
- ``statements`` the SQL that fills and compares them
- ``prefetch``   fetches the next page while this one is worked on
- ``clock``      how far OpenCard's clock is ahead, so that recovered events are ordered among those that arrived
- ``write``      the result, in one transaction
- ``runs``       the rows of ``reconcile_runs``
- ``outcome``    what a run found and did
- ``due``        when each webhook is due: pure
- ``schedule``   the job that reconciles the webhooks that are due
- ``models``     the mirror of the log, and the runs
- ``views``      up to when each log is checked, and what is missing by hour
"""
