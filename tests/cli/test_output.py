"""Where output goes: encodings that lack a character, disks that are full."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from receiver.cli import COMMANDS
from receiver.opencard.secret_file import secret_file
from tests.files.conftest import Receipts, receipts
from tests.support.factories import snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

__all__ = ["receipts"]

RECEIVER = Path(sys.executable).with_name("receiver")
FULL = Path("/dev/full")
MERCHANT = "Kaf\N{LATIN SMALL LETTER E WITH ACUTE} \N{SNOWMAN}"
needs_a_full_device = pytest.mark.skipif(not FULL.exists(), reason=f"there is no {FULL}: Linux has one")


def run(
    *arguments: object,
    environment: dict[str, str],
    encoding: str | None = None,
    into: Path | None = None,
    most_bytes: int | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the program as a shell does; *most_bytes*: no file may grow larger, as on a disk that becomes full."""
    with (into or Path(os.devnull)).open("wb") as file:
        return subprocess.run(
            [RECEIVER, *map(str, arguments)],
            env={**os.environ, **environment, **({"PYTHONIOENCODING": encoding} if encoding else {})},
            stdout=file if into else subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
            preexec_fn=None if most_bytes is None else lambda: _limit(most_bytes),
        )


def _limit(most_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def lines(ended: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return what was said on standard error, the lines that are no log."""
    return [line for line in ended.stderr.decode().splitlines() if not line.startswith("{")]


HELP_OF_EACH = """
import sys
from receiver.cli import COMMANDS, main
for words in ([], *([name] for name in COMMANDS)):
    try:
        main([*words, "--help"])
    except SystemExit as ended:
        assert ended.code == 0, words
"""


def test_help_is_printed_where_the_encoding_lacks_characters() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HELP_OF_EACH],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    for command in COMMANDS:
        assert f"\n  {command} ".encode() in ended.stdout


def test_unencodable_text_is_replaced_and_json_is_utf_8(
    organizations: Organizations, environment: dict[str, str]
) -> None:
    organizations.adopt(MERCHANT)
    shown = run("webhooks", "list", environment=environment, encoding="latin-1")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert "Kafé ?".encode("latin-1") in shown.stdout
    document = run("webhooks", "list", "--json", environment=environment, encoding="latin-1")
    (webhook,) = json.loads(document.stdout.decode("utf-8"))
    assert webhook["organization_reference_id"] == MERCHANT


@pytest.fixture
def filled(acme: Acme) -> Acme:
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_merchant=MERCHANT))
    return acme


@needs_a_full_device
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "export ledger",
        "webhooks list",
        "webhooks list --json",
    ],
)
def test_a_full_disk_is_one_line_and_exit_code_1(filled: Acme, environment: dict[str, str], command: str) -> None:
    del filled
    ended = run(*command.split(), environment=environment, into=FULL)
    assert ended.returncode == 1
    assert lines(ended) == ["receiver: cannot write the output: No space left on device"]


@needs_a_full_device
def test_standard_error_on_a_full_disk_leaves_the_exit_code(environment: dict[str, str]) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{RECEIVER} webhooks show 1 >{FULL} 2>{FULL}"],
        env={**os.environ, **environment},
        check=False,
    )
    assert ended.returncode == 1


@pytest.mark.parametrize("how", ["csv", "jsonl", "parquet"])
def test_an_export_that_has_no_room_leaves_what_was_there(
    filled: Acme, environment: dict[str, str], tmp_path: Path, how: str
) -> None:
    del filled
    path = tmp_path / "export"
    path.write_text("of yesterday")
    ended = run("export", "ledger", "--format", how, "--output", path, environment=environment, most_bytes=100)
    assert ended.returncode == 1
    assert lines(ended) == [f"receiver: cannot write {path}: File too large"]
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"export": "of yesterday"}


def test_a_copy_of_a_receipt_that_has_no_room_is_removed(
    receipts: Receipts, environment: dict[str, str], tmp_path: Path
) -> None:
    receipts.apply()
    receipts.fetch()
    folder = tmp_path / "copies"
    ended = run("files", "export", folder, environment=receipts.environment(environment), most_bytes=100)
    assert ended.returncode == 1
    (line,) = lines(ended)
    assert line.startswith(f"receiver: cannot write {folder}/acme/")
    assert line.endswith(": File too large")
    assert not [each for each in folder.rglob("*") if each.is_file()]


WRITE_A_SECRET = """
import resource, sys, pathlib
from receiver.opencard.secret_file import secret_file
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
with secret_file(pathlib.Path(sys.argv[1])) as write:
    try:
        write("a-secret-of-more-than-ten-bytes")
    except OSError as error:
        raise SystemExit(f"lost: {error.strerror}")
"""


def test_a_secret_that_has_no_room_is_an_error_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_A_SECRET, path], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stderr.splitlines() in (["lost: File too large"], ["lost: No space left on device"])
    assert list(tmp_path.iterdir()) == []
    with secret_file(path) as write:
        write("a-secret")
    assert path.read_text() == "a-secret\n"
