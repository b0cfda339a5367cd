"""Retention: deletes expired data in small steps, while all other work continues.

- ``run``       a run: what is due, kind by kind, a small transaction each, within its time
- ``kinds``     what is deleted, when, and how: one entry for each kind
- ``walk``      walking through a table from its oldest row, and remembering how far
- ``bodies``    deleting bodies; their deliveries stay, known by their fingerprint
- ``erasure``   erases card holders who were deleted long enough ago (see ``receiver.erasure``)
- ``yielding``  the transactions in which all this is done
- ``record``    the runs, and the last of them for ``status`` and ``/metrics``
- ``models``    tables: the runs, and how far each walk is
- ``schedule``  the job that the scheduler enqueues
"""
