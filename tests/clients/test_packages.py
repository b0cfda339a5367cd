"""What a developer installs of the clients: one version with the service, its types included."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING

from tests.clients.conftest import CLIENTS

if TYPE_CHECKING:
    from pathlib import Path


def test_the_clients_have_the_version_of_the_service() -> None:
    service = tomllib.loads((CLIENTS.parent / "pyproject.toml").read_text())["project"]["version"]
    assert tomllib.loads((CLIENTS / "python" / "pyproject.toml").read_text())["project"]["version"] == service
    for page in ("package.json", "package-lock.json"):
        assert json.loads((CLIENTS / "typescript" / page).read_text())["version"] == service


def test_the_wheel_has_the_readers_and_says_it_is_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=CLIENTS / "python", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    modules = {f"opencard_ems/{page.name}" for page in (CLIENTS / "python" / "opencard_ems").glob("*.py")}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("opencard_ems/")} == {
        *modules,
        "opencard_ems/py.typed",
    }


def test_the_lock_of_typescript_has_hashes_and_no_addresses() -> None:
    packages = json.loads((CLIENTS / "typescript" / "package-lock.json").read_text())["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert installed
    assert all("integrity" in package and "resolved" not in package for package in installed.values())
