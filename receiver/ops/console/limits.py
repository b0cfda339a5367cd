"""How often a user may try to sign in: pauses grow with the failures of a name, and with those of an address.

Counted in PostgreSQL, so that all web processes on all machines count together, Redis or not. A try is counted as a
failure before its password is looked at, and taken back when it was right: so many tries at once are no way around.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.locks import LockFamily, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

FREE_FAILURES: Final = 5
"""Failures that cause no pause."""
LONGEST_PAUSE: Final = timedelta(minutes=5)
"""The longest pause, however many tries failed."""
FORGOTTEN_AFTER: Final = timedelta(days=1)
FAMILIAR_FOR: Final = timedelta(days=30)
MAX_SUBJECTS: Final = 10_000

_FAMILIAR: Final = text(
    """
SELECT EXISTS (
    SELECT FROM receiver.console_sessions
    WHERE user_name = :name AND network = :network AND signed_in_at > now() - :familiar_for
)
"""
)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(:key)")
_NOW: Final = text("SELECT clock_timestamp()")
_READ: Final = text(
    "SELECT failures, failed_at, next_attempt_at FROM receiver.sign_in_failures WHERE subject = :subject"
)
_WRITE: Final = text(
    """
INSERT INTO receiver.sign_in_failures (subject, failures, failed_at, next_attempt_at)
VALUES (:subject, :failures, :failed_at, :next_attempt_at)
ON CONFLICT (subject) DO UPDATE
SET failures = excluded.failures, failed_at = excluded.failed_at, next_attempt_at = excluded.next_attempt_at
"""
)
_DELETE_OLD: Final = text(
    """
DELETE FROM receiver.sign_in_failures
WHERE failed_at < now() - :forgotten_after OR subject IN (
    SELECT subject FROM receiver.sign_in_failures ORDER BY failed_at DESC OFFSET :most
)
"""
)
_TAKE_BACK: Final = text(
    """
UPDATE receiver.sign_in_failures SET failures = greatest(0, failures - 1), next_attempt_at = failed_at
WHERE subject = :subject
"""
)
_CLEAR: Final = text("DELETE FROM receiver.sign_in_failures WHERE subject = :subject")


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed sign-ins of a name or an address."""

    failures: int
    failed_at: datetime
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Subjects:
    """The name and the address that an attempt counts against."""

    address: bytes
    name: bytes | None = None
    """``None`` when an OpenID provider says who it is: only the address counts."""


def pause_after(failures: int) -> timedelta:
    """Return the pause after a number of failures in a row."""
    if failures < FREE_FAILURES:
        return timedelta()
    doublings = min(failures - FREE_FAILURES, 16)  # beyond any pause
    return min(LONGEST_PAUSE, timedelta(seconds=2.0**doublings))


def wait_of(known: Iterable[Failures | None], now: datetime) -> timedelta:
    """Return how long a try has to wait, by what is known of its name and address; zero if it may be made now."""
    return max((each.next_attempt_at - now for each in known if each is not None), default=timedelta())


def one_more(known: Failures | None, now: datetime) -> Failures:
    """Return what is known after one more failure, now."""
    before = known.failures if known is not None and now - known.failed_at < FORGOTTEN_AFTER else 0
    return Failures(before + 1, now, now + pause_after(before + 1))


def network_of(address: str) -> str:
    """Return what an address is counted under: of IPv6 the /64, within which anybody has as many as they like."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def take_try(connection: Connection, name: str | None, address: str) -> tuple[Subjects, timedelta]:
    """Count a try, and return what it counts against; or, counting nothing, how long it has to wait.

    From a network where the user signed in before, only failures from there count against the name: so no other
    person can lock out a user who knows the password.
    """
    network = network_of(address)
    subjects = Subjects(_subject("address", network))
    if name is not None:
        familiar = connection.scalar(_FAMILIAR, {"name": name, "network": network, "familiar_for": FAMILIAR_FOR})
        subjects = Subjects(subjects.address, _subject("name", name, network if familiar else ""))
    both = [subject for subject in (subjects.address, subjects.name) if subject is not None]
    for subject in sorted(both):  # in one order, so that no deadlock arises
        connection.execute(_LOCK, {"key": key_of(LockFamily.SIGN_IN, subject.hex())})
    now = connection.execute(_NOW).scalar_one()
    known = {subject: _read(connection, subject) for subject in both}
    wait = wait_of(known.values(), now)
    if wait <= timedelta():
        for subject in both:
            after = one_more(known[subject], now)
            connection.execute(
                _WRITE,
                {
                    "subject": subject,
                    "failures": after.failures,
                    "failed_at": after.failed_at,
                    "next_attempt_at": after.next_attempt_at,
                },
            )
        connection.execute(_DELETE_OLD, {"forgotten_after": FORGOTTEN_AFTER, "most": MAX_SUBJECTS})
    return subjects, max(wait, timedelta())


def give_back(connection: Connection, subjects: Subjects) -> None:
    """Take the count of a try back, because it was right. Other failures of the address stay."""
    connection.execute(_TAKE_BACK, {"subject": subjects.address})
    if subjects.name is not None:
        connection.execute(_CLEAR, {"subject": subjects.name})


def _read(connection: Connection, subject: bytes) -> Failures | None:
    row = connection.execute(_READ, {"subject": subject}).one_or_none()
    return None if row is None else Failures(*row)


def _subject(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).digest()
