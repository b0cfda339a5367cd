"""The lock files, read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "requirements.lock"
DEVELOPMENT = ROOT / "requirements-dev.lock"
BUILD = ROOT / "requirements-build.lock"


def pins(lock: Path) -> dict[str, Requirement]:
    """Return the libraries of a lock file: name → its pin, with the marker that says where it is needed."""
    lines = [line.removesuffix("\\").strip() for line in lock.read_text().splitlines() if line[:1].isalnum()]
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
