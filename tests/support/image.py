"""The image, built by buildah in a folder of its own, and a read-only root to run it in: no container engine is needed.

The Dockerfile's base image cannot be fetched everywhere, so Debian's own packages of the same release take its place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.locks import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BASE = "localhost/debian-trixie-python"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
READ_ONLY = """
set -e
root=$1 socket=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs none "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o uid=10001,gid=10001 none "$root/var/lib/receiver/files"
if [ -n "$socket" ]; then
    touch "$root/tmp/.s.PGSQL.5432"
    mount --bind "$socket" "$root/tmp/.s.PGSQL.5432"
fi
exec setpriv --no-new-privs chroot --userspec=10001:10001 "$root" "$@"
"""


@dataclass(frozen=True)
class Image:
    """What was built: its configuration, and its files as a folder."""

    configuration: dict[str, Any]
    root: Path

    def start(self, command: Sequence[str], env: dict[str, str], *, socket: str = "") -> subprocess.Popen[str]:
        """Start a program as the image's user, with nothing to write to but /tmp, /dev/shm and the folder for files."""
        defaults = dict(each.split("=", 1) for each in self.configuration["Env"])
        return subprocess.Popen(
            ["/usr/bin/unshare", "--mount", "sh", "-c", READ_ONLY, "sh", self.root, socket, *command],
            env={**defaults, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: Sequence[str], env: dict[str, str], *, socket: str = "") -> str:
        """Run a program to its end, and return what it prints; fails when it does."""
        program = self.start(command, env, socket=socket)
        output, _ = program.communicate(timeout=120)
        assert program.returncode == 0, output
        return output


@contextmanager
def built(folder: Path) -> Iterator[Image]:
    """Build the Dockerfile in *folder*, and remove it in the end; every line of it is carried out."""
    try:
        yield _build(folder)
    finally:
        subprocess.run(["/bin/rm", "-rf", "--one-file-system", folder], check=True)  # some gigabytes


def _build(folder: Path) -> Image:
    debian = folder / "debian"
    folder.mkdir()
    include = "--include=python3,python3-venv,ca-certificates"
    bootstrap = ["/usr/sbin/debootstrap", "--variant=minbase", include, "trixie", str(debian)]
    subprocess.run(bootstrap, check=True, capture_output=True)
    (debian / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    # what this machine trusts, so that pip reaches what it reaches from here
    shutil.copy(CERTIFICATES, debian / CERTIFICATES.relative_to("/"))
    (debian / "etc/pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")

    def buildah(*arguments: str | Path) -> str:
        store = ["--storage-driver", "vfs", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        done = subprocess.run(["/usr/bin/buildah", *store, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout).strip()

    base = buildah("from", "scratch")
    buildah("copy", "--quiet", base, debian, "/")
    buildah("commit", "--quiet", base, BASE)
    built = ["--isolation", "chroot", "--format", "docker", "--build-arg", f"PYTHON={BASE}"]
    buildah("bud", *built, "--tag", "receiver", ROOT)
    root = buildah("mount", buildah("from", "--pull-never", "receiver"))
    return Image(json.loads(buildah("inspect", "--type", "image", "receiver"))["Docker"]["config"], Path(root))
