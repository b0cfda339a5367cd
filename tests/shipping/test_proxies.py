"""The examples for Caddy and nginx, in the real programs: what they let in, and what they say about who asked."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from werkzeug.wrappers import Request, Response

from receiver.sandbox.embedded import LOOPBACK, free_port
from tests.support.locks import ROOT
from tests.support.serving import served
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOST = "localhost"
CADDYFILE = ROOT / "deploy" / "caddy" / "Caddyfile"
NGINX_CONF = ROOT / "deploy" / "nginx" / "receiver.conf"
ELSEWHERE = "192.0.2.0/24"
"""The operators' network where the test is to be a stranger."""
PROGRAMS = {"caddy": "caddy", "nginx": "nginx-light"}
CLOSED = [
    *("/", "/ops", "/ops/", "/ops/deliveries", "/OPS/", "//ops/", "/./ops/", "/%6fps/", "/metrics", "/metrics/"),
    *("/healthz", "/readyz", "/hooks/../ops/", "/hooks/%2e%2e/ops/", "/hooks/..%2fmetrics", "/hooksops/", "/hooks"),
]
FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=203.0.113.9",
    "X-Request-ID": "chosen-by-the-client",
    "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


@Request.application
def echo(request: Request) -> Response:
    """Answer with what came through."""
    seen = {"path": request.path, "headers": dict(request.headers), "body": request.get_data(as_text=True)}
    return Response(json.dumps(seen), content_type="application/json")


class Proxy:
    """A proxy that is running, with its TLS."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, path: str, *, method: str = "GET", body: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (as JSON where it is some) and headers."""
        trusting = ssl._create_unverified_context()  # noqa: S323 - the certificate is not what is tested
        with closing(HTTPSConnection(HOST, self.port, timeout=10, context=trusting)) as connection:
            connection.request(method, path, body.encode(), headers or {})
            answer = connection.getresponse()
            content = answer.read().decode()
            is_json = answer.headers.get("Content-Type") == "application/json"
            return answer.status, json.loads(content) if is_json else content, dict(answer.headers)

    def is_up(self) -> bool:
        try:
            return self.ask("/hooks/up")[0] == 200
        except OSError:
            return False


@contextmanager
def caddy(folder: Path, upstream: str, operators: str) -> Iterator[Proxy]:
    port = free_port()
    around = folder / "Caddyfile"
    options = ["admin off", f"default_bind {LOOPBACK}", f"https_port {port}", "auto_https disable_redirects"]
    options += ["skip_install_trust", "local_certs"]
    around.write_text("\n".join(["{", *options, "}", f"import {CADDYFILE}", ""]))
    env = {"SITE_ADDRESS": f"https://{HOST}:{port}", "UPSTREAM": upstream, "HOME": str(folder)}
    program = [str(shutil.which("caddy")), "run", "--config", str(around), "--adapter", "caddyfile"]
    with running(program, folder, {**env, **({"OPERATORS": operators} if operators else {})}):
        yield Proxy(port)


@contextmanager
def nginx(folder: Path, upstream: str, operators: str) -> Iterator[Proxy]:
    port, plain = free_port(), free_port()
    certify(folder)
    text = NGINX_CONF.read_text()
    for example, here in (
        ("server 127.0.0.1:8000;", f"server {upstream};"),
        ("listen 443 ssl;", f"listen {LOOPBACK}:{port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        ("listen 80;", f"listen {LOOPBACK}:{plain};"),
        ("    listen [::]:80;\n", ""),
        ("/etc/ssl/receiver/", f"{folder}/"),
        *([("allow 127.0.0.1;", f"allow {operators};")] if operators else []),
    ):
        assert text.count(example) >= 1, example
        text = text.replace(example, here)
    (folder / "receiver.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off;\n{temporary} include {folder}/receiver.conf; }}\n"
    )
    program = [str(shutil.which("nginx", path="/usr/sbin:/usr/bin")), "-p", str(folder), "-c", "nginx.conf"]
    subprocess.run([*program, "-t", "-q"], check=True)
    with running(program, folder, {}):
        yield Proxy(port)


@contextmanager
def running(program: list[str], folder: Path, env: dict[str, str]) -> Iterator[None]:
    with (folder / "log").open("wb") as log, subprocess.Popen(program, env=env, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def certify(folder: Path) -> None:
    """Make a certificate for the host, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, encryption = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "privkey.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, encryption))


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with served(echo) as url:
        yield url.removeprefix("http://")


@pytest.fixture(scope="module", params=[caddy, nginx], ids=lambda each: each.__name__)
def start(
    request: pytest.FixtureRequest, upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Any]:
    """Starts one of the proxies, for the operators' network that is given; empty: as the example says."""
    name = request.param.__name__
    if shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        pytest.skip(f"{name} is missing: apt-get install {PROGRAMS[name]}")
    return lambda operators: request.param(tmp_path_factory.mktemp(name), upstream, operators)


@pytest.fixture(scope="module")
def proxy(start: Callable[[str], Any]) -> Iterator[Proxy]:
    with start(ELSEWHERE) as proxy:
        eventually(proxy.is_up)
        yield proxy


def test_strangers_reach_hooks_and_nothing_else(proxy: Proxy) -> None:
    for path in CLOSED:
        status, content, _ = proxy.ask(path)
        reached = content["path"] if isinstance(content, dict) else None
        assert (reached, status in {301, 403, 404}) == (None, True), (path, status)
    for path in ("/hooks/opencard/some-key?challenge=abc", "/hooks/oauth/token"):
        assert proxy.ask(path)[0] == 200


def test_deliveries_arrive_as_they_were_sent(proxy: Proxy) -> None:
    sent = '{"amount": 1.10,  "merchant": "\\u00c5ngbåten"}' * 30_000
    status, seen, _ = proxy.ask("/hooks/opencard/key", method="POST", body=sent, headers={"X-Data-Signature": "abc="})
    assert (status, seen["body"] == sent, seen["headers"]["X-Data-Signature"]) == (200, True, "abc=")


def test_forwarded_headers_of_a_client_are_replaced(proxy: Proxy) -> None:
    _, seen, _ = proxy.ask("/hooks/opencard/key", headers=FORGED)
    headers = seen["headers"]
    assert headers["X-Forwarded-For"] in {"127.0.0.1", "::1"}
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-Host"].partition(":")[0] == HOST
    assert not {"Forwarded", "Traceparent"} & headers.keys()
    assert len(headers["X-Request-Id"]) >= 32


def test_answers_ask_for_https_and_name_no_server(proxy: Proxy) -> None:
    for path in ("/hooks/opencard/key", "/ops/"):
        _, _, headers = proxy.ask(path)
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert not any(character.isdigit() for character in headers.get("Server", ""))


def test_operators_reach_the_console_and_no_metrics(start: Callable[[str], Any]) -> None:
    with start("") as proxy:
        eventually(proxy.is_up)
        assert proxy.ask("/ops/deliveries")[1]["path"] == "/ops/deliveries"
        assert proxy.ask("/metrics")[0] == 404
