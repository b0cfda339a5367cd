"""The onboarding of the demo's EMS: its organizations at the local OpenCard, and bootstrap registers their webhooks."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.bootstrap.desired import parse_configuration
from receiver.bootstrap.run import Bootstrap, BootstrapOptions
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.opencard.auth import Access
from receiver.progress import Progress

if TYPE_CHECKING:
    from receiver.bootstrap.run import BootstrapResult
    from receiver.sandbox.local import LocalServers
    from receiver.settings import Settings

SILENT: Final = Progress()
ADDED_AT: Final = "2020-01-01 00:00Z"
"""The organizations count as added then, so that the months of made-up purchases can be closed."""
_ADDED: Final = text("UPDATE ems.organizations SET added_at = :at, log_begins_at = :at")
CONFIGURATION: Final = """# What receiver dev and receiver demo want; webhooks.example.toml shows what else there is.
[headers]
X-Environment = "demo"

[[organizations]]
reference_id = "nordlys-as"
authentication_type = "basic"

[[organizations]]
reference_id = "kaffe-och-papper-ab"
authentication_type = "custom"

[[organizations]]
reference_id = "saimaan-kirjakauppa-oy"
authentication_type = "oauth"
"""


def register(servers: LocalServers, settings: Settings, progress: Progress = SILENT) -> BootstrapResult:
    """Register the webhooks that ``CONFIGURATION`` wants at the OpenCard that *settings* name.

    Raises ``OperationRefused`` when one of them is not registered and active in the end.
    """
    command = Bootstrap(servers.engine, Encryption(settings.encryption_keys), Access.of(settings), settings.public_url)
    wanted = parse_configuration(tomllib.loads(CONFIGURATION), {}, name="the demo's configuration")
    result = command.run(wanted, BootstrapOptions(), progress)
    if result.failures:
        raise OperationRefused(
            "; ".join(f"{failure.organization_reference_id}: {failure.error}" for failure in result.failures)
        )
    with servers.engine.begin() as connection:
        connection.execute(_ADDED, {"at": ADDED_AT})
    return result
