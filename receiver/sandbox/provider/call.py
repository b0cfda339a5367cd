"""A request whose caller has been let in, and what a route can ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import request

from receiver.sandbox.provider.pages import page_number, page_of, page_size
from receiver.sandbox.provider.refusals import malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import ProviderOrganization, ProviderWebhook
    from receiver.sandbox.provider.state import ProviderState

    T = TypeVar("T")

Answer: TypeAlias = tuple[int, dict[str, object] | None]
"""Status and body; ``None`` for no body."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller may make it."""

    provider: Provider
    account_id: int
    owner: ProviderOrganization | None
    """The organization of the path, if it names one."""
    webhook_id: int | None
    names: Mapping[str, Any]
    """The other variables of the path."""

    @property
    def state(self) -> ProviderState:
        """Organizations and webhooks."""
        return self.provider.state

    @property
    def organization(self) -> ProviderOrganization:
        """The organization of the path."""
        assert self.owner is not None  # noqa: S101 - only routes that name one ask
        return self.owner

    @property
    def webhook(self) -> ProviderWebhook:
        """The webhook of the path."""
        assert self.webhook_id is not None  # noqa: S101 - likewise
        return self.state.webhook(self.webhook_id)

    def body(self) -> dict[str, Any]:
        """Return the JSON object that was sent. Raises ``Refused`` (400) for anything else."""
        fields = request.get_json(force=True, silent=True)
        if not isinstance(fields, dict):
            raise malformed("The body must be a JSON object.")
        return fields

    def text(self, name: str) -> str:
        """Return a field of the body. Raises ``Refused`` (400) when it is no text, or empty."""
        value = self.body().get(name)
        if not isinstance(value, str) or not value:
            raise malformed(f"The {name} must be a string.")
        return value

    def page(self, items: Callable[[], Sequence[T]], shown: Callable[[T], object]) -> Answer:
        """Return the page of *items* that is asked for; they are read after others had the chance to change them."""
        number = page_number(request.args)
        self.provider.behaviour.before_page(request.path, number)
        behaviour = self.provider.behaviour
        per_page = page_size(request.args, behaviour.per_page) if behaviour.honours_per_page else behaviour.per_page
        return HTTPStatus.OK, page_of(items(), number, per_page, shown)
