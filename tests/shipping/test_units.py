"""The units for systemd: valid, hardened, and running what the Procfile says."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.locks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

UNITS: Final = ROOT / "deploy" / "systemd"
SERVICES: Final = ("release", "web", "worker", "scheduler")
MAX_EXPOSED: Final = 1.5
"""Of 10, by ``systemd-analyze security``; what it calls OK is below 2."""
ANALYZE = shutil.which("systemd-analyze")
with_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is missing: apt-get install systemd")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder with the units, whose programs exist."""
    shutil.copytree(UNITS, tmp_path / "units")
    for name in ("receiver", "gunicorn"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.touch(mode=0o755)
    for unit in (tmp_path / "units").glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/receiver/bin", str(tmp_path / "bin")))
    return tmp_path / "units"


def analyze(*arguments: str | Path) -> str:
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@with_systemd
def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    paths = [path for path in units.iterdir() if path.is_file()]
    assert len(paths) == len(SERVICES) + len(("socket", "target"))
    said = analyze("verify", "--man=no", "--generators=no", *paths)
    assert not [line for line in said.splitlines() if "receiver" in line], said


@with_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_do_more_than_it_needs(units: Path, name: str) -> None:
    common = (units / "receiver-.service.d" / "common.conf").read_text()
    unit = units / f"receiver-{name}.service"
    unit.write_text(f"{unit.read_text()}\n{common}")  # what is not installed is analyzed without its drop-ins
    said = analyze("security", "--offline=true", "--no-pager", unit)
    (exposed,) = re.findall(r"exposure level for .*: ([0-9.]+)", said)
    assert float(exposed) <= MAX_EXPOSED, said


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_runs_the_command_of_the_procfile(name: str) -> None:
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    (command,) = re.findall(r"^ExecStart=(.*)$", (UNITS / f"receiver-{name}.service").read_text(), re.MULTILINE)
    assert command == f"/opt/receiver/bin/{procfile[name]}"


def test_all_units_belong_to_the_target() -> None:
    for path in UNITS.glob("receiver-*.*"):
        if path.is_file():
            assert "WantedBy=receiver.target" in path.read_text(), path.name


def test_a_command_names_the_person_who_called_it(tmp_path: Path) -> None:
    printing = tmp_path / "systemd-run"
    printing.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printing.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    me = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
    for environment, name in ((path, me), ({**path, "SUDO_USER": "olga"}, "olga")):
        called = subprocess.run(
            [ROOT / "deploy" / "bin" / "receiver", "status"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"--setenv=SUDO_USER={name}" in called.stdout.splitlines()
        assert called.stdout.splitlines()[-2:] == ["/opt/receiver/bin/receiver", "status"]
