"""What the tests of both programs use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bookkeeping import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bookkeeping import Ems

    from receiver.testing.kit import ReceiverKit


@pytest.fixture
def ems(opencard_receiver: ReceiverKit) -> Iterator[Ems]:
    with connect(opencard_receiver.ems_url) as connection:
        yield connection
