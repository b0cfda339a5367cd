"""The challenge: the other end proves that it knows the webhook's secret (contract, section 4)."""

from __future__ import annotations

import hmac
import secrets
import string
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx

from receiver.sandbox.signing import sign

LENGTH: Final = 20
HEADERS: Final = {"X-Event": "challenge"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One question to a webhook, and how its answer is judged."""

    question: str
    url: httpx.URL
    """What to ``GET``, with ``HEADERS``."""

    @classmethod
    def of(cls, url: str) -> Challenge:
        """Return a new question to the webhook at *url*. Raises ``httpx.InvalidURL``."""
        question = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(LENGTH))
        return cls(question, httpx.URL(url).copy_merge_params({"challenge": question}))

    def passed_by(self, answer: httpx.Response, secret: str) -> bool:
        """Return whether *answer* is a 200 with the right ``X-Verify-Token``."""
        token = answer.headers.get("X-Verify-Token", "")
        right = hmac.compare_digest(token.encode(), sign(secret, self.question.encode()).encode())
        return answer.status_code == HTTPStatus.OK and right
