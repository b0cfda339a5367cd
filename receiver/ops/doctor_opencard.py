"""The doctor's checks of OpenCard: its API, the client, its scopes, the account, and the registered webhooks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from receiver.bootstrap.match import ALL_DELETED
from receiver.errors import AccessDenied, ClientRefused, OpenCardError, ResourceMissing, ScopeNotGranted
from receiver.opencard import routes
from receiver.opencard.auth import JSON_ONLY, Access, TokenAuth
from receiver.opencard.client import OpenCard
from receiver.opencard.delivery_log import DeliveryLog
from receiver.opencard.failures import html_refusal, is_html_refusal
from receiver.opencard.tokens import MemoryTokens
from receiver.opencard.webhooks import Webhooks
from receiver.ops.doctor_findings import CheckResult, CheckState, why_not
from receiver.ops.doctor_stores import WEBHOOKS
from receiver.tls import tls_context
from receiver.webhooks.addresses import endpoint_url

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from receiver.bootstrap.desired import Configuration
    from receiver.opencard.webhooks import Organization, RegisteredWebhook
    from receiver.ops.doctor_findings import CheckResults
    from receiver.ops.doctor_stores import CheckedWebhook
    from receiver.settings import Settings

API: Final = "OpenCard's API"
TOKEN: Final = "token"  # noqa: S105 - what the check is called
ORGANIZATIONS: Final = "organizations"
PUBLIC_ADDRESS: Final = "public address"

REQUIRED_SCOPES: Final = (
    routes.LIST_ORGANIZATIONS.scope,
    routes.GET_WEBHOOK.scope,
    routes.UPDATE_WEBHOOK.scope,
    routes.LIST_DELIVERY_LOG.scope,
)
HEADER_SCOPES: Final = (routes.LIST_HEADERS.scope, routes.CREATE_HEADER.scope, routes.DELETE_HEADER.scope)
FILE_SCOPES: Final = {
    routes.DOWNLOAD_FILE.scope: "not granted: receipts are not downloaded, and lost when their URLs expire",
    routes.DOWNLOAD_TPA.scope: "not granted: the documents of signed TPAs are not downloaded",
}
BILLING_SCOPES: Final = (routes.LIST_BILLINGS.scope,)
GROUP_SCOPES: Final = (routes.LIST_GROUPS.scope, routes.CREATE_GROUP.scope, routes.DELETE_GROUP.scope)
ASKING: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY}
"""The answers of an API to a request without a token."""
PARALLEL_REQUESTS: Final = 8
"""Webhooks that are looked at at a time."""


def scope_check(scope: str) -> str:
    """Return what the check of a scope is called."""
    return f"scope {scope}"


@dataclass(slots=True)
class OpenCardChecks:
    """The checks of OpenCard, each with tokens that are asked for here and now and kept nowhere."""

    settings: Settings
    problems: dict[str, str]
    findings: CheckResults
    _access: Access = field(init=False)
    _tokens: MemoryTokens = field(default_factory=MemoryTokens)
    _organizations: list[Organization] = field(default_factory=list)
    """Those of the account, once they were listed."""
    _deleted: list[CheckedWebhook] = field(default_factory=list)
    """Those that OpenCard does not have."""

    def __post_init__(self) -> None:
        self._access = Access.of(self.settings)

    def check_api(self) -> None:
        """Send a request without a token: the API is there if it asks for one."""
        reason = why_not(self.problems, "OPENCARD_API_URL")
        if reason:
            self.findings.not_checked(API, reason)
            return
        there = self._access.api_url
        url = self._access.application_url + f"/accounts/{self._access.account_id or 0}/organizations"
        try:
            answer = httpx.get(url, verify=tls_context(), timeout=self._access.timeout, headers=JSON_ONLY)
        except httpx.HTTPError as error:
            message = f"no answer ({type(error).__name__}) from {there}: check OPENCARD_API_URL and the network"
            self.findings.broken(API, message)
            return
        status = answer.status_code
        if is_html_refusal(answer):
            message = (
                f"{html_refusal(answer)}: check that OPENCARD_API_URL={there} is OpenCard's API, and what is between"
            )
            self.findings.broken(API, message)
        elif status in ASKING:
            self.findings.ok(API, f"{there} answers")
        elif status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.findings.broken(API, f"{there} answers {status}: try again later")
        else:
            message = f"{there} answers {status} where OpenCard's API asks for a token: check OPENCARD_API_URL"
            self.findings.broken(API, message)

    def check_client(self, *, wanted: Collection[str], unknown: str | None) -> None:
        """Check the client's id and secret, and each scope by asking for it alone.

        *wanted* are the scopes besides ``REQUIRED_SCOPES`` without which the configuration cannot be carried out;
        *unknown* says why that is not known.
        """
        reason = self.findings.why_not(API) or why_not(self.problems, "OPENCARD_CLIENT_ID", "OPENCARD_CLIENT_SECRET")
        asked = (*REQUIRED_SCOPES, *FILE_SCOPES, *BILLING_SCOPES, *HEADER_SCOPES, *GROUP_SCOPES)
        if reason is None:
            answers = self._ask_for(asked)
            refusal = answers.get(TOKEN)
            if refusal is None:
                self.findings.ok(TOKEN, f"token issued to client {self._access.client_id}")
            else:
                self.findings.broken(TOKEN, str(refusal))
        else:
            self.findings.not_checked(TOKEN, reason)
            answers = {}
        reason = self.findings.why_not(TOKEN)
        for scope in asked:
            if reason is not None:
                self.findings.not_checked(scope_check(scope), reason)
            else:
                self._report_scope(
                    scope, answers[scope], needed=scope in REQUIRED_SCOPES or scope in wanted, unknown=unknown
                )

    def _ask_for(self, scopes: Sequence[str]) -> dict[str, OpenCardError | None]:
        """Return the result of requesting each scope; only ``TOKEN``, with the reason, if the client gets no token."""
        answers: dict[str, OpenCardError | None] = {}
        for scope in scopes:
            auth = TokenAuth(self._access, [scope], self._tokens)
            try:
                auth.token()
            except ScopeNotGranted as refused:
                answers[scope] = refused
            except ClientRefused as refused:
                return {TOKEN: refused}
            except OpenCardError as failed:
                if not answers:
                    return {TOKEN: failed}
                answers[scope] = failed
            else:
                answers[scope] = None
            finally:
                auth.close()
        return answers

    def _report_scope(self, scope: str, refusal: OpenCardError | None, *, needed: bool, unknown: str | None) -> None:
        check = scope_check(scope)
        if refusal is None:
            self.findings.ok(check, "granted")
        elif needed or not isinstance(refusal, ScopeNotGranted):
            self.findings.broken(check, str(refusal))
        elif scope in FILE_SCOPES:
            self.findings.note(check, FILE_SCOPES[scope])
        elif scope in BILLING_SCOPES:
            self.findings.note(
                check,
                "not granted: which events a billing allows is learned from what OpenCard rejects, and a new product "
                "is noticed up to a day later",
            )
        elif unknown is not None:
            self.findings.not_checked(check, f"not granted, and whether it is wanted is not known: {unknown}")
        else:
            what = "custom headers" if scope in HEADER_SCOPES else "buyer-party groups"
            self.findings.ok(check, f"not granted, and not needed: the configuration wants no {what}")

    def check_organizations(self) -> None:
        """Check that the account is the client's own, and say how many organizations it sees."""
        scope = routes.LIST_ORGANIZATIONS.scope
        reason = why_not(self.problems, "OPENCARD_ACCOUNT_ID") or self.findings.why_not(API, TOKEN, scope_check(scope))
        if reason:
            self.findings.not_checked(ORGANIZATIONS, reason)
            return
        try:
            with OpenCard(self._access, [scope], self._tokens) as api:
                self._organizations = Webhooks(api).organizations()
        except OpenCardError as error:
            self.findings.broken(ORGANIZATIONS, f"OPENCARD_ACCOUNT_ID={self._access.account_id}: {error}")
            return
        if self._organizations:
            self.findings.ok(ORGANIZATIONS, f"{len(self._organizations)} in account {self._access.account_id}")
        else:
            self.findings.note(ORGANIZATIONS, f"none in account {self._access.account_id} yet")

    def check_webhooks(self, webhooks: Sequence[CheckedWebhook]) -> None:
        """Check that each managed webhook is registered and active, calls this service, and has a readable log."""
        scope = routes.GET_WEBHOOK.scope
        reason = why_not(self.problems, "OPENCARD_ACCOUNT_ID") or self.findings.why_not(API, TOKEN, scope_check(scope))
        if not webhooks:
            self.findings.note(WEBHOOKS, "none registered: receiver bootstrap registers one for each organization")
        elif reason:
            self.findings.not_checked(WEBHOOKS, reason)
        else:
            log_scope = routes.LIST_DELIVERY_LOG.scope
            with (
                OpenCard(self._access, [scope], self._tokens) as api,
                OpenCard(self._access, [log_scope], self._tokens) as log_api,
                ThreadPoolExecutor(PARALLEL_REQUESTS) as threads,
            ):
                registered = Webhooks(api)
                logs = None if self.findings.why_not(scope_check(log_scope)) else log_api
                found = [*threads.map(lambda webhook: self._look_at(webhook, registered, logs), webhooks)]
            self.findings.lines += found
            asked = [each for each in webhooks if _why_idle(each) is None]
            if asked and len(self._deleted) == len(asked):
                self.findings.broken(
                    WEBHOOKS,
                    f"{ALL_DELETED}: none of {len(asked)} is there. Run receiver bootstrap: it registers them again; "
                    "a sandbox that was started again is best used with an empty database (DATABASE_URL)",
                )

    def check_each_has_a_webhook(self, webhooks: Sequence[CheckedWebhook], configuration: Configuration) -> None:
        """Name the organizations of the account that lack a webhook; before the first bootstrap that is no fault."""
        known = {webhook.organization_id for webhook in webhooks if not webhook.deleted}
        for organization in self._organizations if webhooks else ():
            reference = organization.reference_id or ""
            if organization.id not in known and configuration.desired(reference) is not None:
                self.findings.broken(
                    f"organization {reference or organization.id}",
                    "no webhook: OpenCard sends nothing about it, and its card holders cannot give consent; run "
                    "receiver bootstrap",
                )

    def _look_at(self, webhook: CheckedWebhook, registered: Webhooks, logs: OpenCard | None) -> CheckResult:
        idle = _why_idle(webhook)
        if idle is not None or webhook.opencard_webhook_id is None:
            return CheckResult(webhook.check, CheckState.NOTE, str(idle))
        try:
            found = registered.get(webhook.organization_id, webhook.opencard_webhook_id)
        except (AccessDenied, ResourceMissing) as error:
            if self.findings.is_broken(ORGANIZATIONS):
                return CheckResult(webhook.check, CheckState.NOT_CHECKED, f"{ORGANIZATIONS} is broken")
            if not isinstance(error, ResourceMissing):
                return CheckResult(webhook.check, CheckState.BROKEN, str(error))
            self._deleted.append(webhook)
            message = f"{webhook.opencard_webhook_id} was deleted at OpenCard: run receiver bootstrap"
            return CheckResult(webhook.check, CheckState.BROKEN, message)
        except OpenCardError as error:
            return CheckResult(webhook.check, CheckState.BROKEN, str(error))
        return self._judge(webhook, found, unreadable=None if logs is None else _unreadable(logs, webhook))

    def _judge(self, webhook: CheckedWebhook, found: RegisteredWebhook, *, unreadable: str | None) -> CheckResult:
        wrong = [] if unreadable is None else [unreadable]
        if found.active is False:
            wrong.append(
                "not active, OpenCard delivers nothing: run receiver bootstrap, which triggers a new challenge"
            )
        if found.enabled is False:
            wrong.append("switched off at OpenCard (enabled): switch it on there, or run receiver bootstrap")
        if webhook.refused_in_log:
            wrong.append(
                f"OpenCard's log has {webhook.refused_in_log} attempts of the last day answered 401: its secret or "
                "credentials here are not OpenCard's, as after a restore of the database; run receiver webhooks "
                f"rotate-secret {webhook.id}"
            )
        else:
            for each in webhook.refused:
                run = f"; run {each.command}" if each.command else ""
                wrong.append(f"{each.number} refused: {each.reason}: {each.cause}{run}")
        address = None if why_not(self.problems, "PUBLIC_URL") else self._wrong_address(webhook, found.url)
        if address and not self.findings.is_broken(PUBLIC_ADDRESS):
            wrong.append(address)
        if wrong:
            return CheckResult(webhook.check, CheckState.BROKEN, "; ".join(wrong))
        if address:
            return CheckResult(
                webhook.check, CheckState.NOTE, f"registered and active; {PUBLIC_ADDRESS} is broken: {address}"
            )
        message = "active" if found.active else "registered; OpenCard does not report whether it is active"
        message = "; ".join((message, *webhook.unavailable))
        return CheckResult(webhook.check, CheckState.OK if found.active else CheckState.NOTE, message)

    def _wrong_address(self, webhook: CheckedWebhook, url: str) -> str | None:
        keys = (webhook.endpoint_key, *webhook.previous_keys)
        if not url or url in {endpoint_url(self.settings.public_url, key) for key in keys}:
            return None
        if url.startswith(self.settings.public_url + "/"):
            return "OpenCard calls another path of PUBLIC_URL than its endpoint: run receiver bootstrap"
        return f"OpenCard calls {urlsplit(url).hostname}, not PUBLIC_URL: run receiver bootstrap"


def _unreadable(logs: OpenCard, webhook: CheckedWebhook) -> str | None:
    """Return why the first page of a webhook's delivery log cannot be read; ``None`` if it can."""
    try:
        log = DeliveryLog.of(logs, organization_id=webhook.organization_id, webhook=webhook.opencard_webhook_id or 0)
        next(log.pages(), None)
    except OpenCardError as error:
        return f"its delivery log cannot be read: {error}"
    return None


def _why_idle(webhook: CheckedWebhook) -> str | None:
    """Return why nothing is expected of a webhook; ``None`` when deliveries are."""
    if not webhook.enabled:
        return "switched off here: its deliveries are refused"
    if webhook.deleted:
        return "deleted at OpenCard, as receiver bootstrap found: it is not reconciled"
    if webhook.opencard_webhook_id is None:
        return "not registered at OpenCard yet: run receiver bootstrap"
    return None
