"""An organization whose receipts are at a local OpenCard, and what downloads them: all over real HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from receiver.encryption import Encryption
from receiver.files.fetch import Fetcher, FetchTally
from receiver.files.store import FileStore
from receiver.opencard.auth import Access
from receiver.opencard.tokens import StoredTokens
from receiver.sandbox.provider import SCOPES, Client, Provider, environment, serving
from receiver.sandbox.receipt_files import MEDIA_TYPES, receipt_file, signed_url
from tests.support.factories import enrichment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.settings import Settings
    from tests.conftest import Acme

DAY = timedelta(days=1)


@dataclass
class Receipts:
    """The receipts of acme, from OpenCard's end to ours."""

    acme: Acme
    provider: Provider
    client: Client
    api_url: str
    folder: Path
    settings: Settings
    most: int = 100_000
    files_url: str = field(default="")

    def apply(
        self, name: str = "1.pdf", *, url: str | None = None, expires_in: timedelta | None = DAY, **changes: Any
    ) -> str:
        """Deliver and process a receipt's event; return its URL."""
        expires_at = datetime.now(UTC) + (expires_in or DAY)
        url = url or signed_url(self.api_url, name, expires_at)
        fields = {
            "url": url,
            "content_type": MEDIA_TYPES.get(name.rpartition(".")[2]),
            "expiration_time": None if expires_in is None else f"{expires_at:%Y-%m-%d %H:%M:%S}",
            **changes,
        }
        self.acme.apply("receipt.fetched", enrichment("receipt.fetched", **fields))
        return url

    def access(self) -> Access:
        return Access(self.api_url, str(self.client.account_id), self.client.id, self.client.secret)

    def fetch(self) -> FetchTally:
        """Download what is due."""
        tokens = StoredTokens(self.acme.engine, Encryption(self.settings.encryption_keys))
        store = FileStore(self.files_url or str(self.folder))
        return Fetcher(self.acme.engine, self.access(), tokens, store, max_bytes=self.most).run(seconds=60)

    def row(self) -> dict[str, Any]:
        """Return the one receipt, as the EMS reads it."""
        return self.acme.row("SELECT * FROM ems.receipts")

    def download(self) -> dict[str, Any]:
        """Return what is known of the one download that is not done."""
        return self.acme.row("SELECT * FROM receiver.receipt_downloads")

    def stored(self) -> list[Path]:
        """Return every file below the folder, half ones included."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def be_due(self) -> None:
        """Let the pause before the next attempt be over."""
        self.acme.execute("UPDATE receiver.receipt_downloads SET next_attempt_at = now()")

    def environment(self, settings_environment: dict[str, str]) -> dict[str, str]:
        """Return the environment of a process of this receiver."""
        return {
            **settings_environment,
            **environment(self.api_url, self.client),
            "FILES_URL": str(self.folder),
            "FILES_MAX_BYTES": str(self.most),
        }

    def failure(self, status: str = "waiting") -> str:
        """Return why the one download failed, which the EMS sees as well; it has *status*, and nothing is stored."""
        download, row = self.download(), self.row()
        assert (download["status"], row["file_key"], self.stored()) == (status, None, [])
        assert row["download_error"] == download["error"]
        assert "signature" not in download["error"], "the URL's query may be a secret"
        return str(download["error"])


@pytest.fixture
def receipts(acme: Acme, settings: Settings, tmp_path: Path) -> Iterator[Receipts]:
    provider = Provider()
    client = provider.clients.add("ems", scopes=SCOPES)
    with serving(provider) as url:
        yield Receipts(acme, provider, client, url, tmp_path / "files", settings)


def content(name: str) -> bytes:
    """Return what is in a file at OpenCard."""
    return receipt_file(name)
