"""Locks of the sessions in this test's database: other tests use the same server at the same time.

To be asked in a new transaction each time: within one, PostgreSQL keeps showing the sessions of the first look.
"""

from __future__ import annotations

from typing import Final

LOCKS: Final = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database()"
WAITING: Final = f"{LOCKS} AND NOT granted"
"""How many sessions wait for a lock."""
ADVISORY: Final = f"{LOCKS} AND locktype = 'advisory'"
"""How many advisory locks are held or waited for."""
