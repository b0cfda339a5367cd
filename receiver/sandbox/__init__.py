"""A local stand-in for OpenCard: for development, the demo and the tests.

It is the other party, so it shares nothing with the receiver but the contract: no bug can hide by being on both sides.

- ``story_events``  one event as OpenCard sends it, and how its JSON is written and read
- ``story``         ``make_story``: the seeded life of some organizations, and what a correct receiver must end with
- ``people``        organizations, their TPA, their card holders
- ``places``        countries, currencies, merchants: what the stories are made of
- ``purchases``     a purchase through its states
- ``enrichments``   its receipt, VAT, items and CO2
- ``receipt_files`` the files of receipts, and their URLs
- ``faults``        ``schedule``: the story with duplicates, disorder, lost answers, bursts, losses and an outage
- ``sender``        ``deliver_all`` and ``challenge``: over real HTTP, signed, retried, accounted for
- ``retry_limits``  how long that is tried
- ``challenge``     the question to a webhook, and the check of its answer
- ``bearers``       tokens for webhooks that are authenticated by OAuth
- ``registration``  what OpenCard knows of a webhook, and the headers that follow from it
- ``tally``         counts the attempts by their results
- ``signing``       the signature
- ``tls``           the certificates it trusts
- ``provider``      the HTTP API (tokens, webhooks, delivery log), and deliveries to what is registered there

Around it, a whole receiver on this machine:

- ``control_client`` asks for what only a local OpenCard does: ``receiver trigger``, the test kit
- ``send_again``   sends an event, and again as if days had passed
- ``payload_fields`` which fields can be set in an event that it sends
- ``embedded``      PostgreSQL and Valkey from wheels
- ``processes``     the Procfile's processes, started, killed and stopped
- ``killable``      what of it can be killed and started again
- ``local``         both together, migrated, with managed webhooks
- ``demo``, ``dev`` ``receiver demo`` and ``receiver dev``, with ``console_access`` a user for the console
- ``breakage``      failures on purpose, which an operator can fix
- ``verdict``       do the tables hold what OpenCard sent?
- ``stored_files``  are the receipts' files here?

Up to ``faults`` all is pure: no clock, no I/O, and the same seed gives the same bytes.
"""
