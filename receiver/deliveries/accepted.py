"""The answer to every delivery that is stored: always the same, so that the web server need not make it each time."""

from __future__ import annotations

from typing import Final

STATUS: Final = "200 OK"
BODY: Final = b"{}"
HEADERS: Final = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]
