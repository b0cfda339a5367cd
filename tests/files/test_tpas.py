"""The documents of signed TPAs are kept as receipts are: same queue, same rules, another scope."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.errors import DownloadRefused
from receiver.files.downloads import FileKind, StoredFile, claim, complete_download, record_failure
from receiver.sandbox.provider import ApiFault
from receiver.sandbox.receipt_files import TPA_PATH, tpa_document
from tests.support.log_lines import logging_as_it_was

if TYPE_CHECKING:
    from tests.files.conftest import Receipts


def sign(receipts: Receipts, file: str = "tpa-7.pdf", *, tpa: str = "tpa-7", **fields: Any) -> str:
    """Let OpenCard report a TPA as signed; return the URL of its document."""
    url = f"{receipts.api_url}{TPA_PATH}{file}"
    payload = {
        "id": tpa,
        "name": "Acme AB",
        "organization_number": "5561234567",
        "url": url,
        "organization": {"reference_id": "acme"},
        **fields,
    }
    receipts.acme.apply("tpa.signed", payload)
    return url


def tpa(receipts: Receipts) -> dict[str, Any]:
    return receipts.acme.row("SELECT * FROM ems.tpas")


def test_a_document_is_kept_and_the_ems_sees_where(receipts: Receipts) -> None:
    sign(receipts)
    assert receipts.fetch().stored == 1
    sha256 = hashlib.sha256(tpa_document("tpa-7.pdf")).hexdigest()
    row = tpa(receipts)
    assert (row["file_key"], row["file_sha256"]) == (f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}.pdf", sha256)
    assert (row["file_size"], row["download_error"]) == (len(tpa_document("tpa-7.pdf")), None)
    assert row["downloaded_at"] is not None
    assert (receipts.folder / row["file_key"]).read_bytes() == tpa_document("tpa-7.pdf")
    assert receipts.acme.rows("SELECT * FROM receiver.receipt_downloads") == []


def test_its_token_can_do_nothing_but_read_tpas(receipts: Receipts) -> None:
    sign(receipts)
    receipts.fetch()
    assert receipts.provider.requests.scopes_asked() == {"account-tpas-read"}
    assert receipts.provider.requests.scopes_used() == {"account-tpas-read"}


@pytest.mark.parametrize(
    ("scope", "blocked", "stored"),
    [("files-read", FileKind.TPA, "receipts"), ("account-tpas-read", FileKind.RECEIPT, "tpas")],
)
def test_a_missing_scope_of_one_kind_stops_no_other(
    receipts: Receipts, scope: str, blocked: FileKind, stored: str
) -> None:
    receipts.provider.clients.set_scopes(receipts.client.id, [scope])
    for number in range(3):
        sign(receipts, f"{number}.pdf", tpa=f"tpa-{number}")
        receipts.apply(f"{number}.pdf")
    tally = receipts.fetch()
    assert (tally.stored, list(tally.blocked)) == (3, [blocked])
    assert receipts.acme.value(f"SELECT count(file_key) FROM ems.{stored}") == 3  # noqa: S608
    assert f"does not have the scope {blocked.route.scope}" in str(tally.blocked[blocked])


def test_a_newer_document_takes_the_place_of_the_older(receipts: Receipts) -> None:
    sign(receipts, "old.pdf")
    receipts.fetch()
    before = tpa(receipts)
    sign(receipts, "old.pdf", name="Acme Group AB")
    assert tpa(receipts)["file_key"] == before["file_key"], "the document is the same"
    sign(receipts, "new.pdf")
    assert (tpa(receipts)["file_key"], tpa(receipts)["downloaded_at"]) == (None, None)
    assert receipts.fetch().stored == 1
    assert tpa(receipts)["file_sha256"] == hashlib.sha256(tpa_document("new.pdf")).hexdigest()
    assert tpa(receipts)["signed_at"] == before["signed_at"]


def test_document_replaced_meanwhile_is_not_marked_as_stored(receipts: Receipts) -> None:
    sign(receipts, "old.pdf")
    late = claim(receipts.acme.engine, list(FileKind))
    assert late is not None
    sign(receipts, "new.pdf")
    complete_download(receipts.acme.engine, late, StoredFile("sha256/aa/bb/old.pdf", 1, "aabb"))
    assert tpa(receipts)["file_key"] is None
    receipts.be_due()
    assert receipts.fetch().stored == 1


def test_a_late_failure_of_a_replaced_document_is_ignored(receipts: Receipts) -> None:
    sign(receipts, "old.pdf")
    late = claim(receipts.acme.engine, list(FileKind))
    assert late is not None
    sign(receipts, "new.pdf")
    record_failure(receipts.acme.engine, late, DownloadRefused("larger than 1 byte"))
    assert (receipts.download()["status"], tpa(receipts)["download_error"]) == ("waiting", None)
    assert receipts.fetch().stored == 1


def test_a_tpa_without_a_url_waits_for_nothing(receipts: Receipts) -> None:
    sign(receipts, url=None)
    assert receipts.acme.rows("SELECT * FROM receiver.receipt_downloads") == []


@pytest.mark.parametrize("kind", ["login-page", "login-redirect", "error-page"])
def test_an_html_page_is_never_kept_as_a_document(receipts: Receipts, kind: str) -> None:
    sign(receipts)
    receipts.provider.faults.add(ApiFault(kind, path=TPA_PATH, times=2))  # type: ignore[arg-type]
    assert receipts.fetch().failed == 1
    assert (tpa(receipts)["file_key"], receipts.stored()) == (None, [])
    assert "instead of JSON or a file" in tpa(receipts)["download_error"]
    receipts.be_due()
    assert receipts.fetch().stored == 1
    assert tpa(receipts)["download_error"] is None


def test_it_is_found_listed_and_exported(receipts: Receipts, environment: dict[str, str]) -> None:
    runner = CliRunner(env=receipts.environment(environment))
    sign(receipts)
    listed = runner.invoke(main, ["files", "list"])
    assert (listed.exit_code, "tpa-7" in listed.stdout) == (0, True)
    assert "the file is not downloaded" in runner.invoke(main, ["files", "path", "tpa-7"]).stderr
    with logging_as_it_was():
        assert runner.invoke(main, ["files", "fetch"]).exit_code == 0
    path = runner.invoke(main, ["files", "path", "tpa-7"]).stdout.strip()
    assert path.endswith(".pdf")
    copies = receipts.folder.parent / "copies"
    assert runner.invoke(main, ["files", "export", str(copies)]).exit_code == 0
    [copy] = (copies / "acme").iterdir()
    assert "_TPA_tpa-7_" in copy.name
    assert copy.read_bytes() == tpa_document("tpa-7.pdf")
