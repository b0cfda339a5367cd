"""Endurance: a stream with all faults on, while everything is killed and started again: ``python -m bench.chaos``.

A local OpenCard sends a story to the webhooks that bootstrap registered: twice, out of order, in bursts, with answers
lost and a part of the events lost for good. Meanwhile web, worker, job processes, scheduler, Valkey and PostgreSQL get
SIGKILL at moments that the seed decides, some stay away for a while, OpenCard's clock is wrong, and after each kill
deliveries are replayed. At the end, after one reconcile, the tables are compared with what is expected, the feed with
what a reader saw of it, and what each process uses with what it used at the start.

- ``plan``       who is killed when: decided by the seed, in parts of the stream, so that a seed repeats its run
- ``follower``   a reader of the feed, through all that happens to it
- ``resources``  memory, files and connections
- ``run``        the run, and what was wrong in the end
"""
