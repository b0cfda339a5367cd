"""The demo's EMS goes aboard: its organizations at the local OpenCard, and bootstrap registers their webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.bootstrap.desired import understand
from receiver.bootstrap.run import Bootstrap, Options
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.opencard.auth import Access
from receiver.progress import Progress
from receiver.sandbox.local import ORGANIZATIONS

if TYPE_CHECKING:
    from receiver.bootstrap.run import Result
    from receiver.sandbox.local import LocalServers
    from receiver.settings import Settings

SILENT: Final = Progress()
AUTHENTICATION: Final = ("basic", "custom", "oauth")
"""How OpenCard authenticates its deliveries to each of the organizations."""
CONFIGURATION: Final = {
    "headers": {"X-Environment": "demo"},
    "organizations": [
        {"reference_id": reference, "authentication_type": kind}
        for reference, kind in zip(ORGANIZATIONS, AUTHENTICATION, strict=True)
    ],
}
"""What a ``webhooks.toml`` of the demo would say."""


def register(servers: LocalServers, settings: Settings, progress: Progress = SILENT) -> Result:
    """Register the webhooks that ``CONFIGURATION`` wants at the OpenCard that *settings* name.

    Raises ``OperationRefused`` when one of them is not registered and active in the end.
    """
    command = Bootstrap(servers.engine, Encryption(settings.encryption_keys), Access.of(settings), settings.public_url)
    result = command.run(understand(CONFIGURATION, {}, name="the demo"), Options(), progress)
    if result.failures:
        raise OperationRefused(
            "; ".join(f"{failure.organization_reference_id}: {failure.error}" for failure in result.failures)
        )
    return result
