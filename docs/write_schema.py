"""Writes docs/schema.md from a freshly migrated database: ``make docs``."""

from __future__ import annotations

from pathlib import Path

from receiver.readers.dictionary import dictionary
from receiver.sandbox.local import local_servers

if __name__ == "__main__":
    with local_servers("docs") as servers, servers.engine.connect() as connection:
        Path(__file__).with_name("schema.md").write_text(dictionary(connection), encoding="utf-8")
