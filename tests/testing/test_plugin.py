"""The kit as a developer of an EMS has it: the sample project's tests, by pytest, with the plugin."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from receiver.errors import OperationRefused
from receiver.sandbox.embedded import free_port
from receiver.testing.kit import ReceiverKit
from receiver.testing.stack import read_environment, running_stack
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.world import World

SAMPLE = Path(__file__).parent.parent.parent / "examples" / "bookkeeping"
RECEIVER = Path(sys.executable).with_name("receiver")
SECONDS = 120
QUICK = 0.5
"""A test takes at most this share of the start of the service, which is made once."""


def sample(*arguments: str, **variables: str) -> str:
    """Run the tests of the sample project as its developer does, and return what pytest prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with TemporaryDirectory() as folder:  # pytest closes the folder of an outer run to servers of other users
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "-vv", *arguments],
            cwd=SAMPLE,
            env={**environment, "PYTEST_DEBUG_TEMPROOT": folder, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_plugin_imports_nothing_until_it_is_used() -> None:
    script = (
        "import sys, receiver.testing.plugin\n"
        "print(sorted(name for name in sys.modules if name.startswith(('receiver.', 'sqlalchemy', 'psycopg'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['receiver.testing', 'receiver.testing.plugin']"


@pytest.mark.long
def test_each_test_of_the_sample_project_is_quick() -> None:
    # settings of the service in the environment of the tests have no effect on it
    printed = sample(SECRET_KEY="short", DATABASE_URL="postgresql://nowhere.invalid/ems", PORT="1")
    took = [float(seconds) for seconds in re.findall(r"^([0-9.]+)s call ", printed, re.MULTILINE)]
    started = max(float(seconds) for seconds in re.findall(r"^([0-9.]+)s setup ", printed, re.MULTILINE))
    assert len(took) >= 5
    assert max(took) < QUICK * started, printed


@pytest.mark.long
@pytest.mark.usefixtures("sigint")
def test_running_service_is_used_when_it_is_named(tmp_path: Path) -> None:
    log = tmp_path / "dev.log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [RECEIVER, "dev", "--idle", "--port", str(free_port())],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: "/ops/" in log.read_text() or dev.poll() is not None, within=SECONDS)
        assert dev.poll() is None, log.read_text()
        sample("-k", "adds_up or refused", OPENCARD_RECEIVER=str(tmp_path / ".data" / "dev" / "environment"))
        os.killpg(dev.pid, signal.SIGINT)
        assert dev.wait(timeout=SECONDS) == 0, log.read_text()
    finally:
        dev.kill()
        dev.wait()


def test_service_of_another_opencard_is_refused(world: World, environment: dict[str, str], tmp_path: Path) -> None:
    file = written(world, environment, tmp_path)
    with pytest.raises(OperationRefused, match="not registered at the local OpenCard"), running_stack(file):
        pass
    world.bootstrap()
    with running_stack(file) as stack:
        ReceiverKit(stack).empty()
        assert len(world.store.all()) == 1
    world.provider.state.remove_webhook(world.registered().id)
    with pytest.raises(OperationRefused, match="not registered at the local OpenCard"), running_stack(file):
        pass


def test_service_at_the_real_opencard_is_refused(world: World, environment: dict[str, str], tmp_path: Path) -> None:
    world.bootstrap()
    file = written(world, {**environment, "OPENCARD_API_URL": "https://api.opencard.io"}, tmp_path)
    with pytest.raises(OperationRefused, match="no local OpenCard"), running_stack(file):
        pass


def test_missing_file_names_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(OperationRefused, match="receiver dev writes it"):
        read_environment(tmp_path / "environment")


def written(world: World, environment: dict[str, str], folder: Path) -> Path:
    variables = {**world.environment(environment), **environment}
    file = folder / "environment"
    file.write_text("".join(f"export {name}='{value}'\n" for name, value in variables.items()))
    return file
