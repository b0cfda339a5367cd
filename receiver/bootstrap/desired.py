"""The configuration file, parsed and checked: one line for each mistake, with its key.

Without a file: every organization of the account, all events, ``basic`` with generated credentials, no headers.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import ConfigurationError
from receiver.events.catalogue import EVENT_FLAGS, canonical_name
from receiver.webhooks.credentials import AuthenticationType
from receiver.webhooks.generate import CUSTOM_KEY
from receiver.webhooks.header_rules import credential_problem, name_problem, value_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

ALL_EVENTS: Final = frozenset(name for name, flag in EVENT_FLAGS.items() if flag is not None)
CREDENTIALS: Final[dict[AuthenticationType, tuple[str, ...]]] = {
    AuthenticationType.NONE: (),
    AuthenticationType.BASIC: ("basic_username", "basic_password"),
    AuthenticationType.CUSTOM: ("custom_key", "custom_value"),
    AuthenticationType.OAUTH: (),
}
"""Authentication type → the credentials that may be configured; the others are generated."""
CREDENTIAL_KEYS: Final = tuple(name for names in CREDENTIALS.values() for name in names)
WEBHOOK_KEYS: Final = ("events", "authentication_type", "groups", "headers", *CREDENTIAL_KEYS)
TOP_LEVEL_KEYS: Final = (*WEBHOOK_KEYS, "organizations")
ORGANIZATION_KEYS: Final = ("reference_id", "skip", *WEBHOOK_KEYS)


@dataclass(frozen=True, slots=True)
class DesiredWebhook:
    """The webhook that an organization is to have."""

    events: frozenset[str] = ALL_EVENTS
    authentication_type: AuthenticationType = AuthenticationType.BASIC
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All that are configured, of any type; ``given_credentials`` are those of its own type."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    groups: tuple[str, ...] = ()
    all_events: bool = True
    """Whether all events that the organization may have are desired, instead of a list."""
    unavailable: frozenset[str] = frozenset()
    """Flags of events that the organization cannot have: they are neither requested nor switched off."""

    @property
    def given_credentials(self) -> dict[str, str]:
        """The configured credentials that its authentication type uses."""
        names = CREDENTIALS[self.authentication_type]
        return {name: value for name, value in self.credentials.items() if name in names}

    @property
    def flags(self) -> dict[str, bool]:
        """Every flag of the catalogue, and whether it is to be on."""
        return {
            flag: name in self.events and flag not in self.unavailable
            for name, flag in EVENT_FLAGS.items()
            if flag is not None
        }

    @property
    def flags_on(self) -> frozenset[str]:
        """The flags to switch on."""
        return frozenset(flag for flag, on in self.flags.items() if on)

    def without(self, unavailable: Iterable[str]) -> DesiredWebhook:
        """Return a copy that also leaves out the *unavailable* flags."""
        return replace(self, unavailable=self.unavailable.union(unavailable))


@dataclass(frozen=True, slots=True)
class Configuration:
    """The defaults, and the organizations that differ from them."""

    defaults: DesiredWebhook = field(default_factory=DesiredWebhook)
    organizations: Mapping[str, DesiredWebhook | None] = field(default_factory=dict)
    """By reference id; ``None`` leaves an organization out."""

    def desired(self, reference_id: str) -> DesiredWebhook | None:
        """Return the desired webhook of an organization, ``None`` when it is left out."""
        return self.organizations.get(reference_id, self.defaults)

    def all(self, only: Collection[str] = ()) -> list[DesiredWebhook]:
        """Return every desired webhook, or those of *only* these organizations."""
        if only:
            return [desired for desired in map(self.desired, only) if desired is not None]
        return [self.defaults, *(desired for desired in self.organizations.values() if desired is not None)]

    def as_json(self) -> str:
        """Return everything in it, secrets included, for ``from_json``."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Parse the output of ``as_json``; "all events" means all that this release knows."""
        read = msgspec.json.decode(text, type=cls)
        organizations = {name: desired and _up_to_date(desired) for name, desired in read.organizations.items()}
        return cls(_up_to_date(read.defaults), organizations)


def _up_to_date(desired: DesiredWebhook) -> DesiredWebhook:
    return replace(desired, events=ALL_EVENTS) if desired.all_events else desired


def read_configuration(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Read the file at *path*; the defaults without one. Values may come from *environ*.

    Raises ``ConfigurationError`` with a line for each mistake.
    """
    if path is None:
        return Configuration()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError([f"{path}: there is no such file; webhooks.example.toml shows the format"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: it cannot be read: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"{path}: not TOML: {error}"]) from None
    return parse_configuration(document, environ, name=str(path))


def parse_configuration(document: Mapping[str, Any], environ: Mapping[str, str], *, name: str) -> Configuration:
    """Parse a TOML document; *name* is its file's, for the errors. Pure. Raises ``ConfigurationError``."""
    reader = _DocumentReader(environ)
    reader.check_keys("", document, TOP_LEVEL_KEYS)
    defaults = reader.desired("", document, DesiredWebhook())
    organizations: dict[str, DesiredWebhook | None] = {}
    tables = document.get("organizations", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        reader.add_problem("organizations", "write each as a table of its own: [[organizations]]")
        tables = []
    for number, table in enumerate(tables, start=1):
        where = f"organizations[{number}]."
        reader.check_keys(where, table, ORGANIZATION_KEYS)
        reference = reader.text(where + "reference_id", table.get("reference_id"), needed=True)
        if reference in organizations:
            reader.add_problem(where + "reference_id", f"{reference!r} stands there twice")
        desired = reader.desired(where, table, defaults)
        organizations[reference] = None if reader.is_skipped(where, table) else desired
    reader.check_credentials("", document, defaults, [each for each in organizations.values() if each])
    if reader.problems:
        raise ConfigurationError([f"{name}: {problem}" for problem in reader.problems])
    return Configuration(defaults, organizations)


class _DocumentReader:
    """Reads the values of the file, and collects all problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def add_problem(self, key: str, what: str) -> None:
        self.problems.append(f"{key}: {what}")

    def check_keys(self, where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                self.add_problem(where + key, f"there is no such key; {nearest(key, known)}")

    def desired(self, where: str, table: Mapping[str, Any], defaults: DesiredWebhook) -> DesiredWebhook:
        """Return *defaults* with the values of *table*; headers are merged one by one."""
        desired = defaults
        if "events" in table:
            events = self._events(where + "events", table["events"])
            desired = replace(desired, events=events, all_events=table["events"] == "all")
        if "authentication_type" in table:
            kind = self._authentication_type(where + "authentication_type", table["authentication_type"])
            desired = replace(desired, authentication_type=kind)
        if "groups" in table:
            desired = replace(desired, groups=self._groups(where + "groups", table["groups"]))
        if "headers" in table:
            own = self._headers(where + "headers", table["headers"])
            lower = {key.lower() for key in own}
            kept = {key: value for key, value in desired.headers.items() if key.lower() not in lower}
            desired = replace(desired, headers={**kept, **own})
        credentials = {name: self._credential(where, name, table[name]) for name in CREDENTIAL_KEYS if name in table}
        desired = replace(desired, credentials={**desired.credentials, **credentials})
        if not {"headers", "authentication_type", "custom_key"}.isdisjoint(table):
            self._check_custom_key(where, desired)
        if where:
            self.check_credentials(where, table, desired, [])
        return desired

    def check_credentials(
        self, where: str, table: Mapping[str, Any], desired: DesiredWebhook, others: Iterable[DesiredWebhook]
    ) -> None:
        """Report credentials in *table* that neither *desired* nor one of the *others* uses."""
        used = {desired.authentication_type, *(other.authentication_type for other in others)}
        for name in CREDENTIAL_KEYS:
            if name in table and not any(name in CREDENTIALS[kind] for kind in used):
                self.add_problem(where + name, f"does not go with authentication_type {desired.authentication_type}")

    def is_skipped(self, where: str, table: Mapping[str, Any]) -> bool:
        skip = table.get("skip", False)
        if not isinstance(skip, bool):
            self.add_problem(where + "skip", "write true or false")
        elif skip and set(table) - {"reference_id", "skip"}:
            self.add_problem(where + "skip", "an organization that is left out has no other keys than reference_id")
        return skip is True

    def text(self, key: str, value: object, *, needed: bool = False) -> str:
        """Return a string from the file or from an environment variable."""
        if isinstance(value, dict) and set(value) == {"env"} and isinstance(value["env"], str):
            text = self._environ.get(value["env"], "")
            if not text:
                self.add_problem(key, f"the environment variable {value['env']} is not set")
            return text
        if isinstance(value, str) and value:
            return value
        if value is None and needed:
            self.add_problem(key, "missing")
        else:
            self.add_problem(key, 'write a text, or { env = "NAME" }')
        return ""

    def _events(self, key: str, value: object) -> frozenset[str]:
        if value == "all":
            return ALL_EVENTS
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self.add_problem(key, 'write "all" or a list of event names')
            return frozenset()
        names = set()
        for name in value:
            known = canonical_name(name)
            if known is None:
                self.add_problem(key, f"there is no event {name!r}; {nearest(name, ALL_EVENTS)}")
            elif EVENT_FLAGS[known] is None:
                self.add_problem(key, f"OpenCard has no switch for {name!r}: leave it out")
            else:
                names.add(known)
        return frozenset(names)

    def _authentication_type(self, key: str, value: object) -> AuthenticationType:
        try:
            return AuthenticationType(str(value))
        except ValueError:
            self.add_problem(
                key, f"{value!r} is none of {', '.join(AuthenticationType)}; {nearest(str(value), AuthenticationType)}"
            )
            return AuthenticationType.BASIC

    def _groups(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(party, str) and party for party in value):
            self.add_problem(key, 'write a list of buyer parties, each in quotes: ["5561234567"]')
            return ()
        return tuple(dict.fromkeys(value))

    def _headers(self, key: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            self.add_problem(key, "write a table: [headers]")
            return {}
        headers: dict[str, str] = {}
        for name, header in value.items():
            where = f"{key}.{name}"
            text = self.text(where, header)
            if problem := name_problem(name) or value_problem(text):
                self.add_problem(where, problem)
            elif same := next((other for other in headers if other.lower() == name.lower()), None):
                self.add_problem(where, f"the same header as {same}")
            headers[name] = text
        return headers

    def _credential(self, where: str, name: str, value: object) -> str:
        text = self.text(where + name, value)
        if text and (problem := credential_problem(name, text)):
            self.add_problem(where + name, problem)
        return text

    def _check_custom_key(self, where: str, desired: DesiredWebhook) -> None:
        """Report a header with the name of the custom key: the two would arrive as one."""
        key = desired.credentials.get("custom_key") or CUSTOM_KEY
        for name in desired.headers:
            if desired.authentication_type is AuthenticationType.CUSTOM and name.lower() == key.lower():
                self.add_problem(f"{where}headers.{name}", "the header of authentication_type custom has this name")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known words most similar to *word*, or all of them, as the end of a sentence."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.5)
    return f"the nearest is {' or '.join(near)}" if near else f"there are {', '.join(sorted(names))}"
