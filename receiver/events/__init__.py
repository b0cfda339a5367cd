"""Events: from a stored delivery to changed records (claim, understand, tell retries apart, apply, settle).

- ``process``       the job: drains what waits in two lanes, batch by batch
- ``claim``         which deliveries a worker takes, and what becomes of those that kill it; ``replayed``: of replays;
                    ``portion``: no more than a batch can hold
- ``apply``         the road of a batch
- ``understand``    a delivery → an event, typed by ``payloads``, named as in the ``catalogue``: pure
- ``retries``       is it new?  ``card_holder_history``: of people's events, pure; ``recall``: of events of long ago
- ``content``       the JSON of an event: exact numbers, texts that PostgreSQL takes, fingerprints; pure
- ``registry``      which of the ``handlers`` applies an event
- ``dated_back``    what was written by a retry that came before its original
- ``erased``        people who are erased: nothing late brings their reference back; ``redact``: what may stay, pure
- ``settle``        what became of deliveries; ``outcomes`` counts it; ``retry_schedule``: when to try again, pure
- ``models``        tables of its own; ``event``: what travels between these steps
"""
