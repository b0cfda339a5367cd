"""Adds this release's columns of schema ``ems`` to docs/promises.json: ``make promises``, once for each release.

What is promised once is never taken back here: it fails instead.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from receiver.readers.promises import broken, columns
from receiver.sandbox.local import local_servers

PAGE = Path(__file__).with_name("promises.json")

if __name__ == "__main__":
    with local_servers("docs") as servers, servers.engine.connect() as connection:
        present = columns(connection)
    taken_back = broken(json.loads(PAGE.read_text()) if PAGE.exists() else {}, present)
    if taken_back:
        sys.exit("\n".join(taken_back))
    PAGE.write_text(json.dumps(present, indent=2) + "\n", encoding="utf-8")
