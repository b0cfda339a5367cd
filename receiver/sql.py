"""Statements that live in ``.sql`` files, under names that say what they do."""

from __future__ import annotations

from importlib.resources import files
from string import Template


def read_sql(package: str, name: str, **parts: str) -> str:
    """Return the statement in ``sql/name.sql`` of *package*, with *parts*, names from models, for each ``$part``."""
    script = (files(package) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return Template(script).substitute(parts)
