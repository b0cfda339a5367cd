"""The project as a newcomer or an operator gets it: the wheel, the demo, the development server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from receiver.sandbox.embedded import free_port

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
RECEIVER = Path(sys.executable).with_name("receiver")
SECONDS = 120


def test_an_installed_package_brings_its_migrations_and_its_procfile(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(tmp_path / "site"),
            str(wheel),
        ],
        check=True,
    )
    names = zipfile.ZipFile(wheel).namelist()
    assert {"receiver/Procfile", "receiver/migrations/env.py", "receiver/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]
    asked = "from receiver import migrate; print(migrate.__file__, migrate.head_revision())"
    shown = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert shown[0].startswith(str(tmp_path / "site"))
    assert shown[1].isdigit()


def test_the_demo_ends_with_equal_counts_and_one_json_document(tmp_path: Path) -> None:
    done = subprocess.run(
        [RECEIVER, "demo", "--purchases", "40", "--seed", "5", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["complete"] is True
    assert shown["events_told"] == shown["events_recorded"] == shown["rows"]["events"]
    assert shown["statuses"]["duplicate"] > 0
    assert shown["receipts_downloaded"] == shown["rows"]["receipts"] > 0
    assert len(shown["ledger"]) == 3
    assert not list(tmp_path.glob("*.log"))


@pytest.mark.usefixtures("sigint")
def test_the_development_server_streams_until_it_is_interrupted_and_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [RECEIVER, "dev", "--port", str(free_port())],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while "batch processed" not in log.read_text():
            assert dev.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        family = psutil.Process(dev.pid).children(recursive=True)
        os.killpg(dev.pid, signal.SIGINT)
        assert dev.wait(timeout=SECONDS) == 0, log.read_text()
    finally:
        dev.kill()
        dev.wait()
    _gone, alive = psutil.wait_procs(family, timeout=SECONDS)
    assert alive == []
    shown = log.read_text()
    assert "/hooks/opencard/" in shown
    assert "ems.ledger" in shown
    assert "Traceback" not in shown
