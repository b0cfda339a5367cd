"""Handlers by event name, bound by decorator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from receiver.events.catalogue import EVENT_FLAGS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.events.event import Event
    from receiver.events.payloads import Payload

Apply = Callable[["Connection", Sequence["Event"]], None]
"""Applies events, oldest first, none of them a retry, in a few statements for all of them."""

HANDLER_MODULES: Final = (
    "receiver.events.handlers.card_holders",
    "receiver.events.handlers.tpas",
    "receiver.events.handlers.transactions",
    "receiver.events.handlers.receipts",
    "receiver.events.handlers.vat",
    "receiver.events.handlers.line_items",
    "receiver.events.handlers.environmental_impacts",
    "receiver.events.handlers.invoices",
)
"""In the order in which they are applied: all workers lock rows in one order, so that none waits in a circle."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What to do with an event: how its payload is typed, and what applies it."""

    payload_type: type[Payload]
    apply: Apply


_handlers: dict[str, Handler] = {}


def handles(payloads: Mapping[str, type[Payload]]) -> Callable[[Apply], Apply]:
    """Bind the decorated function to events, each with the type of its payload."""

    def bind(apply: Apply) -> Apply:
        for name, payload_type in payloads.items():
            if name not in EVENT_FLAGS:
                raise ValueError(f"{name!r} is not in the catalogue of events")
            if name in _handlers:
                raise ValueError(f"{name!r} has a handler already")
            _handlers[name] = Handler(payload_type, apply)
        return apply

    return bind


def load_handlers() -> Mapping[str, Handler]:
    """Import every handler and return them by event name, in the order in which they are applied."""
    for module in HANDLER_MODULES:
        import_module(module)
    return _handlers
