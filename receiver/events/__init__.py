"""Events: from a delivery, or an entry of OpenCard's log, to a typed event. All of it is pure.

- ``event``        a claimed delivery, and the event in it
- ``parse``        a delivery → an event, typed by ``payloads``, named as in the ``catalogue``
- ``content``      the JSON of an event: exact numbers, texts that PostgreSQL takes, fingerprints
- ``kinds``        what each kind of event is about, and what makes two of them the same event
- ``deduplicate``  which deliveries are one event
"""
