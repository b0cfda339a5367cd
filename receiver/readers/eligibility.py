"""Whether a role can become a reader, from what it is and may. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from receiver.readers.row_security import FIRST_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """What a role is and may before it is made a reader, and who asks."""

    exists: bool
    superuser: bool
    bypasses: bool
    """Row-level security does not hold for it."""
    replicates: bool
    """It may read everything that is written, as a replica does."""
    creates_roles: bool
    sees_statements: bool
    """It sees what others ask, with what is in it."""
    owner: str
    acts_as_owner: bool
    beyond: tuple[str, ...]
    """The privileges that it has and no reader may have."""
    asker: str
    asker_is_owner: bool
    version: int
    """PostgreSQL's major version."""


def refusal(
    role: str,
    facts: RoleFacts,
    organizations: Sequence[str],
    restricted_to: Sequence[str],
    *,
    replication: bool = False,
) -> str | None:
    """Return why *role* cannot become a reader of *organizations* (none: of all), with the way out; or ``None``.

    *restricted_to*: the organizations that it is restricted to now; *replication*: it is to subscribe.
    """
    return (
        _of_asker(facts)
        or _of_role(role, facts)
        or _of_what_it_may(role, facts)
        or _of_restriction(role, facts, organizations, restricted_to)
        or _of_replication(role, facts, organizations, replication=replication)
    )


def refusal_of_revoking(role: str, facts: RoleFacts) -> str | None:
    """Return why nothing can be taken back from *role*, with the way out; or ``None``."""
    return _of_asker(facts) or _of_role(role, facts)


def _of_asker(facts: RoleFacts) -> str | None:
    if facts.asker_is_owner:
        return None
    return (
        f"schema ems belongs to {facts.owner}, but DATABASE_URL connects as {facts.asker}: run this as "
        f"{facts.owner}, who migrates"
    )


def _of_role(role: str, facts: RoleFacts) -> str | None:
    if not facts.exists:
        return (
            f"there is no role {role!r} in this PostgreSQL: create it first, CREATE ROLE {_quoted(role)} LOGIN "
            "PASSWORD '...'; and run this again"
        )
    if facts.superuser:
        return f"{role} is a superuser, who may read and write everything anyway: create a role for the reader"
    if facts.acts_as_owner:
        return (
            f"{role} is or may act as {facts.owner}, who owns schema ems and may write everything: create a role "
            f"for the reader that is no member of {facts.owner}"
        )
    return None


def _of_what_it_may(role: str, facts: RoleFacts) -> str | None:
    if role.startswith("pg_"):
        return f"{role} is a role of PostgreSQL's own: create one for the reader"
    if not facts.beyond:
        return None
    return (
        f"{role} may already {', and '.join(facts.beyond)}, which a reader may not: take that back first (REVOKE), "
        "or create a role for the reader"
    )


def _of_restriction(
    role: str, facts: RoleFacts, organizations: Sequence[str], restricted_to: Sequence[str]
) -> str | None:
    if restricted_to and not organizations:
        return (
            f"{role} is restricted to {', '.join(restricted_to)}: name its organizations, or run receiver db "
            f"revoke-reader {role} first if it is to see all"
        )
    if organizations and (facts.replicates or facts.creates_roles or facts.sees_statements):
        why = (
            "has REPLICATION, by which it reads every table"
            if facts.replicates
            else "has CREATEROLE, by which it makes itself roles that see more"
            if facts.creates_roles
            else "is a member of pg_read_all_stats (or pg_monitor), and sees the statements of others"
        )
        return f"{role} {why}, and cannot be restricted: take that from it first, or create a role for the reader"
    if organizations and facts.bypasses:
        return f"{role} has BYPASSRLS and cannot be restricted: ALTER ROLE {_quoted(role)} NOBYPASSRLS"
    if organizations and facts.version < FIRST_VERSION:
        return (
            f"this is PostgreSQL {facts.version}, whose views would show {role} every organization: --organization "
            f"needs PostgreSQL {FIRST_VERSION} or newer; without it, the reader sees all"
        )
    return None


def _of_replication(role: str, facts: RoleFacts, organizations: Sequence[str], *, replication: bool) -> str | None:
    if replication and organizations:
        return "a subscriber gets the rows of every organization: --replication and --organization exclude each other"
    if replication and not facts.replicates:
        return f"{role} may not replicate: have a superuser run ALTER ROLE {_quoted(role)} REPLICATION"
    return None


def _quoted(role: str) -> str:
    return sql.Identifier(role).as_string()
