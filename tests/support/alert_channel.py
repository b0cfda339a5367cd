"""An address that alerts are sent to, served over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from flask import Flask, request

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator


class Channel:
    """The messages that arrived, in order."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self.failures = 0
        """How many of the next requests it answers with 500."""
        self.app = Flask(__name__)
        self.app.add_url_rule("/<name>", view_func=self.take, methods=["POST"])
        self.url = ""

    def take(self, name: str) -> tuple[str, int]:
        if self.failures:
            self.failures -= 1
            return "", 500
        self.messages.append({**msgspec.json.decode(request.get_data()), "channel": name})
        return "", 200

    @property
    def titles(self) -> list[str]:
        return [message["title"].removeprefix("OpenCard receiver: ") for message in self.messages]


@pytest.fixture
def channel() -> Iterator[Channel]:
    channel = Channel()
    with served(channel.app) as url:
        channel.url = url.replace("http://", "json://")
        yield channel
