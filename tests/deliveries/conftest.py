from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.token_requests import CLIENT, TokenRequests

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme


@pytest.fixture
def tokens(acme: Acme, settings: Settings) -> TokenRequests:
    tokens = TokenRequests(acme, settings)
    tokens.give("acme", CLIENT)
    return tokens
