"""The doctor: one thing is broken, exactly that is named, and everything that does not need it is still checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from sqlalchemy import text

from receiver.cli import main
from receiver.opencard.scopes import SCOPES
from receiver.ops.doctor_opencard import BILLING_SCOPES, FILE_SCOPES, GROUP_SCOPES, HEADER_SCOPES, REQUIRED_SCOPES
from receiver.sandbox.provider import ApiFault
from receiver.sandbox.tally import DeliveryAttempt
from tests.ops.conftest import Installation
from tests.support.applications import unreachable_database, unreachable_redis
from tests.support.factories import body, card_holder
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from tests.support.serving import served

FOREIGN_KEY = Fernet.generate_key().decode()
OPTIONAL = [f"scope {scope}" for scope in (*FILE_SCOPES, *BILLING_SCOPES, *HEADER_SCOPES, *GROUP_SCOPES)]
SCOPE_CHECKS = [f"scope {scope}" for scope in REQUIRED_SCOPES] + OPTIONAL
OF_THE_DATABASE = {"database", "migrations", "encryption keys", "public address", "webhooks"}
OF_THE_CLIENT = {*SCOPE_CHECKS, "organizations", "webhooks"}

Break = Callable[[Installation], object]


@dataclass(frozen=True)
class Case:
    """One broken thing."""

    named: str
    """The one check that finds something broken."""
    said: str
    """What its line says."""
    breaks: Break
    not_checked: frozenset[str] | set[str] = frozenset()
    exit_code: int = 1


def setting(name: str, value: str) -> Break:
    return lambda installation: installation.environment.update({name: value})


def without_scope(scope: str) -> Break:
    return lambda installation: installation.provider.clients.set_scopes("ems", set(SCOPES) - {scope})


def webhook(**changes: object) -> Break:
    return lambda installation: installation.provider.state.change_webhook(installation.webhooks[1], **changes)


def fault(fault: ApiFault) -> Break:
    return lambda installation: installation.provider.faults.add(fault)


CASES = {
    "PORT is wrong": Case("settings", "PORT is wrong: 'http'", setting("PORT", "http"), exit_code=2),
    "DATABASE_URL is missing": Case(
        "settings", "DATABASE_URL is missing", setting("DATABASE_URL", ""), OF_THE_DATABASE, exit_code=2
    ),
    "DATABASE_URL is wrong": Case(
        "settings", "DATABASE_URL is wrong", setting("DATABASE_URL", "mysql://x"), OF_THE_DATABASE, exit_code=2
    ),
    "REDIS_URL is missing": Case("settings", "REDIS_URL is missing", setting("REDIS_URL", ""), {"redis"}, exit_code=2),
    "PUBLIC_URL is wrong": Case(
        "settings", "PUBLIC_URL is wrong", setting("PUBLIC_URL", "hooks"), {"public address"}, exit_code=2
    ),
    "ENCRYPTION_KEYS is missing": Case(
        "settings",
        "ENCRYPTION_KEYS is missing",
        setting("ENCRYPTION_KEYS", ""),
        {"encryption keys", "public address"},
        exit_code=2,
    ),
    "OPENCARD_API_URL is wrong": Case(
        "settings",
        "OPENCARD_API_URL is wrong",
        setting("OPENCARD_API_URL", "api"),
        {"OpenCard's API", "token", *OF_THE_CLIENT},
        exit_code=2,
    ),
    "OPENCARD_ACCOUNT_ID is missing": Case(
        "settings",
        "OPENCARD_ACCOUNT_ID is missing",
        setting("OPENCARD_ACCOUNT_ID", ""),
        {"organizations", "webhooks"},
        exit_code=2,
    ),
    "OPENCARD_CLIENT_SECRET is missing": Case(
        "settings",
        "OPENCARD_CLIENT_SECRET is missing",
        setting("OPENCARD_CLIENT_SECRET", ""),
        {"token", *OF_THE_CLIENT},
        exit_code=2,
    ),
    "no database": Case(
        "database",
        "PostgreSQL (DATABASE_URL)",
        lambda installation: installation.environment.update({"DATABASE_URL": unreachable_database()}),
        OF_THE_DATABASE - {"database"},
    ),
    "no Redis": Case(
        "redis", "REDIS_URL: ", lambda installation: installation.environment.update({"REDIS_URL": unreachable_redis()})
    ),
    "a key is lost": Case(
        "encryption keys",
        "no key in ENCRYPTION_KEYS decrypts 2 of receiver.webhooks.secret",
        setting("ENCRYPTION_KEYS", FOREIGN_KEY),
        {"public address"},
    ),
    "the API is unreachable": Case(
        "OpenCard's API",
        "check OPENCARD_API_URL and the network",
        setting("OPENCARD_API_URL", "http://127.0.0.1:1"),
        {"token", *OF_THE_CLIENT},
    ),
    "the API fails": Case(
        "OpenCard's API", "answers 503: try again later", fault(ApiFault.answers(503)), {"token", *OF_THE_CLIENT}
    ),
    "the API is another": Case(
        "OpenCard's API",
        "answers 404 where OpenCard's API asks for a token",
        lambda installation: installation.environment.update(
            {"OPENCARD_API_URL": installation.environment["PUBLIC_URL"]}
        ),
        {"token", *OF_THE_CLIENT},
    ),
    "the token endpoint fails": Case(
        "token", "POST /oauth/token", fault(ApiFault.answers(503, path="/oauth/token", times=99)), OF_THE_CLIENT
    ),
    "the client's secret is wrong": Case(
        "token",
        "check OPENCARD_CLIENT_ID and OPENCARD_CLIENT_SECRET",
        setting("OPENCARD_CLIENT_SECRET", "another-secret"),
        OF_THE_CLIENT,
    ),
    "the client is unknown": Case(
        "token", "(client somebody)", setting("OPENCARD_CLIENT_ID", "somebody"), OF_THE_CLIENT
    ),
    "organizations-read is missing": Case(
        "scope organizations-read",
        "does not have the scope organizations-read,",
        without_scope("organizations-read"),
        {"organizations"},
    ),
    "webhooks-read is missing": Case(
        "scope webhooks-read",
        "does not have the scope webhooks-read,",
        without_scope("webhooks-read"),
        {"webhooks"},
    ),
    "webhooks-write is missing": Case(
        "scope webhooks-write", "does not have the scope webhooks-write,", without_scope("webhooks-write")
    ),
    "webhook-events-read is missing": Case(
        "scope webhook-events-read", "which drill, reconcile need;", without_scope("webhook-events-read")
    ),
    "the account is another's": Case(
        "organizations", "OPENCARD_ACCOUNT_ID=2", setting("OPENCARD_ACCOUNT_ID", "2"), {"each webhook"}
    ),
    "nobody listens at PUBLIC_URL": Case(
        "public address",
        "PUBLIC_URL=http://127.0.0.1:1: the challenge GET http",
        setting("PUBLIC_URL", "http://127.0.0.1:1"),
    ),
    "PUBLIC_URL leads elsewhere": Case(
        "public address",
        "it answers 302: it redirects, which a webhook must not",
        lambda installation: installation.environment.update(
            {"PUBLIC_URL": installation.environment["OPENCARD_API_URL"]}
        ),
    ),
    "a webhook is not active": Case("webhook 2", "not active, OpenCard delivers nothing", webhook(active=False)),
    "a webhook is switched off": Case("webhook 2", "switched off at OpenCard (enabled)", webhook(enabled=False)),
    "a webhook calls elsewhere": Case(
        "webhook 2", "OpenCard calls old.example.com, not PUBLIC_URL", webhook(url="https://old.example.com/hooks")
    ),
    "a webhook calls another path": Case(
        "webhook 2",
        "another path of PUBLIC_URL",
        lambda installation: installation.provider.state.change_webhook(
            installation.webhooks[1], url=installation.environment["PUBLIC_URL"] + "/hooks/opencard/another"
        ),
    ),
    "a webhook was deleted": Case(
        "webhook 2",
        "was deleted at OpenCard: run receiver bootstrap",
        lambda installation: installation.provider.state.remove_webhook(installation.webhooks[1]),
    ),
    "one webhook cannot be read": Case(
        "webhook 2",
        "OpenCard answers 500",
        lambda installation: installation.provider.faults.add(
            ApiFault.answers(500, path=f"/webhooks/{installation.webhooks[1]}$", times=99)
        ),
    ),
    "one delivery log cannot be read": Case(
        "webhook 2",
        "its delivery log cannot be read: GET /",
        lambda installation: installation.provider.faults.add(
            ApiFault.answers(500, path=f"/webhooks/{installation.webhooks[1]}/events$", times=99)
        ),
    ),
    "the configuration is wrong": Case(
        "configuration", "there is no such key", lambda installation: installation.configure('evnts = "all"')
    ),
}


def test_all_is_well(installation: Installation) -> None:
    code, found = installation.findings()
    assert code == 0
    assert list(found) == [
        *("settings", "configuration", "database", "migrations", "encryption keys", "redis"),
        *("OpenCard's API", "token", *SCOPE_CHECKS),
        *("organizations", "public address", installation.check_of(0), installation.check_of(1)),
    ]
    assert {check: state for check, (state, _) in found.items() if state != "ok"} == {}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_broken_check_does_not_stop_the_others(installation: Installation, case: Case) -> None:
    case.breaks(installation)
    installation.secrets += [FOREIGN_KEY, "another-secret"]
    code, found = installation.findings()
    named = installation.check_of(1) if case.named == "webhook 2" else case.named
    assert [check for check, (state, _) in found.items() if state == "broken"] == [named]
    assert case.said in found[named][1]
    webhooks = {installation.check_of(0), installation.check_of(1)}
    not_checked = webhooks if case.not_checked == {"each webhook"} else case.not_checked
    assert {check for check, (state, _) in found.items() if state == "not checked"} == not_checked
    others = {state for check, (state, _) in found.items() if check != named and check not in not_checked}
    assert others <= {"ok", "note"}
    assert code == case.exit_code


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("login-page", "OpenCard answers 200 with an HTML page instead of JSON"),
        ("login-redirect", "a redirect to /login"),
    ],
)
def test_a_login_page_in_place_of_the_api_is_named(installation: Installation, kind: Any, said: str) -> None:
    installation.provider.faults.add(ApiFault(kind, path="/api/"))
    code, found = installation.findings()
    assert (code, found["OpenCard's API"][0]) == (1, "broken")
    assert said in found["OpenCard's API"][1]


def test_an_organization_without_a_webhook_is_named(installation: Installation) -> None:
    installation.provider.state.add_organization("gamma")
    code, found = installation.findings()
    assert (code, found["organization gamma"][0]) == (1, "broken")
    assert "run receiver bootstrap" in found["organization gamma"][1]
    installation.configure('[[organizations]]\nreference_id = "gamma"\nskip = true')
    code, found = installation.findings()
    assert (code, "organization gamma" in found) == (0, False)


def test_events_outside_the_billing_are_named_and_no_fault(installation: Installation) -> None:
    (webhook,) = [each for each in installation.provider.state.webhooks() if each.id == installation.webhooks[1]]
    why = '{"receipt_fetched": {"reason": "not in this organization\'s billing"}}'
    installation.execute(
        "INSERT INTO receiver.organizations (organization_id, unavailable_events) VALUES (:id, CAST(:why AS jsonb))",
        id=webhook.organization_id,
        why=why,
    )
    code, found = installation.findings()
    assert (code, found[installation.check_of(1)]) == (
        0,
        ("ok", "active; receipts: not in this organization's billing"),
    )


def test_without_billings_read_a_note_says_what_that_means(installation: Installation) -> None:
    installation.provider.clients.set_scopes("ems", set(SCOPES) - {"billings-read"})
    code, found = installation.findings()
    assert (code, found["scope billings-read"][0]) == (0, "note")


def test_secret_that_differs_is_reported_with_the_remedy(installation: Installation) -> None:
    def happened(*statuses: int) -> None:
        """Let OpenCard's deliveries fail, as after a restore from before a rotation, and reconcile."""
        content = body(card_holder(organization=reference))
        begun = datetime.now(UTC) - timedelta(minutes=30)
        attempts = [
            DeliveryAttempt(reference, "card_holder.created", status, begun + timedelta(seconds=number), content)
            for number, status in enumerate(statuses)
        ]
        installation.provider.state.log_attempts(installation.webhooks[1], attempts)
        CliRunner(env=installation.environment).invoke(main, ["reconcile", "--json"])

    check = installation.check_of(1)
    number, reference = check.removeprefix("webhook ").rstrip(")").split(" (")
    happened(200, 401, 401)
    code, found = installation.findings()
    assert (code, found[check][0]) == (1, "broken")
    assert "OpenCard's log has 2 attempts of the last day answered 401" in found[check][1]
    assert found[check][1].endswith(f"run receiver webhooks rotate-secret {number}")
    assert found[installation.check_of(0)][0] == "ok"
    happened(401, 401, 401, 401, 200)
    assert installation.findings()[1][check][0] == "ok"
    with installation.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO receiver.refused_deliveries (webhook_id, reason, minute, number, last_at)"
                " SELECT id, 'signature-wrong', now(), 3, now() FROM receiver.webhooks"
                " WHERE organization_reference_id = :of"
            ),
            {"of": reference},
        )
    refused = installation.findings()[1][check][1]
    assert refused.startswith("3 refused: signature-wrong: either the secret differs from OpenCard's, or"), refused
    assert refused.endswith(f"run receiver reconcile --organization {reference}")


def test_openid_provider_is_asked_what_it_publishes(installation: Installation) -> None:
    openid = OpenIdProvider()
    installation.secrets += [CLIENT_SECRET]
    with served(openid.application()) as url:
        installation.environment |= {
            "OPS_OIDC_ISSUER": url,
            "OPS_OIDC_CLIENT_ID": CLIENT_ID,
            "OPS_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "OPS_OIDC_ROLES": "ops-admins:operator",
            "SECRET_KEY": "s" * 32,
        }
        code, found = installation.findings()
        assert (code, found["sign-in"]) == (0, ("ok", f"{url} publishes its addresses and keys"))
        openid.metadata = {"issuer": "https://another.example"}
        code, found = installation.findings()
        assert (code, found["sign-in"][0]) == (1, "broken")
        assert f"OPS_OIDC_ISSUER={url}: it says that its issuer is https://another.example" in found["sign-in"][1]
