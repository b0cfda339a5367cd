"""A user of the console for development: one that may do everything, with a new password each time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from werkzeug.security import generate_password_hash

NAME: Final = "dev"


@dataclass(frozen=True, slots=True)
class ConsoleAccess:
    """Who may sign in, and the variables that say so to the web process."""

    name: str
    password: str = field(repr=False)
    variables: dict[str, str] = field(repr=False)


def new_console_access(*, role: str = "operator") -> ConsoleAccess:
    """Return a user with a new password."""
    password = secrets.token_urlsafe(9)
    users = f"{NAME}:{role}:{generate_password_hash(password)}"
    return ConsoleAccess(NAME, password, {"OPS_USERS": users, "SECRET_KEY": secrets.token_urlsafe(32)})
