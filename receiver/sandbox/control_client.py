"""Asks a local OpenCard, in this process or another, for what only a local one can do: send an event, lose its log."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from receiver.errors import OperationRefused
from receiver.events.catalogue import EVENT_FLAGS, canonical_name
from receiver.sandbox.payload_fields import changes_of_each
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECONDS: Final = 60
"""How long the local OpenCard may take."""
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
NO_TIME: Final = timedelta()


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How events are sent."""

    count: int = 1
    """How often, with new ids."""
    duplicate: bool = False
    """Each event twice, as a retry would."""
    late: timedelta = NO_TIME
    """How long after its first attempt, which the log has."""
    lose: bool = False
    """Only into the delivery log."""


ONCE: Final = SendOptions()


class _Fixture(msgspec.Struct):
    event: str
    body: dict[str, Any]


_fixture: Final = msgspec.json.Decoder(_Fixture, float_hook=Decimal)


def trigger_events(
    api_url: str,
    organization: str,
    events: Sequence[str],
    options: SendOptions = ONCE,
    *,
    changes: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> list[dict[str, Any]]:
    """Have *events* sent about an organization, and return what was sent, with the ids and answers.

    The first event is made up, or has this *body*; the others follow for the same transaction. *changes* are made to
    each event that has the field. Raises ``ValueError`` for an event or a field that does not exist, and
    ``OperationRefused``.
    """
    return [sent for sent, _ in trigger_bodies(api_url, organization, events, options, changes=changes, body=body)]


def trigger_bodies(
    api_url: str,
    organization: str,
    events: Sequence[str],
    options: SendOptions,
    *,
    changes: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> list[tuple[dict[str, Any], bytes]]:
    """Do what ``trigger_events`` does, and return with each event its body."""
    first = named_event(events[0])
    spelled = [first, *(named_event(name, after=first) for name in events[1:])]
    names = [canonical_name(name) or name for name in spelled]
    wanted = {
        "organization": organization,
        "events": names,
        "spelled": spelled,
        "changes": changes_of_each(names, changes or {}),
        "body": None if body is None else base64.b64encode(body).decode(),
        "count": options.count,
        "duplicate": options.duplicate,
        "late_seconds": options.late.total_seconds(),
        "lose": options.lose,
    }
    done: list[dict[str, Any]] = _ask("POST", api_url, "events", wanted).json()
    return [(sent, base64.b64decode(sent.pop("body"))) for sent in done]


def trigger_fixture(
    api_url: str,
    organization: str,
    fixture: bytes,
    options: SendOptions = ONCE,
) -> list[dict[str, Any]]:
    """Have the delivery of a fixture sent (``receiver deliveries show --fixture``), as one of *organization*.

    Raises ``ValueError`` for what is no fixture, and for an event that does not exist, and ``OperationRefused``.
    """
    event, body = read_fixture(fixture, organization)
    return trigger_events(api_url, organization, [event], options, body=body)


def read_fixture(fixture: bytes, organization: str) -> tuple[str, bytes]:
    """Return event and body of a fixture, as one of *organization*. Raises ``ValueError`` for what is no fixture."""
    read = _fixture.decode(fixture)
    body = dict(read.body)
    if isinstance(body.get("organization"), dict):
        body["organization"] = {**body["organization"], "reference_id": organization}
    return read.event, _encode(body)


def registered_webhooks(api_url: str) -> set[int]:
    """Return OpenCard's ids of the webhooks that are registered there. Raises ``OperationRefused``."""
    return set(_ask("GET", api_url, "webhooks").json())


def empty_log(api_url: str) -> None:
    """Have the local OpenCard delete every attempt to deliver. Raises ``OperationRefused``."""
    _ask("DELETE", api_url, "log")


def named_event(name: str, *, after: str = "") -> str:
    """Return the event of which *name* is the name, an alias or the last part; an alias stays as it is written.

    Where several events have that last part, it is the one of the same kind as the event *after* which it follows.
    Raises ``ValueError`` with the events that match.
    """
    if canonical_name(name) is not None:
        return name
    matching = [event for event in EVENT_FLAGS if event.endswith(f".{name}")]
    if len(matching) > 1 and (alike := [event for event in matching if event == f"{after.rpartition('.')[0]}.{name}"]):
        matching = alike
    if len(matching) != 1:
        which = ", ".join(matching or EVENT_FLAGS)
        raise ValueError(f"{name!r} is {'several events' if matching else 'no event'}; choose one of: {which}")
    return matching[0]


def _ask(method: str, api_url: str, path: str, wanted: object = None) -> httpx.Response:
    """Have the local OpenCard do it. Raises ``OperationRefused``, before anything is sent where it is the real one."""
    if not _is_loopback(api_url):
        raise OperationRefused(
            f"OPENCARD_API_URL is {api_url}, no local OpenCard: this works with receiver dev alone, and sends "
            "nothing to a service that is registered at the real one"
        )
    url = f"{api_url.rstrip('/')}/sandbox/{path}"
    try:
        answer = httpx.request(method, url, json=wanted, timeout=SECONDS, verify=tls_context(), trust_env=False)
    except httpx.TransportError as error:
        raise OperationRefused(
            f"no local OpenCard answers at {api_url} ({error}): start it with receiver dev"
        ) from None
    if not answer.is_success:
        reason = answer.text.strip()[:500]
        raise OperationRefused(f"the local OpenCard at {api_url} refused it ({answer.status_code}): {reason}")
    return answer


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
