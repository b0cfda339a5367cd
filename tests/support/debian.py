"""A clean Debian 13 with systemd, in a folder: booted by systemd-nspawn, with the network of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,openssl,iproute2,procps"
"""What every Debian has that was installed on a machine of its own."""
BOOT_SECONDS = 120
LINE_SECONDS = 600


@dataclass(frozen=True)
class Debian:
    """A machine that runs; *root* is its file system."""

    root: Path
    init: int
    """The process id of its systemd, here."""

    def run(self, line: str, *, codes: tuple[int, ...] = (0,), folder: str = "/root") -> str:
        """Run a line of a shell as root, and return what it prints. Fails when it ends with another exit code."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root"]
        done = subprocess.run(
            [*enter, "/bin/sh", "-c", f"cd {folder} && {line}"],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LINE_SECONDS,
            check=False,
        )
        assert done.returncode in codes, f"{line}\n{done.stdout}"
        return done.stdout


def why_not() -> str | None:
    """Return why no Debian can be booted here, or ``None``."""
    if os.geteuid() != 0 or not (shutil.which("debootstrap") and shutil.which("systemd-nspawn")):
        return "a Debian is booted as root, with: apt-get install debootstrap systemd-container"
    return None


@contextmanager
def booted(folder: Path) -> Iterator[Debian]:
    """Make a Debian in *folder* and boot it; it is stopped and removed in the end."""
    root = folder / "debian"
    try:
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", str(root)]
        subprocess.run(command, check=True, capture_output=True)
        # what this machine trusts, so that pip reaches what it reaches from here
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        (root / "etc/pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
        with _running(root, folder / "boot.log") as debian:
            yield debian
    finally:
        subprocess.run(["/bin/rm", "-rf", "--one-file-system", root], check=True)


@contextmanager
def _running(root: Path, log: Path) -> Iterator[Debian]:
    # it is not registered: the machine that runs the tests may have no systemd
    options = ["--register=no", "--keep-unit", "--boot", "--kill-signal=SIGRTMIN+3", "--console=pipe"]
    with log.open("wb") as output:
        nspawn = subprocess.Popen(
            ["/usr/bin/systemd-nspawn", *options, f"--directory={root}"],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        assert eventually(lambda: bool(_first_processes(nspawn)), within=BOOT_SECONDS), log.read_text()
        debian = Debian(root, _first_processes(nspawn)[0])
        states = ("running", "degraded")
        assert eventually(
            lambda: debian.run("systemctl is-system-running", codes=(0, 1)).strip() in states, within=BOOT_SECONDS
        ), log.read_text()
        yield debian
    finally:
        nspawn.terminate()
        nspawn.wait(timeout=BOOT_SECONDS)


def _first_processes(nspawn: subprocess.Popen[bytes]) -> list[int]:
    """Return the first process of what *nspawn* boots, once there is one: its child with process ids of its own."""
    found = []
    for child in psutil.Process(nspawn.pid).children():
        with suppress(OSError):  # one that ended meanwhile
            if Path(f"/proc/{child.pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink():
                found.append(child.pid)
    return found
