"""``receiver export``: what it writes where, and what it leaves behind when it is ended."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.exports.cells import cell, line, quoted, unquoted
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from sqlalchemy import Engine

    from tests.conftest import Acme

RECEIVER = Path(sys.executable).with_name("receiver")
ROWS = 300_000
MAX_MEGABYTES = 200
FILL = """
INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id, original_amount,
    original_currency, accounting_amount, accounting_currency, purchase_merchant, purchase_city, mcc_text,
    purchase_date, booked_on, cleared_at, snapshot_at, delivery_id, updated_at)
SELECT 'acme', 'transaction-' || number, 'cleared', 'employee-17', number + 0.01, 'SEK', number + 0.99, 'EUR',
    repeat('Merchant ', 10), 'Stockholm', repeat('Groceries ', 5), '2026-02-13', '2026-02-13', now(), now(),
    number, now()
FROM generate_series(1, :rows) AS number
"""
PROGRAM = """
import pathlib, re, sys
class WithoutPandas:  # as the service is installed; pyarrow imports it where it is
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutPandas)
from receiver.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert ended.code == 0, ended.code
# not ru_maxrss, which a process inherits from the one that started it
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


def test_parquet_needs_a_file(export: Callable[..., Result]) -> None:
    result = export("ledger", "--format", "parquet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give a file with --output" in result.stderr


def test_without_the_extra_parquet_says_how_to_get_it(
    acme: Acme, export: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del acme
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = export("ledger", "--format", "parquet", "--output", tmp_path / "export.parquet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Parquet needs a library that is not installed: pip install 'opencard-receiver[parquet]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_unwritable_target_is_reported(acme: Acme, export: Callable[..., Result], tmp_path: Path) -> None:
    del acme
    result = export("ledger", "--output", tmp_path / "missing" / "export.csv")
    assert result.exit_code == 1
    assert result.stderr == f"receiver: cannot write {tmp_path}/missing/export.csv: No such file or directory\n"


def test_a_new_export_takes_the_place_of_the_old_one(
    filled: Acme, export: Callable[..., Result], tmp_path: Path
) -> None:
    del filled
    path = tmp_path / "export.csv"
    path.write_text("of yesterday")
    assert export("ledger", "--output", path).exit_code == 0
    assert path.read_text().startswith("organization_reference_id,")
    assert (list(tmp_path.iterdir()), path.stat().st_mode & 0o777) == ([path], 0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.fixture
def much(acme: Acme) -> Engine:
    acme.execute(FILL, rows=ROWS)
    return acme.engine


@pytest.mark.long
@pytest.mark.parametrize("how", ["csv", "jsonl", "parquet"])
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_large_export_needs_little_memory(much: Engine, environment: dict[str, str], tmp_path: Path, how: str) -> None:
    del much
    path = tmp_path / "export"
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, "export", "transactions", "--format", how, "--output", str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stderr.split()
    assert said[0] == str(ROWS)
    assert int(said[-1]) / 1024 < MAX_MEGABYTES
    if how != "parquet":
        with path.open() as written:
            assert sum(1 for _ in written) == ROWS + (how == "csv")


@pytest.mark.long
@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_an_export_that_is_ended_leaves_what_was_there(
    much: Engine, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    del much
    path = tmp_path / "export.csv"
    path.write_text("of yesterday")
    with subprocess.Popen(
        [RECEIVER, "export", "transactions", "--output", str(path)],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
    ) as exporting:
        assert eventually(lambda: any(half.stat().st_size for half in tmp_path.glob(".*.part")), within=60)
        exporting.send_signal(number)
        assert exporting.wait(timeout=60) != 0
    assert path.read_text() == "of yesterday"
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.long
def test_a_reader_that_has_seen_enough_ends_the_export_quietly(much: Engine, environment: dict[str, str]) -> None:
    del much
    said = subprocess.run(
        ["/bin/sh", "-c", f"{RECEIVER} export transactions | head -2"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (len(said.stdout.splitlines()), said.stderr) == (2, "")


TEXTS = st.text(alphabet=st.sampled_from("'=+-@\t\r\n,\"a ") | st.characters(codec="utf-8"))


@given(TEXTS)
def test_no_text_becomes_a_formula_and_each_can_be_restored(words: str) -> None:
    assert not quoted(words).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unquoted(quoted(words)) == words


@given(st.lists(st.none() | TEXTS.filter(lambda words: "\0" not in words), min_size=2, max_size=5))
def test_a_line_is_read_back_as_it_was_written(cells: list[str | None]) -> None:

    (read,) = csv.reader(io.StringIO(line(cells), newline=""), strict=True)
    assert read == [words or "" for words in cells]
    assert [cell(words) == "" for words in cells] == [words is None for words in cells]


def test_a_link_is_followed_and_a_pipe_is_written_to(export: Callable[..., Result], tmp_path: Path) -> None:
    kept, link, pipe = tmp_path / "kept.csv", tmp_path / "link.csv", tmp_path / "pipe"
    link.symlink_to(kept)
    assert export("ledger", "--output", link).exit_code == 0
    assert link.is_symlink()
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        assert export("ledger", "--output", pipe).exit_code == 0
        assert read.result(30) == kept.read_bytes()
    assert pipe.is_fifo()
