"""``receiver files``: where receipts are, which are not here, and copies that people can read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from receiver.sandbox.provider import ApiFault
from tests.files.conftest import DAY, Receipts, content, receipts
from tests.support.factories import snapshot
from tests.support.log_lines import logging_as_it_was

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Organizations

__all__ = ["receipts"]

TRANSACTION = "transaction-1"


@pytest.fixture
def run(receipts: Receipts, environment: dict[str, str]) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        with logging_as_it_was():
            result = CliRunner(env=receipts.environment(environment)).invoke(main, ["files", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "signature" not in result.output
        return result

    return run


def test_path_of_a_receipt_is_found_by_purchase_and_by_hash(
    receipts: Receipts,
    run: Callable[..., Result],
) -> None:
    receipts.apply()
    receipts.fetch()
    (stored,) = receipts.stored()
    sha256 = receipts.row()["file_sha256"]
    for wanted in (TRANSACTION, sha256, sha256.upper()):
        assert (run("path", wanted).exit_code, run("path", wanted).stdout) == (0, f"{stored}\n")
    (row,) = json.loads(run("path", TRANSACTION, "--json").stdout)
    assert (row["path"], row["file_sha256"], row["organization_reference_id"]) == (str(stored), sha256, "acme")


def test_path_reports_why_a_file_is_missing(receipts: Receipts, run: Callable[..., Result]) -> None:
    unknown = run("path", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "no file for 'nobody'" in unknown.stderr
    receipts.apply()
    assert "the file is not downloaded: it is queued" in run("path", TRANSACTION).stderr
    receipts.provider.faults.add(ApiFault.answers(503, path="/files/"))
    receipts.fetch()
    failed = run("path", TRANSACTION)
    assert (failed.exit_code, failed.stderr) == (
        1,
        "receiver: the file is not downloaded: OpenCard answers 503\n",
    )


def test_missing_files_are_listed_with_the_reason(
    receipts: Receipts, run: Callable[..., Result], organizations: Organizations
) -> None:
    assert run("list").stdout == "all files are stored\n"
    receipts.apply("1.pdf", expires_in=-DAY)
    receipts.apply("2.pdf", url="https://elsewhere.example/2.pdf?signature=1")
    receipts.fetch()
    receipts.apply("3.pdf")
    rows = json.loads(run("list", "--json").stdout)
    assert sorted((row["status"], row["attempts"]) for row in rows) == [("expired", 1), ("refused", 1), ("waiting", 0)]
    assert {row["url"].rpartition("/")[2] for row in rows} == {"1.pdf", "2.pdf", "3.pdf"}
    (refused,) = json.loads(run("list", "--status", "refused", "--json").stdout)
    assert "its url is at https://elsewhere.example" in refused["error"]
    organizations.adopt("globex")
    assert json.loads(run("list", "--organization", "globex", "--json").stdout) == []
    assert len(run("list", "--limit", "1").stdout.splitlines()) == 2


def test_fetching_ignores_pauses_and_reports_the_outcome(receipts: Receipts, run: Callable[..., Result]) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(503, path="/files/"))
    failed = run("fetch", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)) == (
        1,
        {"stored": 0, "failed": 1, "given_up": 0, "error": None},
    )
    done = run("fetch")
    assert (done.exit_code, done.stdout.split()) == (0, ["stored", "1", "failed", "0", "given", "up", "0"])


def test_refused_receipts_are_fetched_again_on_request(receipts: Receipts, run: Callable[..., Result]) -> None:
    receipts.most = 10
    receipts.apply()
    assert run("fetch").exit_code == 1
    receipts.most = 100_000
    assert json.loads(run("fetch", "--json").stdout)["stored"] == 0
    assert json.loads(run("fetch", "--again", "--json").stdout)["stored"] == 1


def test_a_missing_scope_is_named(receipts: Receipts, run: Callable[..., Result]) -> None:
    receipts.provider.clients.set_scopes(receipts.client.id, ["webhooks-read"])
    receipts.apply()
    refused = run("fetch")
    assert refused.exit_code == 1
    assert "does not have the scope files-read, which files fetch needs" in refused.stderr


def test_copies_bear_names_that_people_can_read(receipts: Receipts, run: Callable[..., Result], tmp_path: Path) -> None:
    receipts.acme.apply("card.transaction.cleared", snapshot("cleared"))
    receipts.apply("1.pdf")
    receipts.apply("2.png")
    receipts.fetch()
    directory = tmp_path / "copies"
    assert run("export", str(directory)).stdout == f"2 files in {directory}\n"
    names = {path.name: path.read_bytes() for path in (directory / "acme").iterdir()}
    assert {name.rpartition("_")[0] for name in names} == {f"2026-02-13_Café-Müller_{TRANSACTION}"}
    assert sorted(names.values()) == sorted((content("1.pdf"), content("2.png")))
    assert {name.rpartition(".")[2] for name in names} == {"pdf", "png"}
    shown = json.loads(run("export", str(directory), "--json", "--organization", "acme", "--since", "1h").stdout)
    assert {each["path"] for each in shown} == {str(directory / "acme" / name) for name in names}
    assert json.loads(run("export", str(directory), "--json", "--since", "2200-01-01").stdout) == []


@pytest.mark.parametrize(
    "merchant", ["../../etc/passwd", "/etc", "..", "a\0b", "CON", "=HYPERLINK()", "\u202egnp.exe", "ü" * 300, "\n"]
)
def test_no_merchant_can_name_a_file_outside_of_the_folder(
    receipts: Receipts,
    run: Callable[..., Result],
    tmp_path: Path,
    merchant: str,
) -> None:
    receipts.acme.apply(
        "card.transaction.cleared", snapshot("cleared", purchase_merchant_common=merchant, purchase_merchant=merchant)
    )
    receipts.apply()
    receipts.fetch()
    directory = tmp_path / "copies"
    (copied,) = json.loads(run("export", str(directory), "--json").stdout)
    (copy,) = [path for path in tmp_path.rglob("*.pdf") if receipts.folder not in path.parents]
    assert (str(copy), copy.parent) == (copied["path"], directory / "acme")
    assert len(copy.name.encode()) < 255


def test_file_missing_in_the_store_is_reported(receipts: Receipts, run: Callable[..., Result], tmp_path: Path) -> None:
    receipts.apply()
    receipts.fetch()
    receipts.stored()[0].unlink()
    shown = run("export", str(tmp_path / "copies"))
    assert (shown.exit_code, shown.stdout) == (1, f"0 files in {tmp_path / 'copies'}\n")
    assert "is not in the store (FILES_URL)" in shown.stderr


def test_unwritable_folder_is_reported(receipts: Receipts, run: Callable[..., Result], tmp_path: Path) -> None:
    receipts.apply()
    receipts.fetch()
    directory = tmp_path / "copies"
    directory.mkdir()
    (directory / "acme").write_text("a file where a folder has to be")
    shown: Any = run("export", str(directory))
    assert shown.exit_code == 1
    assert shown.stderr.startswith("receiver: cannot write ")
