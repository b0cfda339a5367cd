"""Events: from the bytes of a stored delivery, or an entry of ``ems.events``, to a typed event. All of it is pure.

- ``catalogue``    the events that OpenCard sends: names, webhook flags, other spellings
- ``kinds``        the kinds of events: the payload type of each, and when two events are the same
- ``payloads``     the payload types
- ``parse``        a delivery, or an entry of the event log → an event
- ``content``      the JSON of an event: exact numbers, texts that PostgreSQL accepts, fingerprints
- ``deduplicate``  which deliveries are retries of one event
- ``event``        ``ClaimedDelivery`` and ``Event``, the values that the other modules pass on
"""
