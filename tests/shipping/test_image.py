"""The Dockerfile: valid, built for real, and what it builds runs as an ordinary user in a root that is read-only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import make_url

from receiver.sandbox.embedded import LOOPBACK, free_port
from tests.support.image import Image, built
from tests.support.locks import ROOT
from tests.support.tools import needs, tool
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

builds_images = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("buildah") and shutil.which("debootstrap")),
    reason="images are built as root, with: apt-get install buildah debootstrap",
)


@needs("hadolint")
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([tool("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@contextmanager
def started(image: Image, command: list[str], env: dict[str, str], *, socket: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program meanwhile; it ends when it is asked to."""
    with image.start(command, env, socket=socket) as program:
        try:
            yield program
        finally:
            program.terminate()
            output, _ = program.communicate(timeout=60)
        assert program.returncode in {0, -signal.SIGTERM}, output  # the latter before it has prepared for it


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def check_contents(image: Image) -> None:
    """No pip, no compiler, no sources, no secret."""
    assert image.configuration["User"] == "10001:10001"
    programs = {path.name for path in image.root.glob("opt/receiver/bin/*")}
    assert {"gunicorn", "receiver"} <= programs
    assert not {"pip", "pip3"} & programs
    for folder in ("usr/bin", "usr/local/bin", "bin"):
        assert not {"gcc", "cc", "ld", "make"} & {path.name for path in (image.root / folder).glob("*")}
    assert not list(image.root.glob("opt/receiver/**/.env"))
    assert not (image.root / "src").exists()


@pytest.mark.long
@pytest.mark.timeout(900)
@builds_images
def test_image_takes_deliveries_from_a_read_only_root(
    new_database: Callable[[], str], redis_url: str, tmp_path: Path
) -> None:
    database = make_url(new_database())
    folder = database.query.get("host", "")
    socket = f"{folder}/.s.PGSQL.5432" if str(folder).startswith("/") else ""
    host = {"host": "/tmp"} if socket else {}  # noqa: S108 - in the image
    port = free_port()
    env = {
        "DATABASE_URL": database.update_query_dict(host).render_as_string(hide_password=False),
        "REDIS_URL": redis_url,
        "PUBLIC_URL": f"http://{LOOPBACK}:{port}",
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "PORT": str(port),
    }
    with built(tmp_path / "image") as image:
        check_contents(image)
        assert image.run(["id", "-u"], env).strip() == "10001"
        with pytest.raises(AssertionError, match="Read-only file system"):
            image.run(["touch", "/opt/receiver/new"], env)
        image.run(["receiver", "db", "upgrade"], env, socket=socket)
        check, *healthcheck = image.configuration["Healthcheck"]["Test"]
        assert check == "CMD"
        with started(image, image.configuration["Cmd"], env, socket=socket):
            eventually(lambda: is_ready(env["PUBLIC_URL"]))
            image.run(healthcheck, env)
        for command in (["receiver", "worker"], ["receiver", "scheduler"]):
            with started(image, command, env, socket=socket) as program:
                assert program.stdout is not None
                assert "started" in program.stdout.readline()
