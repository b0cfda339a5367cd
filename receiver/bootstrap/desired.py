"""What is wanted: the configuration file, read and checked, every mistake in one line that names its key.

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
"""Authentication type → the credentials that may be given; what is not given is generated."""
GIVEN: Final = tuple(name for names in CREDENTIALS.values() for name in names)
SETTINGS: Final = ("events", "authentication_type", "groups", "headers", *GIVEN)
TOP: Final = (*SETTINGS, "organizations")
OF_ORGANIZATION: Final = ("reference_id", "skip", *SETTINGS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The webhook that an organization shall have."""

    events: frozenset[str] = ALL_EVENTS
    authentication_type: AuthenticationType = AuthenticationType.BASIC
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those that are given, of any type; ``credentials_given`` are those of its own."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    groups: tuple[str, ...] = ()
    all_events: bool = True
    """Whether all events are wanted that the organization may have, whatever these are."""
    unavailable: frozenset[str] = frozenset()
    """Flags of events that the organization cannot have: they are neither asked for nor switched off."""

    @property
    def credentials_given(self) -> dict[str, str]:
        """The credentials that its authentication type uses and that are not to be generated."""
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
        """The flags that are to be on."""
        return frozenset(flag for flag, on in self.flags.items() if on)

    def without(self, unavailable: Iterable[str]) -> Wanted:
        """Return the same for an organization that cannot have these flags, too."""
        return replace(self, unavailable=self.unavailable.union(unavailable))


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is wanted for each organization: the defaults, and what differs from them."""

    defaults: Wanted = field(default_factory=Wanted)
    organizations: Mapping[str, Wanted | None] = field(default_factory=dict)
    """By the EMS's own id; ``None`` leaves an organization out."""

    def wanted(self, reference_id: str) -> Wanted | None:
        """Return what is wanted for an organization, ``None`` when it is left out."""
        return self.organizations.get(reference_id, self.defaults)

    def all(self, only: Collection[str] = ()) -> list[Wanted]:
        """Return everything that is wanted of anybody, or of *only* these organizations."""
        if only:
            return [wanted for wanted in map(self.wanted, only) if wanted is not None]
        return [self.defaults, *(wanted for wanted in self.organizations.values() if wanted is not None)]

    def as_json(self) -> str:
        """Return everything in it, secrets included, as one text that ``from_json`` reads."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Return the configuration in a text of ``as_json``; what was all events is all that this release knows."""
        read = msgspec.json.decode(text, type=cls)
        organizations = {name: wanted and _up_to_date(wanted) for name, wanted in read.organizations.items()}
        return cls(_up_to_date(read.defaults), organizations)


def _up_to_date(wanted: Wanted) -> Wanted:
    return replace(wanted, events=ALL_EVENTS) if wanted.all_events else wanted


def read_configuration(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Return what the file at *path* says; the defaults without one. Values may come from *environ*.

    Raises ``ConfigurationError`` with a line for each mistake.
    """
    if path is None:
        return Configuration()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            [f"{path}: there is no such file; webhooks.example.toml shows what stands in one"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: it cannot be read: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"{path}: not TOML: {error}"]) from None
    return understand(document, environ, name=str(path))


def understand(document: Mapping[str, Any], environ: Mapping[str, str], *, name: str) -> Configuration:
    """Return what a configuration says; *name* is its file's, for the errors. Pure. Raises ``ConfigurationError``."""
    reader = _Reader(environ)
    reader.check_keys("", document, TOP)
    defaults = reader.wanted("", document, Wanted())
    organizations: dict[str, Wanted | None] = {}
    tables = document.get("organizations", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        reader.wrong("organizations", "write each as a table of its own: [[organizations]]")
        tables = []
    for number, table in enumerate(tables, start=1):
        where = f"organizations[{number}]."
        reader.check_keys(where, table, OF_ORGANIZATION)
        reference = reader.text(where + "reference_id", table.get("reference_id"), needed=True)
        if reference in organizations:
            reader.wrong(where + "reference_id", f"{reference!r} stands there twice")
        wanted = reader.wanted(where, table, defaults)
        organizations[reference] = None if reader.skips(where, table) else wanted
    reader.check_credentials("", document, defaults, [each for each in organizations.values() if each])
    if reader.problems:
        raise ConfigurationError([f"{name}: {problem}" for problem in reader.problems])
    return Configuration(defaults, organizations)


class _Reader:
    """Reads the values of the file, and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def wrong(self, key: str, what: str) -> None:
        self.problems.append(f"{key}: {what}")

    def check_keys(self, where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                self.wrong(where + key, f"there is no such key; {nearest(key, known)}")

    def wanted(self, where: str, table: Mapping[str, Any], defaults: Wanted) -> Wanted:
        """Return *defaults* with what *table* says in place of theirs; of headers, one by one."""
        wanted = defaults
        if "events" in table:
            events = self._events(where + "events", table["events"])
            wanted = replace(wanted, events=events, all_events=table["events"] == "all")
        if "authentication_type" in table:
            kind = self._authentication_type(where + "authentication_type", table["authentication_type"])
            wanted = replace(wanted, authentication_type=kind)
        if "groups" in table:
            wanted = replace(wanted, groups=self._groups(where + "groups", table["groups"]))
        if "headers" in table:
            own = self._headers(where + "headers", table["headers"])
            lower = {key.lower() for key in own}
            kept = {key: value for key, value in wanted.headers.items() if key.lower() not in lower}
            wanted = replace(wanted, headers={**kept, **own})
        given = {name: self._credential(where, name, table[name]) for name in GIVEN if name in table}
        wanted = replace(wanted, credentials={**wanted.credentials, **given})
        if not {"headers", "authentication_type", "custom_key"}.isdisjoint(table):
            self._check_custom_key(where, wanted)
        if where:
            self.check_credentials(where, table, wanted, [])
        return wanted

    def check_credentials(self, where: str, table: Mapping[str, Any], wanted: Wanted, others: Iterable[Wanted]) -> None:
        """Find credentials in *table* that neither *wanted* uses, nor one of the *others* whose defaults they are."""
        used = {wanted.authentication_type, *(other.authentication_type for other in others)}
        for name in GIVEN:
            if name in table and not any(name in CREDENTIALS[kind] for kind in used):
                self.wrong(where + name, f"does not go with authentication_type {wanted.authentication_type}")

    def skips(self, where: str, table: Mapping[str, Any]) -> bool:
        skip = table.get("skip", False)
        if not isinstance(skip, bool):
            self.wrong(where + "skip", "write true or false")
        elif skip and set(table) - {"reference_id", "skip"}:
            self.wrong(where + "skip", "an organization that is left out has no other keys than reference_id")
        return skip is True

    def text(self, key: str, value: object, *, needed: bool = False) -> str:
        """Return a text, given in the file or through an environment variable."""
        if isinstance(value, dict) and set(value) == {"env"} and isinstance(value["env"], str):
            text = self._environ.get(value["env"], "")
            if not text:
                self.wrong(key, f"the environment variable {value['env']} is not set")
            return text
        if isinstance(value, str) and value:
            return value
        if value is None and needed:
            self.wrong(key, "missing")
        else:
            self.wrong(key, 'write a text, or { env = "NAME" }')
        return ""

    def _events(self, key: str, value: object) -> frozenset[str]:
        if value == "all":
            return ALL_EVENTS
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self.wrong(key, 'write "all" or a list of event names')
            return frozenset()
        names = set()
        for name in value:
            known = canonical_name(name)
            if known is None:
                self.wrong(key, f"there is no event {name!r}; {nearest(name, ALL_EVENTS)}")
            elif EVENT_FLAGS[known] is None:
                self.wrong(key, f"OpenCard has no switch for {name!r}: leave it out")
            else:
                names.add(known)
        return frozenset(names)

    def _authentication_type(self, key: str, value: object) -> AuthenticationType:
        try:
            return AuthenticationType(str(value))
        except ValueError:
            self.wrong(
                key, f"{value!r} is none of {', '.join(AuthenticationType)}; {nearest(str(value), AuthenticationType)}"
            )
            return AuthenticationType.BASIC

    def _groups(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(party, str) and party for party in value):
            self.wrong(key, 'write a list of buyer parties, each in quotes: ["5561234567"]')
            return ()
        return tuple(dict.fromkeys(value))

    def _headers(self, key: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            self.wrong(key, "write a table: [headers]")
            return {}
        headers: dict[str, str] = {}
        for name, given in value.items():
            where = f"{key}.{name}"
            text = self.text(where, given)
            if problem := name_problem(name) or value_problem(text):
                self.wrong(where, problem)
            elif same := next((other for other in headers if other.lower() == name.lower()), None):
                self.wrong(where, f"the same header as {same}")
            headers[name] = text
        return headers

    def _credential(self, where: str, name: str, value: object) -> str:
        text = self.text(where + name, value)
        if text and (problem := credential_problem(name, text)):
            self.wrong(where + name, problem)
        return text

    def _check_custom_key(self, where: str, wanted: Wanted) -> None:
        """Find a header that has the name of the custom key: the two would arrive as one."""
        key = wanted.credentials.get("custom_key") or CUSTOM_KEY
        for name in wanted.headers:
            if wanted.authentication_type is AuthenticationType.CUSTOM and name.lower() == key.lower():
                self.wrong(f"{where}headers.{name}", "the header of authentication_type custom has this name")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known words that are nearest to *word*, or all of them, as the end of a sentence."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.5)
    return f"the nearest is {' or '.join(near)}" if near else f"there are {', '.join(sorted(names))}"
