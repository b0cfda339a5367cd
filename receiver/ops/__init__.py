"""Operations: what operators see and do.

The status of the service:

- ``status``     the status of the service; ``metrics`` gives the same to Prometheus
- ``feed_lock``, ``feed_epochs``, ``receipts``, ``invoices``, ``unknown``, ``refused``, ``ageing``  parts of ``status``
- ``attention``  what needs attention, a line each
- ``issues``     what needs attention, over time; ``findings``: at one moment
- ``activity``   deliveries by hour, rates, failures by their cause; ``rollup`` keeps what they need
- ``traffic``    outcomes of the last hour, day or week, for the console's overview
- ``counted``    what all processes have counted, for ``metrics``; ``counter_models``: tables of counters
- ``deploys``    when the version of the service changed
- ``workers``    the running workers; ``worker_deaths``: those that died over their deliveries
- ``consumers``  how far the registered consumers have read the feed
- ``health``     ``/healthz`` and ``/readyz``; ``storing``: whether a delivery could be stored
- ``doctor``     checks the installation; with ``doctor_findings``, ``doctor_stores``, ``doctor_opencard``

Deliveries and purchases:

- ``deliveries``  what is stored: lists, searches, everything about one delivery
- ``replay``      processes stored deliveries again, with ``replay_selection``, ``replay_state``, ``replay_wait``
- ``resolving``   resolves deliveries that need no replay
- ``decisions``   accepts deliveries that the delivery log does not have
- ``retracting``  retracts forged deliveries, and undoes that
- ``purchases``   everything about one purchase, and finding it
- ``closing``     closes a month of a ledger

Webhooks, and the service itself:

- ``webhook_details``  everything about one webhook
- ``webhook_actions``  rotates a webhook's secret, tests it, registers it again, for the console
- ``send_test``  has OpenCard send a test delivery; ``sent_test`` reports it
- ``recover``    begins an epoch of the feed, or acknowledges one
- ``drill``      restores a backup next to production, and examines it
- ``retention``  deletes data that is older than configured
- ``keys``       encrypts all secrets again with the newest key
- ``console``    the pages at ``/ops/``; ``openid``: its sign-in by the company's OpenID provider
- ``audit``      records who did what
- ``models``     tables: replays, and records of the audit
"""
