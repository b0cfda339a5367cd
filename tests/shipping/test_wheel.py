"""The wheel as an operator installs it: into an environment of its own, from the lock file, away from the checkout."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from packaging.utils import canonicalize_name
from werkzeug.security import generate_password_hash

from receiver.sandbox.embedded import free_port
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.sandbox.provider import SCOPES, Provider, environment, serving
from tests.support.locks import PRODUCTION, ROOT, pins

if TYPE_CHECKING:
    from collections.abc import Callable

    from packaging.requirements import Requirement

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]  # libraries are fetched

SHARE = "share/opencard-receiver"


@dataclass
class Installed:
    """The source archive, the wheel that is made of it, and the environment that this is installed in."""

    archive: Path
    wheel: Path
    venv: Path

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run a program of the environment, and return what it prints; fails when it does."""
        program = self.venv / "bin" / arguments[0]
        done = subprocess.run(
            [program, *arguments[1:]], cwd=self.venv, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the source archive, out of it the wheel, and install that with what requirements.lock says."""
    folder = tmp_path_factory.mktemp("dist")
    python = [sys.executable, "-m"]
    subprocess.run([*python, "hatchling", "build", "-t", "sdist", "-d", folder], cwd=ROOT, check=True)
    (archive,) = folder.glob("*.tar.gz")
    quiet = ["--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*python, "pip", "wheel", *quiet, "--wheel-dir", folder, archive], check=True)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([*python, "venv", venv], check=True)
    pip = [str(venv / "bin" / "pip"), "install", "--quiet"]
    subprocess.run([*pip, "--require-hashes", "--only-binary=:all:", "-r", PRODUCTION], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    return Installed(archive, wheel, venv)


def needed() -> dict[str, Requirement]:
    """Return what requirements.lock installs on this machine."""
    return {name: pin for name, pin in pins(PRODUCTION).items() if pin.marker is None or pin.marker.evaluate()}


def test_lock_and_wheel_are_all_there_is_and_all_it_needs(installed: Installed) -> None:
    found = {
        canonicalize_name(each["name"]): each["version"]
        for each in json.loads(installed.run("pip", "list", "--format=json"))
    }
    locked = needed()
    of_venv = {"pip", "setuptools"}
    assert set(found) - of_venv == {*locked, "opencard-receiver"}
    assert all(pin.specifier.contains(found[canonicalize_name(name)]) for name, pin in locked.items())
    assert "No broken requirements found." in installed.run("pip", "check")


def test_the_list_of_components_names_every_library(installed: Installed, tmp_path: Path) -> None:
    (line,) = re.findall(r"\$\(BIN\)/cyclonedx-py (.*?)\n\trm", (ROOT / "Makefile").read_text(), re.DOTALL)
    arguments = shlex.split(line.replace("\\\n", " "))
    program = str(Path(sys.executable).with_name("cyclonedx-py"))
    places = {
        "dist/sbom.cdx.json": str(tmp_path / "sbom"),
        "dist/environment/bin/python": f"{installed.venv}/bin/python",
    }
    subprocess.run([program, *(places.get(each, each) for each in arguments)], cwd=ROOT, check=True)
    listed = json.loads((tmp_path / "sbom").read_text())
    found = {canonicalize_name(each["name"]): each["version"] for each in listed["components"]}
    assert all(pin.specifier.contains(found[canonicalize_name(pin.name)]) for pin in needed().values())
    assert listed["metadata"]["component"]["name"] == "opencard-receiver"


def test_the_wheel_brings_all_files_and_no_tests(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    package = [*ROOT.glob("receiver/**/*"), *ROOT.glob("migrations/**/*"), *ROOT.glob("examples/*"), ROOT / "Procfile"]
    files = [path.relative_to(ROOT) for path in package if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path) if path.parts[0] == "receiver" else f"receiver/{path}" for path in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "docs/"))]
    with tarfile.open(installed.archive) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert {str(path) for path in files} <= sources
    assert "migrations/versions/0001_the_two_schemas.sql" in sources
    for name in (".env.example", "webhooks.example.toml"):
        assert (installed.venv / SHARE / name).read_text() == (ROOT / name).read_text()


def test_every_process_runs_from_the_wheel(
    installed: Installed,
    new_database: Callable[[], str],
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    provider = Provider()
    client = provider.clients.add("ems", scopes=tuple(SCOPES))
    provider.state.add_organization("acme")
    with ExitStack() as stack:
        env = local_environment(database_url=new_database(), redis_url=redis_url, port=free_port())
        env |= environment(stack.enter_context(serving(provider)), client)
        env |= {"PATH": f"{installed.venv / 'bin'}{os.pathsep}/usr/bin:/bin", "FILES_URL": str(tmp_path / "files")}
        env |= {"SECRET_KEY": "s" * 32, "OPS_USERS": f"ada:operator:{generate_password_hash('correct horse')}"}
        processes = stack.enter_context(ProcfileProcesses(env, tmp_path / "logs"))
        processes.run("release")
        processes.start("web", "worker", "scheduler")
        wait_until_ready(env["PUBLIC_URL"], processes, needed=["web", "worker", "scheduler"])
        assert "acme" in installed.run("receiver", "bootstrap", env=env)
        assert "ok" in installed.run("receiver", "doctor", env=env)
        page = httpx.get(f"{env['PUBLIC_URL']}/ops/", follow_redirects=True)
        assert (page.status_code, "Password" in page.text) == (200, True)
        assert httpx.get(f"{env['PUBLIC_URL']}/ops/static/console.css").status_code == httpx.codes.OK
        assert processes.stop("web", "worker", "scheduler") == {"web": 0, "worker": 0, "scheduler": 0}
