"""The project as a newcomer gets it: the demo, the development server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from receiver.sandbox.embedded import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
RECEIVER = Path(sys.executable).with_name("receiver")
SECONDS = 120


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
    assert shown["events_sent"] == shown["events_recorded"] == shown["rows"]["events"]
    assert shown["statuses"]["duplicate"] > 0
    assert shown["receipts_downloaded"] == shown["rows"]["receipts"] > 0
    assert len(shown["ledger"]) == 3
    assert not list(tmp_path.glob("*.log"))


@pytest.mark.usefixtures("sigint")
def test_dev_server_leaves_no_process_when_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [RECEIVER, "dev", "--port", str(free_port())],
            cwd=tmp_path,
            env={**os.environ, "LOG_LEVEL": "INFO"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: dev.poll() is not None or "batch.processed" in log.read_text(), within=SECONDS), (
            log.read_text()
        )
        assert dev.poll() is None, log.read_text()
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
