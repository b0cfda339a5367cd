"""The pytest plugin: fixtures for the tests of a program that reads schema ``ems`` (docs/ems/testing.md).

pytest loads this module wherever the package is installed, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.testing.kit import ReceiverKit
    from receiver.testing.stack import Stack

OPTION: Final = "--opencard-receiver"
VARIABLE: Final = "OPENCARD_RECEIVER"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names a running service."""
    parser.getgroup("opencard-receiver").addoption(
        OPTION,
        metavar="FILE",
        default=os.environ.get(VARIABLE),
        help="Use the running 'receiver dev --idle' instead of starting one: the file environment of its folder "
        f"(.data/dev/environment). Its data are deleted. Default: the variable {VARIABLE}.",
    )


@pytest.fixture(scope="session")
def opencard_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Start the whole service on this machine, once per session."""
    from receiver.testing.stack import embedded_stack, running_stack  # noqa: PLC0415 - only where it is used

    running = request.config.getoption(OPTION)
    with running_stack(Path(running)) if running else embedded_stack() as stack:
        yield stack


@pytest.fixture
def opencard_receiver(opencard_stack: Stack) -> ReceiverKit:
    """Empty the service's database, to send events to it and to read from it."""
    from receiver.testing.kit import ReceiverKit  # noqa: PLC0415 - only where it is used

    kit = ReceiverKit(opencard_stack)
    kit.empty()
    return kit
