"""Which headers are kept with a delivery: the evidence, never the credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.webhooks.header_rules import CREDENTIALS, KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable

NOT_KEPT: Final = "(not kept)"


def evidence(headers: Iterable[tuple[str, str]], *, custom_key: str, previous_custom_key: str = "") -> dict[str, str]:
    """Return the headers to store: credentials are dropped, those under the webhook's own custom keys among them.

    Custom headers registered on a webhook often carry secrets too, so of headers that this service does not know,
    only the name is kept.
    """
    dropped = CREDENTIALS | {custom_key.lower(), previous_custom_key.lower()}
    kept = {}
    for name, value in headers:
        lower = name.lower()
        if lower not in dropped:
            kept[name] = value if lower in KEPT else NOT_KEPT
    return kept
