"""From stored deliveries to events and rows: the RQ job.

- ``job``       what RQ runs: drain, then stay for the next wake-up
- ``drain``     batch by batch, until nothing is due
- ``batch``     the steps of one batch: parse, find the new events, fold, commit
- ``decide``    which deliveries are new events, which are retries: pure
- ``claim``     leases: no two workers have a delivery at once, and a lease expires
- ``replays``   puts what replays selected into the queue, and stores their outcomes
- ``failures``  stores failed attempts, and when each delivery is tried again
- ``retry_schedule``  the pauses between attempts: pure
- ``downloads``  stores which files are to be downloaded
- ``models``    tables
"""
