"""For tests of the local OpenCard: a caller of its API, and a receiver of its deliveries."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx

from receiver.sandbox.provider import SCOPES, Behaviour, Provider, serving
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from receiver.sandbox.provider import Client, ProviderOrganization

SECRET = "s" * 60
APPLICATION = "/api/v1/application"
ALL_FLAGS = (
    "tpa_signed",
    "card_holder_created",
    "card_holder_identified",
    "card_holder_signed_pdpc",
    "card_holder_deleted",
    "card_holder_email_delivered",
    "card_holder_email_failed",
    "card_transaction_authorized",
    "card_transaction_cleared",
    "card_transaction_deleted",
    "card_transaction_invoiced",
    "receipt_fetched",
    "transaction_true_vat",
    "transaction_line_items",
    "aland_index",
    "deedster",
)


@dataclass
class ServedProvider:
    """A provider that is served, and a client of it with a token for every scope."""

    provider: Provider
    url: str
    client: Client
    http: httpx.Client

    def ask_for_token(self, *scopes: str, **changes: str | None) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client.id,
            "client_secret": self.client.secret,
            "scope": " ".join(scopes),
            **changes,
        }
        sent = {name: value for name, value in form.items() if value is not None}
        return self.http.post("/oauth/token", data=sent)

    def token(self, *scopes: str) -> str:
        answer = self.ask_for_token(*scopes)
        assert answer.status_code == 200
        return str(answer.json()["access_token"])

    def call(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.http.request(method, f"{APPLICATION}{path}", headers=headers, **more)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def all_pages(self, path: str) -> list[Any]:
        first = self.get(path)
        rest = [self.get(path, page=number)["data"] for number in range(2, first["last_page"] + 1)]
        return [*first["data"], *(item for page in rest for item in page)]

    def post(self, path: str, fields: object = None, *, status: int = 201) -> Any:
        answer = self.call("POST", path, json=fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    def put(self, path: str, fields: object, *, status: int = 200) -> Any:
        answer = self.call("PUT", path, json=fields)
        assert answer.status_code == status, answer.text
        return answer.json()

    def register(self, organization: ProviderOrganization, url: str, **fields: Any) -> Any:
        """Create a webhook that wants everything, and return it as answered."""
        wanted = dict.fromkeys(ALL_FLAGS, True) | {"url": url, "secret": SECRET} | fields
        return self.post(webhooks_of(organization), wanted)


def webhooks_of(organization: ProviderOrganization) -> str:
    return f"/accounts/{organization.account_id}/organizations/{organization.id}/webhooks"


@contextmanager
def opencard(*, scopes: Iterable[str] = SCOPES, now: Any = None, **behaviour: Any) -> Iterator[ServedProvider]:
    """Serve a provider and speak to it."""
    provider = Provider(Behaviour(**behaviour), **({"now": now} if now else {}))
    client = provider.clients.add("ems", scopes=scopes)
    with serving(provider) as url, httpx.Client(base_url=url, trust_env=False, verify=tls_context()) as http:
        party = ServedProvider(provider, url, client, http)
        http.headers["Accept"] = "application/json"
        http.headers["Authorization"] = f"Bearer {party.token(*scopes)}"
        yield party
    assert provider.stopping.is_set()


@dataclass
class Arrived:
    event: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A receiver on a free loopback port: it knows *secret*, and remembers what reached it."""

    secret: str = SECRET
    answer: Callable[[Arrived], int] = lambda _: 200
    url: str = ""
    arrived: list[Arrived] = field(default_factory=list)
    questions: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tokens_asked: list[dict[str, str]] = field(default_factory=list)
    token_life: int = 3600
    on_question: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def events(self) -> list[str]:
        return [one.event for one in self.arrived]


@contextmanager
def receiver(**more: Any) -> Iterator[Receiver]:
    state = Receiver(**more)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            [question] = parse_qs(urlsplit(self.path).query)["challenge"]
            state.questions.append((question, dict(self.headers)))
            state.on_question()
            token = hmac.new(state.secret.encode(), question.encode(), hashlib.sha256).hexdigest()
            self.reply(200, token=token)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/token"):
                form = {name: value for name, [value] in parse_qs(body.decode()).items()}
                with state.lock:
                    state.tokens_asked.append(form)
                    number = len(state.tokens_asked)
                answer = {"token_type": "Bearer", "expires_in": state.token_life, "access_token": f"token-{number}"}
                self.reply(200, json.dumps(answer).encode())
                return
            one = Arrived(self.headers["X-Event"], dict(self.headers), body)
            with state.lock:
                state.arrived.append(one)
                status = state.answer(one)
            self.reply(status)

        def reply(self, status: int, body: bytes = b"", *, token: str | None = None) -> None:
            self.send_response(status)
            if token is not None:
                self.send_header("X-Verify-Token", token)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    class PartyServer(ThreadingHTTPServer):
        request_queue_size = 128  # a connection that does not fit is tried again after a second only

    with PartyServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/hooks"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
