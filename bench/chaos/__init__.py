"""Endurance: a stream with all faults on, while everything is killed and started again: ``python -m bench.chaos``.

A local OpenCard tells a story to what bootstrap registered: twice, out of order, in bursts, with answers lost and a
part of the events lost for good. Meanwhile web, worker, work-horses, scheduler, Valkey and PostgreSQL get SIGKILL at
moments of the stream that the seed decides, some staying away for a while, and OpenCard's clock is wrong. At the end,
after one reconcile, the tables are compared with what was meant, the feed with what a reader saw of it, and what each
process holds with what it held at the start.

- ``plan``      who is killed when: decided by the seed, in parts of the stream, so that a seed repeats its run
- ``follower``  a reader of the feed, through all that happens to it
- ``holdings``  memory, files and connections
- ``run``       the run, and what was wrong in the end
"""
