"""Another receiver of webhooks to compare with: ``@supabase/stripe-sync-engine``, for node.

It verifies a delivery and upserts one row of its own table; it keeps no bytes, and answers when the row is committed.
The deliveries are charges of the length of the receiver's own, each with its own id.
"""

from __future__ import annotations

import hmac
import json
import os
import shutil
import subprocess
import time
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import common
from bench.load import Timings, load
from receiver.sandbox.embedded import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.sandbox.local import LocalServers

FOLDER: Final = Path(__file__).parent
NAME: Final = "peer: @supabase/stripe-sync-engine"
PROCESSES: Final = 2
CONNECTIONS: Final = 16
"""Of each process to PostgreSQL."""
REQUESTS: Final = 30_000
"""More than are sent in a turn: an equal one would change nothing."""
START_SECONDS: Final = 60
LATER: Final = 86_400
"""Seconds by which a signature's time is ahead, so that it is not too old at the end of a run."""
SECRET: Final = "whsec_of_the_benchmark"  # noqa: S105 - no other service has it


def why_not() -> str | None:
    """Return why the peer cannot be measured here, or ``None``: what it is made of is then installed."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "there are no node and npm"
    command = [npm, "ci", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(command, cwd=FOLDER, check=False, capture_output=True, text=True)
    return (
        None if done.returncode == 0 else f"npm ci fails: {(done.stderr or done.stdout).strip().partition(chr(10))[0]}"
    )


@contextmanager
def upserting(servers: LocalServers, *, length: int, seconds: float) -> Iterator[Callable[[int], Timings]]:
    """Run the peer on the same PostgreSQL; yield what loads it over so many connections, *length* bytes a body."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": common.libpq_url(servers),
        "PORT": str(port),
        "SECRET": SECRET,
        "CONNECTIONS": str(CONNECTIONS),
        "PROCESSES": str(PROCESSES),
    }
    requests = [_request(number, length, port) for number in range(REQUESTS)]

    def measure(connections: int) -> Timings:
        with closing(common.connect(servers)) as connection:
            connection.execute("TRUNCATE stripe.charges")
        timings = load(port, cycle(requests), connections=connections, seconds=seconds)
        stored = common.count(servers, "stripe.charges")
        assert stored == min(len(timings), REQUESTS), f"{len(timings)} were answered 200, but {stored} are stored"
        return timings

    with (servers.folder / "logs" / "peer.log").open("ab") as log:
        process = subprocess.Popen(["node", "server.cjs"], cwd=FOLDER, env=environment, stdout=log, stderr=log)  # noqa: S607
    try:
        common.wait_for_port(port, within=START_SECONDS)
        yield measure
    finally:
        process.terminate()
        process.wait()


def _request(number: int, length: int, port: int) -> bytes:
    body = _event(number, "")
    body = _event(number, "x" * max(0, length - len(body)))
    at = int(time.time()) + LATER
    signature = hmac.digest(SECRET.encode(), f"{at}.".encode() + body, "sha256").hex()
    head = (
        f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nStripe-Signature: t={at},v1={signature}\r\n\r\n"
    )
    return head.encode() + body


def _event(number: int, description: str) -> bytes:
    charge = {
        "id": f"ch_{number:024}",
        "object": "charge",
        "amount": 24550,
        "currency": "sek",
        "created": 1_760_000_000,
        "paid": True,
        "captured": True,
        "status": "succeeded",
        "customer": "cus_000000000000",
        "payment_intent": "pi_000000000000",
        "payment_method_details": {"card": {"brand": "visa", "last4": "4242"}, "type": "card"},
        "metadata": {},
        "description": description,
    }
    event = {
        "id": f"evt_{number:024}",
        "object": "event",
        "type": "charge.succeeded",
        "created": 1_760_000_000,
        "data": {"object": charge},
    }
    return json.dumps(event).encode()
