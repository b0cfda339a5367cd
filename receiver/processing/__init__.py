"""From stored deliveries to events and rows: the RQ job.

- ``job``       what RQ runs: drain, then stay for the next wake-up
- ``drain``     batch by batch, until nothing is due
- ``batch``     the journey of one batch: parse, find out what is new, fold, commit
- ``decide``    which deliveries are new events, which repeat one: pure
- ``claim``     leases: one worker has a delivery at a time, and none has it for long
- ``replays``   leases on what operators selected to be processed again
- ``failures``  what became of deliveries that could not be applied
"""
