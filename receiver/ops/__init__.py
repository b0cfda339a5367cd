"""Operations: what operators see and do.

- ``health``     ``/healthz`` and ``/readyz``
- ``status``     the status of the service; ``metrics`` gives the same to Prometheus
- ``attention``  what needs attention, a line each
- ``counted``    what all processes have counted, for ``metrics``
- ``deploys``    when the version of the service changed
- ``workers``    the running workers; ``worker_deaths``: those that died over their deliveries
- ``activity``   deliveries by hour, rates, failures by their cause; ``rollup`` keeps what they need
- ``doctor``     checks the installation; with ``doctor_findings``, ``doctor_stores``, ``doctor_opencard``
- ``send_test``  has OpenCard send a test delivery; ``sent_test`` reports it
- ``deliveries``  what is stored: lists, searches, everything about one delivery
- ``replay``     processes stored deliveries again, with ``replay_selection``, ``replay_state``, ``replay_wait``
- ``issues``     what needs attention, over time; ``findings``: at one moment
- ``closing``    closes a month of a ledger
- ``consumers``  how far the registered consumers have read the feed
- ``feed_lock``, ``feed_epochs``, ``storing``, ``receipts``, ``invoices``, ``unknown``  parts of ``status``
- ``recover``    begins an epoch of the feed, or acknowledges one
- ``retention``   deletes data that is older than configured
- ``keys``       encrypts all secrets again with the newest key
- ``console``    the pages at ``/ops/``
- ``audit``      records who did what
- ``models``     tables: replays, and records of the audit
- ``counter_models``  tables of counters
"""
