"""A reader's access to schema ``ems``, a database of its own, and the TypeScript client if it is built."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, make_url

from tests.support.following import PYTHON_CLIENT, as_reader
from tests.support.program import db
from tests.support.roles import new_role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Acme

CLIENTS = Path(__file__).parents[2] / "clients"


@pytest.fixture
def ems(acme: Acme) -> Iterator[URL]:
    """Where schema ems is, as a reader."""
    url = acme.engine.url
    with new_role(url) as role:
        assert db(url, "grant-reader", role).exit_code == 0
        yield as_reader(url, role)


@pytest.fixture
def own(new_database: Callable[[], str]) -> URL:
    """The EMS's own database."""
    return make_url(new_database())


@pytest.fixture
def typescript() -> Path:
    """The compiled TypeScript client."""
    built = CLIENTS / "typescript" / "dist"
    if not (built / "index.js").exists():
        pytest.skip("the TypeScript client is not built: make typescript, which needs node and npm")
    return built


@pytest.fixture(params=["python", "typescript"])
def program(request: pytest.FixtureRequest) -> Sequence[str]:
    """The example program of a client."""
    if request.param == "python":
        return PYTHON_CLIENT
    return ("node", str(request.getfixturevalue("typescript") / "example.js"))


def node(script: str, **variables: str) -> Any:
    """Return what a module of JavaScript prints, which is JSON."""
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
