"""Retention: what was kept long enough goes, in small steps beside all other work.

- ``record``   the runs, and the last of them for ``status`` and ``/metrics``
- ``models``   their rows, and how far the walks through the tables got
"""
