"""The doctor: checks everything that this service depends on, and says of each whether it is ok, or what to do.

One broken thing hides no other: what needs it is not checked and says so, everything else is. Nothing is written,
neither here nor at OpenCard, and no secret is shown.

- ``doctor_findings``  what is found, one line each
- ``doctor_stores``    PostgreSQL, migrations, encryption keys, Redis
- ``doctor_opencard``  OpenCard's API, the client and its scopes, the account, the webhooks
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from receiver.bootstrap.desired import Configuration, read_configuration
from receiver.bootstrap.endpoint import challenge_endpoint
from receiver.db import engine_for
from receiver.errors import ConfigurationError
from receiver.ops.doctor_findings import CheckResult, CheckResults, CheckState, why_not
from receiver.ops.doctor_opencard import GROUP_SCOPES, HEADER_SCOPES, PUBLIC_ADDRESS, OpenCardChecks
from receiver.ops.doctor_stores import (
    KEYS,
    WEBHOOKS,
    check_database,
    check_keys,
    check_redis,
    managed_webhooks,
    readable_secret,
)
from receiver.ops.openid.answers import ProviderUnavailable
from receiver.ops.openid.provider import OpenIDProvider
from receiver.tls import tls_context
from receiver.webhooks.addresses import endpoint_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from receiver.ops.doctor_stores import CheckedWebhook
    from receiver.settings import Settings

SETTINGS: Final = "settings"
SIGN_IN: Final = "sign-in"
CONFIGURATION: Final = "configuration"
TIMEOUT: Final = httpx.Timeout(10, connect=5)


def examine(
    settings: Settings, problems: dict[str, str], *, configuration: Path | None, environ: Mapping[str, str]
) -> list[CheckResult]:
    """Return what is found. *settings* and *problems* come from ``read_settings``; *configuration* is bootstrap's."""
    findings = CheckResults()
    for problem in problems.values():
        findings.broken(SETTINGS, problem)
    if not problems:
        findings.ok(SETTINGS, "all variables are valid")
    desired, unknown = _configuration(configuration, environ, findings)
    engine = None if why_not(problems, "DATABASE_URL") else engine_for(settings.database_url, application="doctor")
    try:
        check_database(engine, problems, findings)
        check_keys(engine, settings, problems, findings)
        webhooks = managed_webhooks(engine, findings)
    finally:
        if engine is not None:
            engine.dispose()
    check_redis(settings, problems, findings)
    opencard = OpenCardChecks(settings, problems, findings)
    opencard.check_api()
    opencard.check_client(wanted=_wanted_scopes(desired), unknown=unknown)
    opencard.check_organizations()
    _check_public_address(webhooks, settings, problems, findings)
    _check_sign_in(settings, findings)
    if webhooks is not None:
        opencard.check_webhooks(webhooks)
        opencard.check_each_has_a_webhook(webhooks, desired)
    return findings.lines


def exit_code(findings: Sequence[CheckResult]) -> int:
    """Return 0 when all is well, notes included; 2 when settings are missing or wrong; else 1."""
    broken = [finding.check for finding in findings if finding.state is CheckState.BROKEN]
    if SETTINGS in broken:
        return 2
    return 1 if broken else 0


def _configuration(
    path: Path | None, environ: Mapping[str, str], findings: CheckResults
) -> tuple[Configuration, str | None]:
    """Return the configuration, the defaults if it is broken, and why what it wants is not known."""
    try:
        configuration = read_configuration(path, environ)
    except ConfigurationError as error:
        findings.broken(CONFIGURATION, "; ".join(error.problems))
        return Configuration(), f"{CONFIGURATION} is broken"
    findings.ok(CONFIGURATION, str(path) if path else "no file: every organization gets the defaults")
    return configuration, None


def _wanted_scopes(configuration: Configuration) -> frozenset[str]:
    """Return the scopes that the configuration needs in addition to those that are always needed."""
    each = configuration.all()
    headers = HEADER_SCOPES if any(wanted.headers for wanted in each) else ()
    groups = GROUP_SCOPES if any(wanted.groups for wanted in each) else ()
    return frozenset((*headers, *groups))


def _check_public_address(
    webhooks: Sequence[CheckedWebhook] | None, settings: Settings, problems: dict[str, str], findings: CheckResults
) -> None:
    """Challenge an endpoint of ours through ``PUBLIC_URL``, as OpenCard does."""
    reason = why_not(problems, "PUBLIC_URL") or why_not(problems, "ENCRYPTION_KEYS")
    if reason or webhooks is None:
        findings.not_checked(PUBLIC_ADDRESS, reason or str(findings.why_not(WEBHOOKS)))
        return
    enabled = [webhook for webhook in webhooks if webhook.enabled]
    if not enabled:
        _check_health(settings.public_url, findings)
        return
    for webhook in enabled:
        secret = readable_secret(webhook, settings)
        if secret is not None:
            wrong = challenge_endpoint(endpoint_url(settings.public_url, webhook.endpoint_key), secret)
            if wrong is None:
                findings.ok(PUBLIC_ADDRESS, f"an endpoint behind {settings.public_url} answers its challenge")
            else:
                findings.broken(PUBLIC_ADDRESS, f"PUBLIC_URL={settings.public_url}: {wrong}")
            return
    findings.not_checked(PUBLIC_ADDRESS, str(findings.why_not(KEYS)))


def _check_sign_in(settings: Settings, findings: CheckResults) -> None:
    """Ask the OpenID provider, if there is one, for what it publishes."""
    provider = OpenIDProvider.of(settings)
    if provider is None:
        return
    try:
        provider.check()
    except ProviderUnavailable as unavailable:
        findings.broken(SIGN_IN, f"OPS_OIDC_ISSUER={provider.issuer}: {unavailable}")
    else:
        findings.ok(SIGN_IN, f"{provider.issuer} publishes its addresses and keys")
    finally:
        provider.close()


def _check_health(public_url: str, findings: CheckResults) -> None:
    """Without a webhook to challenge, see whether a web process of this service answers at all."""
    try:
        answer = httpx.get(f"{public_url}/healthz", verify=tls_context(), timeout=TIMEOUT)
    except httpx.HTTPError as error:
        findings.broken(
            PUBLIC_ADDRESS,
            f"PUBLIC_URL={public_url}: no answer ({type(error).__name__}): is it right, and does a web process listen "
            "behind it?",
        )
        return
    if answer.status_code == HTTPStatus.OK:
        findings.ok(PUBLIC_ADDRESS, f"{public_url} answers; there is no webhook yet whose challenge could be tried")
    else:
        findings.note(
            PUBLIC_ADDRESS,
            f"{public_url}/healthz answers {answer.status_code}; whether deliveries get through shows once there is a "
            "webhook to challenge",
        )
