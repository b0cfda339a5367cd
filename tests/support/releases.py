"""Releases side by side: a wheel, unpacked into a folder of its own, and the processes of its Procfile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from honcho.environ import parse_procfile

from receiver.sandbox.processes import STOP_SECONDS
from tests.support.locks import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKED = ("receiver", "migrations", "examples", "deploy")
"""The folders that a wheel is made of; and the files in the root."""
IGNORED = shutil.ignore_patterns("__pycache__", "node_modules")


@dataclass(frozen=True)
class Release:
    """A release that is installed: its folder comes first where Python looks for modules."""

    version: str
    folder: Path

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {**variables, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, command: str, variables: Mapping[str, str]) -> str:
        """Run a command of this release and return what it prints; fails when it does."""
        done = subprocess.run(
            command.split(),
            cwd=self.folder,
            env=self.environment(variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, process: str, variables: Mapping[str, str], logs: Path) -> Running:
        """Start a process of this release's Procfile."""
        command = parse_procfile((self.folder / "receiver" / "Procfile").read_text()).processes[process]
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{process}-{self.version}.log"
        with log.open("ab") as to:
            started = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=self.folder,  # gunicorn looks for modules in the working directory first
                env=self.environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=to,
                start_new_session=True,
            )
        return Running(started, log)


@dataclass(frozen=True)
class Running:
    """A process of a release."""

    process: subprocess.Popen[bytes]
    log: Path

    def terminate(self) -> None:
        """Send SIGTERM; ``wait`` returns the exit code."""
        self.process.terminate()

    def wait(self) -> int:
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code; nothing if it has ended."""
        self.terminate()
        return self.wait()


def unpacked(wheel: Path, folder: Path) -> Release:
    """Unpack a wheel, as installing it would."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return Release(wheel.name.split("-")[1], folder)


def copied(folder: Path) -> Path:
    """Copy what a wheel is made of from this checkout, so that it can be changed."""
    folder.mkdir(parents=True)
    for name in PACKED:
        shutil.copytree(ROOT / name, folder / name, ignore=IGNORED)
    for file in ROOT.iterdir():
        if file.is_file() and file.name not in {".git", ".env"}:
            shutil.copy(file, folder / file.name)
    return folder


def built(source: Path, folder: Path) -> Path:
    """Build the wheel of a checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
