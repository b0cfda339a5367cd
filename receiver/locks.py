"""Every advisory lock of this service. PostgreSQL has one key space for all of them, so no two may have the same key.

The locks of the whole service have small positive keys; those of one webhook, token or name have negative ones, derived
from what they are for, so that neither kind can meet the other.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum, StrEnum


class Lock(IntEnum):
    """A lock that exists once. Its value is its key."""

    MIGRATION = 0x0C4D_0001
    """One process migrates at a time."""
    FEED = 0x0C4D_0002
    """Positions of the feed are assigned in the order of the commits."""
    RETENTION = 0x0C4D_0003
    """One run of retention at a time."""
    BOOTSTRAP = 0x0C4D_0004
    """One process changes webhooks at OpenCard at a time: bootstrap, or a rotation."""
    ROLL_UP = 0x0C4D_0005
    """One process adds up the counters at a time."""
    ISSUES = 0x0C4D_0006
    """One process at a time compares the issues with the findings."""
    DEPLOYS = 0x0C4D_0007
    """One process notes its version at a time."""


class LockFamily(StrEnum):
    """Locks of which there is one for each thing."""

    RECONCILE = "reconcile"
    """One run of a webhook at a time, by this service's id of it."""
    TOKEN = "token"  # noqa: S105 - what the lock is for
    """One process asks for a token at a time, by API, client and scopes."""
    TEST = "test"
    """One test of an organization's deliveries at a time, by the EMS's id of it."""
    SIGN_IN = "sign-in"
    """One try to sign in at a time, by name or address."""


def key_of(family: LockFamily, *parts: object) -> int:
    """Return the key of one thing's lock: a negative number from a hash; collisions are negligible."""
    words = "\0".join((family, *map(str, parts)))
    digest = hashlib.sha256(words.encode()).digest()
    return -1 - (int.from_bytes(digest[:8]) >> 1)
