"""The configuration file: what it can say, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from receiver.bootstrap.desired import ALL_EVENTS, DesiredWebhook, parse_configuration, read_configuration
from receiver.cli import main
from receiver.errors import ConfigurationError
from receiver.webhooks.credentials import AuthenticationType
from tests.support.world import configured

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent


def problems(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with a file."""
    with pytest.raises(ConfigurationError) as wrong:
        configured(text, dict(environ or {}))
    return wrong.value.problems


def test_default_is_all_events_with_generated_basic_auth() -> None:
    desired = read_configuration(None, {}).desired("anybody")
    assert desired == DesiredWebhook(ALL_EVENTS, AuthenticationType.BASIC, {}, {}, ())
    assert len(ALL_EVENTS) == 16
    assert all(desired.flags.values())


def test_events_are_named_in_any_spelling_of_the_documentation() -> None:
    desired = configured('events = ["card.transaction.cleared", "environmental_impact.deedster"]').defaults
    assert {flag for flag, on in desired.flags.items() if on} == {"card_transaction_cleared", "deedster"}


def test_organization_overrides_defaults_and_adds_headers() -> None:
    configuration = configured(
        """
        events = ["tpa.signed"]
        basic_username = "everybody"
        groups = ["1"]
        [headers]
        X-A = "1"
        X-B = "1"
        [[organizations]]
        reference_id = "acme"
        authentication_type = "custom"
        custom_value = { env = "PROOF" }
        groups = []
        headers = { x-b = "2" }
        [[organizations]]
        reference_id = "globex"
        skip = true
    """,
        {"PROOF": "the-proof"},
    )
    acme = configuration.desired("acme")
    assert acme is not None
    assert acme.events == {"tpa.signed"}
    assert acme.groups == ()
    assert acme.given_credentials == {"custom_value": "the-proof"}
    assert acme.headers == {"X-A": "1", "x-b": "2"}
    assert configuration.desired("globex") is None
    anybody = configuration.desired("initech")
    assert anybody is not None
    assert anybody.given_credentials == {"basic_username": "everybody"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('event = "all"', "event: there is no such key; the nearest is events"),
        ('Authentication = "basic"', "Authentication: there is no such key; the nearest is authentication_type"),
        ("[[organizations]]\nreference = 'a'\nreference_id = 'a'", "organizations[1].reference: there is no such key"),
        ("[[organizations]]\nevents = 'all'", "organizations[1].reference_id: missing"),
        ("[[organizations]]\nreference_id = 7", "organizations[1].reference_id: write a text"),
        (
            "[[organizations]]\nreference_id = 'a'\n[[organizations]]\nreference_id = 'a'",
            "organizations[2].reference_id: 'a' stands there twice",
        ),
        ("[organizations]\nacme = 1", "organizations: write each as a table of its own: [[organizations]]"),
        ("[[organizations]]\nreference_id = 'a'\nskip = 'yes'", "organizations[1].skip: write true or false"),
        (
            "[[organizations]]\nreference_id = 'a'\nskip = true\nevents = 'all'",
            "organizations[1].skip: an organization that is left out has no other keys than reference_id",
        ),
        ('events = "some"', 'events: write "all" or a list of event names'),
        (
            'events = ["card.transaction.clearde"]',
            "events: there is no event 'card.transaction.clearde'; the nearest is card.transaction.cleared",
        ),
        ('events = ["invoice.created"]', "events: OpenCard has no switch for 'invoice.created': leave it out"),
        ('authentication_type = "basik"', "'basik' is none of none, basic, custom, oauth; the nearest is basic"),
        ("groups = [5561234567]", 'groups: write a list of buyer parties, each in quotes: ["5561234567"]'),
        ('headers = "X-A"', "headers: write a table: [headers]"),
        ('headers = { X_A = "1" }', "headers.X_A: not a header that arrives"),
        ('headers = { X-Event = "1" }', "headers.X-Event: every delivery has this header already"),
        ('headers = { X-A = "a\\r\\nX-B: c" }', "headers.X-A: its value has control characters"),
        ('headers = { X-A = " a" }', "headers.X-A: its value begins or ends with white space"),
        ('headers = { Cookie = "a" }', "headers.Cookie: every delivery has this header already, or proxies change it"),
        ('headers = { X-A = "1", x-a = "2" }', "headers.x-a: the same header as X-A"),
        (
            'authentication_type = "custom"\nheaders = { x-webhook-token = "1" }',
            "headers.x-webhook-token: the header of authentication_type custom has this name",
        ),
        (
            """
            headers = { X-A = "1" }
            [[organizations]]
            reference_id = "a"
            authentication_type = "custom"
            custom_key = "x-a"
            """,
            "organizations[1].headers.X-A: the header of authentication_type custom has this name",
        ),
        ("headers = { X-A = 1 }", 'headers.X-A: write a text, or { env = "NAME" }'),
        ('headers = { X-A = { env = "NOWHERE" } }', "headers.X-A: the environment variable NOWHERE is not set"),
        ('headers = { X-A = { environ = "HOME" } }', 'headers.X-A: write a text, or { env = "NAME" }'),
        ('custom_value = "1"', "custom_value: does not go with authentication_type basic"),
        (
            '[[organizations]]\nreference_id = "a"\nauthentication_type = "oauth"\nbasic_password = "1"',
            "organizations[1].basic_password: does not go with authentication_type oauth",
        ),
        ('authentication_type = "custom"\ncustom_key = "X_Key"', "custom_key: not a header that arrives"),
        ('authentication_type = "custom"\ncustom_key = "Content-Type"', "custom_key: every delivery has this header"),
        (
            'authentication_type = "custom"\ncustom_value = " tok"',
            "custom_value: its value begins or ends with white space",
        ),
        ('basic_password = "a\\u00a0"', "basic_password: its value begins or ends with white space"),
        ('basic_username = "a:b"', "basic_username: a user name of basic authentication has no colon"),
    ],
)
def test_mistake_is_one_line_with_key_and_suggestion(text: str, line: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("webhooks.toml: ")
    assert line in problem


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(problems('event = "all"\ngroups = 1\nheaders = { X_A = "1" }')) == 3


def test_mistakes_never_contain_values() -> None:
    found = problems(
        'basic_password = "the-password\\u0007"\nheaders = { X-A = { env = "TOKEN" } }', {"TOKEN": "the-token\x07"}
    )
    assert len(found) == 2
    assert "the-" not in "".join(found)


@given(
    st.dictionaries(
        st.sampled_from(["events", "groups", "headers", "organizations", "skip", "basic_password", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_any_content_is_parsed_or_reported(document: dict[str, object]) -> None:
    try:
        configuration = parse_configuration(document, {}, name="webhooks.toml")
    except ConfigurationError as wrong:
        said = wrong.problems
    else:
        said = [f"{len(configuration.defaults.events)} events"]
    assert said
    assert all(said)


def test_missing_or_invalid_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.toml: there is no such file; webhooks.example.toml shows"):
        read_configuration(tmp_path / "nowhere.toml", {})
    broken = tmp_path / "broken.toml"
    broken.write_text("events = \n")
    with pytest.raises(ConfigurationError, match=r"broken.toml: not TOML: Invalid value \(at line 1"):
        read_configuration(broken, {})


def test_mistake_exits_with_2_before_any_request(tmp_path: Path, environment: dict[str, str]) -> None:
    file = tmp_path / "webhooks.toml"
    file.write_text('event = "all"\n')
    api = {"OPENCARD_ACCOUNT_ID": "1", "OPENCARD_CLIENT_ID": "a", "OPENCARD_CLIENT_SECRET": "b"}
    ended = CliRunner(env={**environment, **api}).invoke(main, ["bootstrap", "--config", str(file)])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == f"{file}: event: there is no such key; the nearest is events\n"


def test_example_file_is_valid_and_shows_every_key() -> None:
    example = ROOT / "webhooks.example.toml"
    environ = {"GATEWAY_TOKEN": "t", "ACME_PASSWORD": "p"}
    configuration = read_configuration(example, environ)
    assert configuration.organizations
    text = example.read_text()
    for key in ("events", "authentication_type", "groups", "[headers]", "[[organizations]]", "reference_id", "skip"):
        assert key in text
    for key in ("basic_username", "basic_password", "custom_key", "custom_value", "env ="):
        assert key in text


def test_desired_webhook_hides_its_secrets() -> None:
    desired = configured('basic_password = "the-password"\nheaders = { X-A = "the-value" }').defaults
    assert "the-" not in repr(desired)
