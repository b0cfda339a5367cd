"""The provider as a whole: what it knows, how it behaves, what it was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

import httpx

from receiver.sandbox.bearers import BearerTokens
from receiver.sandbox.challenge import HEADERS, Challenge
from receiver.sandbox.provider.clients import Clients
from receiver.sandbox.provider.faults import ApiFaults
from receiver.sandbox.provider.log_style import LogStyle
from receiver.sandbox.provider.requests import SeenRequests
from receiver.sandbox.provider.state import ProviderState
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receiver.sandbox.provider.billing import BillingStyle, Rejection
    from receiver.sandbox.provider.html import HtmlErrors
    from receiver.sandbox.provider.resources import Client

YEAR_SECONDS: Final = 31_536_000
CHALLENGE_SECONDS: Final = 10
"""How long the answer to a challenge, or to a test delivery, may take."""


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Behaviour:
    """What the contract leaves open, and what a test wants otherwise; may be changed while the API is served."""

    per_page: int = 15
    honours_per_page: bool = False
    """``?per_page=`` is honoured, up to a hundred."""
    rejection: Rejection = "errors"
    """How a webhook is refused that asks for flags which its organization's billing does not allow."""
    billing_style: BillingStyle = "booleans"
    """How billing profiles are shown."""
    undocumented_need: Mapping[str, str] = field(default_factory=dict)
    """Flag → product, for the flags of which no page says what unlocks them."""
    html_errors: HtmlErrors = "redirect"
    """How an error is answered when the request does not accept JSON: with a redirect to a login page, or with it."""
    routes_off: frozenset[str] = frozenset()
    """Routes that this API does not have, as ``scopes`` names them, or with a method before: ``GET /accounts/…``."""
    route_off_status: int = 404
    accepts_unknown_scopes: bool = False
    """A client may be given scopes that no page lists."""
    challenges_arrive: bool = True
    """Challenges reach the webhooks; else they fail, as behind a firewall that stops OpenCard alone."""
    describes_organizations: bool = True
    """Organizations are shown with all their fields; else with id and reference alone."""
    reports_client_scopes: bool = True
    """OAuth clients are shown with their scopes; else with id and name alone."""
    expires_in: int = YEAR_SECONDS
    """The life of new tokens, in seconds."""
    grants_silently: bool = False
    """Scopes that a client lacks are left out of its token, instead of being refused."""
    echoes_secrets: bool = False
    """Secrets and credentials of webhooks come back on ``GET``."""
    hides_header_values: bool = False
    """The list of custom headers leaves their values out."""
    tests_before_answering: bool = False
    """A test delivery is made before its request is answered, not right after."""
    log_style: LogStyle = field(default_factory=LogStyle)
    """How the delivery log is spelled."""
    files_are_signed: bool = False
    """The URLs of files prove themselves, and are refused with a token."""
    expired_status: int = 410
    """How a file is answered whose URL has expired."""
    clock_ahead: timedelta = timedelta()
    """By how much the times in the delivery log are wrong; negative when the clock is behind."""
    before_page: Callable[[str, int], None] = lambda _path, _page: None
    """Called with path and page number before a page of a list is made: things may change under the reader here."""


@dataclass(slots=True)
class Provider:
    """A local OpenCard; serve it with ``serving``, and ``close`` it when that is not used."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    now: Callable[[], datetime] = utc_now
    """The provider's clock: what tokens expire by."""
    state: ProviderState = field(default_factory=ProviderState)
    faults: ApiFaults = field(default_factory=ApiFaults)
    requests: SeenRequests = field(default_factory=SeenRequests)
    bearers: BearerTokens = field(default_factory=BearerTokens)
    """Tokens that deliveries with ``oauth`` are sent with."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files that are others than their names say."""
    clients: Clients = field(init=False)
    stopping: Event = field(default_factory=Event)
    _http: httpx.Client = field(init=False)
    _tests: list[Thread] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.clients = Clients(self.now)
        self._http = httpx.Client(
            verify=tls_context(),
            timeout=CHALLENGE_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,  # no proxy between neighbours, and no credentials from ~/.netrc
        )

    def challenge(self, url: str, secret: str) -> bool:
        """Ask the webhook at *url* to prove that it knows *secret*; no answer is a no."""
        if not self.behaviour.challenges_arrive:
            return False
        challenge = Challenge.of(url)
        try:
            return challenge.passed_by(self._http.get(challenge.url, headers=HEADERS), secret)
        except (httpx.TransportError, RuntimeError):  # the latter when the provider was closed meanwhile
            return False

    def in_background(self, work: Callable[[], None]) -> None:
        """Start *work* in a separate thread."""
        thread = Thread(target=work, daemon=True)
        thread.start()
        with self._lock:
            self._tests = [each for each in self._tests if each.is_alive()] + [thread]

    def wait_for_tests(self, seconds: float = CHALLENGE_SECONDS) -> None:
        """Return when the test deliveries that are under way have been made, *seconds* for each at most."""
        with self._lock:
            under_way = list(self._tests)
        for thread in under_way:
            thread.join(seconds)

    def close(self) -> None:
        """End what is under way, and give the connections back."""
        self.stopping.set()
        self.wait_for_tests(1)
        self._http.close()


def environment(url: str, client: Client) -> dict[str, str]:
    """Return the settings with which a receiver is *client* of the provider at *url*, secret included."""
    return {
        "OPENCARD_API_URL": url,
        "OPENCARD_ACCOUNT_ID": str(client.account_id),
        "OPENCARD_CLIENT_ID": client.id,
        "OPENCARD_CLIENT_SECRET": client.secret,
    }
