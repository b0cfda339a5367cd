"""What OpenCard knows of a registered webhook, and the headers that follow from it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Literal

from receiver.sandbox.signing import sign


@dataclass(frozen=True, slots=True)
class Registration:
    """A webhook of one organization as it was registered; secrets stay out of ``repr``.

    Raises ``ValueError`` when the authentication lacks its credentials.
    """

    url: str
    secret: str = field(repr=False)
    organization_reference_id: str
    authentication_type: Literal["none", "basic", "oauth", "custom"] = "none"
    basic_username: str | None = field(default=None, repr=False)
    basic_password: str | None = field(default=None, repr=False)
    custom_key: str | None = None
    custom_value: str | None = field(default=None, repr=False)
    oauth_access_token_url: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = field(default=None, repr=False)
    headers_registered: dict[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Custom headers, sent with each delivery; they replace none that the contract names."""
    signs: bool = True
    """Whether deliveries carry a signature: the provider's newer pages do not mention it."""

    def __post_init__(self) -> None:
        if self.authentication_type == "basic" and (self.basic_username is None or self.basic_password is None):
            raise ValueError("authentication_type basic needs basic_username and basic_password")
        if self.authentication_type == "custom" and (self.custom_key is None or self.custom_value is None):
            raise ValueError("authentication_type custom needs custom_key and custom_value")
        if self.authentication_type == "oauth" and self.oauth_access_token_url is None:
            raise ValueError("authentication_type oauth needs oauth_access_token_url")

    def headers(self, event: str, body: bytes, *, bearer: str | None = None) -> dict[str, str]:
        """Return the headers of a delivery of *event* with exactly this *body* (contract, section 5).

        *bearer* is the token that was fetched for ``oauth``.
        """
        headers = {
            "Content-Type": "application/json",
            "X-Event": event,
            "X-Version": "1",
            **self._authentication(bearer),
        }
        if self.signs:
            headers["X-Data-Signature"] = sign(self.secret, body)
        taken = {name.lower() for name in headers}
        custom = {name: value for name, value in self.headers_registered.items() if name.lower() not in taken}
        return {**custom, **headers}

    def _authentication(self, bearer: str | None) -> dict[str, str]:
        match self.authentication_type:
            case "basic":
                credentials = base64.b64encode(f"{self.basic_username}:{self.basic_password}".encode())
                return {"Authorization": f"Basic {credentials.decode()}"}
            case "custom":
                return {str(self.custom_key): str(self.custom_value)}
            case "oauth":
                return {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
            case "none":
                return {}
