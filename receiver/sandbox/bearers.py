"""Bearer tokens that OpenCard fetches to authenticate itself to a webhook with ``oauth`` (contract, section 5)."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.sandbox.registration import Registration

DEFAULT_LIFE_SECONDS: Final = 3600
"""Of a token whose endpoint does not say."""

_Key: TypeAlias = tuple[str, str, str]


@dataclass(slots=True)
class _Bearer:
    value: str = field(repr=False)
    expires_at: float
    doubted: bool = False
    """Fetched because the one before was refused: when it is refused, too, a third would not help."""


class BearerTokens:
    """Fetched tokens, kept until they expire; one for each token endpoint and client."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[_Key, _Bearer] = {}
        self._refused: set[_Key] = set()
        self._locks: defaultdict[tuple[int, _Key], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, client: httpx.AsyncClient, webhook: Registration) -> str | None:
        """Return a token for *webhook*, fetched unless one is kept; ``None`` when the endpoint does not give one."""
        key = _key(webhook)
        async with self._locks[id(asyncio.get_running_loop()), key]:
            kept = self._kept.get(key)
            if kept is None or kept.expires_at <= self._clock():
                kept = await self._fetch(client, key)
                if kept is None:
                    return None
                self._kept[key] = kept
            return kept.value

    def judge(self, webhook: Registration, value: str, status: int) -> None:
        """Take note of the *status* of a delivery with this token: after a 401 the next one gets a new token, once."""
        key = _key(webhook)
        kept = self._kept.get(key)
        if kept is None or kept.value != value:
            return
        if status != HTTPStatus.UNAUTHORIZED:
            kept.doubted = False
        elif not kept.doubted:
            del self._kept[key]
            self._refused.add(key)

    async def _fetch(self, client: httpx.AsyncClient, key: _Key) -> _Bearer | None:
        url, client_id, client_secret = key
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        asked_at = self._clock()
        try:
            answer = await client.post(url, data=form)
            fields: Any = answer.json() if answer.status_code == HTTPStatus.OK else None
        except (httpx.TransportError, httpx.InvalidURL, ValueError):
            return None
        if not isinstance(fields, dict) or not isinstance(fields.get("access_token"), str):
            return None
        life = fields.get("expires_in")
        seconds = life if isinstance(life, int | float) else DEFAULT_LIFE_SECONDS
        doubted = key in self._refused
        self._refused.discard(key)
        return _Bearer(fields["access_token"], asked_at + seconds, doubted)


def _key(webhook: Registration) -> _Key:
    return webhook.oauth_access_token_url or "", webhook.oauth_client_id or "", webhook.oauth_client_secret or ""
