"""The plan as a pure function: it finds everything that differs, nothing else, and carrying it out leaves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as with_fields

from receiver.bootstrap.desired import ALL_EVENTS, DesiredWebhook
from receiver.bootstrap.match import ManagedWebhooks, Match, match
from receiver.bootstrap.plan import Action, Extras, WebhookChange, credentials_differ, plan
from receiver.opencard.webhooks import RegisteredGroup, RegisteredHeader, RegisteredWebhook
from receiver.webhooks.addresses import endpoint_url
from receiver.webhooks.credentials import AuthenticationType
from receiver.webhooks.generate import new_credentials
from receiver.webhooks.managed import ManagedWebhook

PUBLIC_URL = "https://hooks.example.com"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEYS = [letter * 43 for letter in "abcdef"]
FOREIGN = ["https://elsewhere.example/", "https://elsewhere.example/hooks/opencard/" + "z" * 43]

kinds = st.sampled_from(AuthenticationType)
names = st.sampled_from(["X-A", "x-a", "X-B", "X-C"])
values = st.sampled_from(["1", "2", "hidden-value"])
parties = st.sampled_from(["5561234567", "5567654321", "5500000000"])


@st.composite
def desired_webhooks(draw: st.DrawFn) -> DesiredWebhook:
    kind = draw(kinds)
    given_names = {"basic": ["basic_username", "basic_password"], "custom": ["custom_key", "custom_value"]}
    possible = given_names.get(kind.value, [])
    credentials = draw(st.dictionaries(st.sampled_from(possible), values)) if possible else {}
    headers = draw(st.dictionaries(names, values))
    return DesiredWebhook(
        events=frozenset(draw(st.sets(st.sampled_from(sorted(ALL_EVENTS))))),
        authentication_type=kind,
        credentials=credentials,
        headers={key: value for key, value in headers.items() if key != "x-a" or "X-A" not in headers},
        groups=tuple(dict.fromkeys(draw(st.lists(parties)))),
    )


@st.composite
def registered_webhooks(draw: st.DrawFn, webhook_id: int) -> RegisteredWebhook:
    urls = [endpoint_url(PUBLIC_URL, key) for key in KEYS[:3]]
    return RegisteredWebhook(
        id=webhook_id,
        url=draw(st.sampled_from([*urls, *FOREIGN])),
        enabled=draw(st.sampled_from([True, False, None])),
        active=draw(st.sampled_from([True, False, None])),
        authentication_type=draw(st.sampled_from([*(kind.value for kind in AuthenticationType), None])),
        flags={flag: draw(st.booleans()) for flag in draw(st.sets(st.sampled_from(sorted(DesiredWebhook().flags))))},
    )


@st.composite
def stored_webhooks(draw: st.DrawFn) -> ManagedWebhook:
    kind = draw(kinds)
    return ManagedWebhook(
        id=1,
        opencard_webhook_id=draw(st.sampled_from([None, 41, 42, 99])),
        organization_id=7,
        organization_reference_id="acme",
        endpoint_key=KEYS[0],
        secret="the-secret",
        authentication_type=kind,
        credentials=new_credentials(kind, {}),
        acknowledged_at=draw(st.sampled_from([None, NOON])),
        active=draw(st.sampled_from([True, False, None])),
        previous_keys=draw(st.sampled_from([(), (KEYS[1],)])),
        headers=draw(st.dictionaries(names.map(str.lower), values)),
    )


@dataclass
class Situation:
    """What is stored and registered for one organization."""

    stored: list[ManagedWebhook]
    webhooks: list[RegisteredWebhook]
    extras: Extras

    def matched(self) -> Match:
        return match(ManagedWebhooks(self.stored), "acme", self.webhooks, public_url=PUBLIC_URL)

    def plan(self, desired: DesiredWebhook | None, *, prune: bool) -> list[WebhookChange]:
        return plan(desired, self.matched(), self.extras, public_url=PUBLIC_URL, prune=prune)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    numbers = draw(st.sets(st.sampled_from([41, 42, 43])))
    webhooks = [draw(registered_webhooks(number)) for number in sorted(numbers)]
    headers = draw(st.lists(st.tuples(names, st.none() | values | st.just("****")), unique_by=lambda h: h[0].lower()))
    return Situation(
        stored=draw(st.lists(stored_webhooks(), max_size=1)),
        webhooks=webhooks,
        extras=Extras(
            headers=tuple(RegisteredHeader(id=n, key=key, value=value) for n, (key, value) in enumerate(headers)),
            groups=tuple(
                RegisteredGroup(id=n, buyer_party=p) for n, p in enumerate(draw(st.lists(parties, unique=True)))
            ),
        ),
    )


def carried_out(  # noqa: C901 - a model of everything that can be done
    situation: Situation, desired: DesiredWebhook | None, changes: list[WebhookChange]
) -> Situation:
    """Return what is when *changes* were made, by a model of OpenCard and of the database."""
    matched = situation.matched()
    stored, registered = matched.stored, matched.registered
    webhooks = {webhook.id: webhook for webhook in situation.webhooks}
    headers = {header.key.lower(): header for header in situation.extras.headers or ()}
    groups = {str(group.buyer_party): group for group in situation.extras.groups or ()}
    for change in changes:
        if change.action is Action.DISABLE:
            assert change.opencard_webhook_id is not None
            webhooks[change.opencard_webhook_id] = with_fields(webhooks[change.opencard_webhook_id], enabled=False)
            continue
        assert desired is not None
        if change.action in {Action.CREATE, Action.UPDATE, Action.CHALLENGE}:
            number = registered.id if registered else 77
            if stored is None:
                stored = new_row(desired, KEYS[4])
            elif credentials_differ(desired, stored):
                kind = desired.authentication_type
                credentials = new_credentials(kind, desired.given_credentials)
                stored = replace(stored, authentication_type=kind, credentials=credentials)
            if change.action is Action.CHALLENGE:
                stored = replace(stored, endpoint_key=KEYS[5])
            stored = replace(stored, acknowledged_at=NOON, opencard_webhook_id=number, previous_keys=())
            asked_again = registered is None or registered.url != endpoint_url(PUBLIC_URL, stored.endpoint_key)
            registered = webhooks[number] = RegisteredWebhook(
                id=number,
                url=endpoint_url(PUBLIC_URL, stored.endpoint_key),
                enabled=True,
                active=True if asked_again or registered is None else registered.active,
                authentication_type=desired.authentication_type.value,
                flags=desired.flags,
            )
        elif change.action in {Action.ADD_HEADER, Action.REPLACE_HEADER}:
            headers[change.subject.lower()] = RegisteredHeader(50, change.subject, desired.headers[change.subject])
        elif change.action is Action.REMOVE_HEADER:
            del headers[change.subject.lower()]
        elif change.action is Action.ADD_GROUP:
            groups[change.subject] = RegisteredGroup(51, change.subject)
        elif change.action is Action.REMOVE_GROUP:
            del groups[change.subject]
    return Situation(
        [stored] if stored else [],
        list(webhooks.values()),
        Extras(tuple(headers.values()), tuple(groups.values())),
    )


def new_row(desired: DesiredWebhook, key: str) -> ManagedWebhook:
    kind = desired.authentication_type
    return ManagedWebhook(
        id=1,
        opencard_webhook_id=None,
        organization_id=7,
        organization_reference_id="acme",
        endpoint_key=key,
        secret="the-new-secret",
        authentication_type=kind,
        credentials=new_credentials(kind, desired.given_credentials),
        active=None,
    )


@given(situation=situations(), desired=desired_webhooks(), prune=st.booleans())
def test_applied_plan_leaves_no_changes(situation: Situation, desired: DesiredWebhook, *, prune: bool) -> None:
    changes = situation.plan(desired, prune=prune)
    assert carried_out(situation, desired, changes).plan(desired, prune=prune) == []


@given(situation=situations(), desired=desired_webhooks(), prune=st.booleans())
def test_plan_ends_with_one_enabled_webhook_of_ours(
    situation: Situation, desired: DesiredWebhook, *, prune: bool
) -> None:
    after = carried_out(situation, desired, situation.plan(desired, prune=prune))
    ours = [webhook for webhook in after.webhooks if webhook.url.startswith(PUBLIC_URL)]
    (webhook,) = (webhook for webhook in ours if webhook.enabled is not False)
    (row,) = after.stored
    assert webhook.url == endpoint_url(PUBLIC_URL, row.endpoint_key)
    assert webhook.id == row.opencard_webhook_id
    assert all(webhook.flags.get(flag, on) == on for flag, on in desired.flags.items())
    assert webhook.active is not False
    kept = {header.key.lower(): header.value for header in after.extras.headers or ()}
    assert {key.lower() for key in desired.headers} <= set(kept)
    assert set(desired.groups) <= {str(group.buyer_party) for group in after.extras.groups or ()}
    if prune:
        assert set(kept) == {key.lower() for key in desired.headers}
        assert set(desired.groups) == {str(group.buyer_party) for group in after.extras.groups or ()}


@given(situation=situations(), desired=st.none() | desired_webhooks(), prune=st.booleans())
def test_plan_never_changes_webhooks_of_others(
    situation: Situation, desired: DesiredWebhook | None, *, prune: bool
) -> None:
    stored_ids = {row.opencard_webhook_id for row in situation.stored}
    foreign = {webhook.id for webhook in situation.webhooks if webhook.url in FOREIGN} - stored_ids
    assert not foreign & {change.opencard_webhook_id for change in situation.plan(desired, prune=prune)}


@given(situation=situations(), prune=st.booleans())
def test_plan_disables_left_out_webhooks_only_with_prune(situation: Situation, *, prune: bool) -> None:
    changes = situation.plan(None, prune=prune)
    assert {change.action for change in changes} <= {Action.DISABLE}
    if not prune:
        assert changes == []
    after = carried_out(situation, None, changes)
    assert after.plan(None, prune=prune) == []


@given(situation=situations(), desired=desired_webhooks())
def test_plan_shows_no_secret_value(situation: Situation, desired: DesiredWebhook) -> None:
    shown = repr(situation.plan(desired, prune=True))
    given_names = {desired.given_credentials.get("basic_username"), desired.given_credentials.get("custom_key")}
    if "hidden-value" not in given_names:
        assert "hidden-value" not in shown
    for row in situation.stored:
        for made in (row.credentials.basic_password, row.credentials.custom_value, row.secret):
            assert not made or made not in shown


@given(desired=desired_webhooks(), shown_value=st.sampled_from([None, "****", "••••last"]))
def test_masked_header_value_is_compared_as_registered(desired: DesiredWebhook, shown_value: str | None) -> None:
    row = replace(
        new_row(desired, KEYS[0]),
        opencard_webhook_id=41,
        acknowledged_at=NOON,
        headers={key.lower(): value for key, value in desired.headers.items()},
    )
    registered = RegisteredWebhook(
        id=41,
        url=endpoint_url(PUBLIC_URL, KEYS[0]),
        enabled=True,
        active=True,
        authentication_type=desired.authentication_type.value,
        flags=desired.flags,
    )
    headers = tuple(RegisteredHeader(id=n, key=key, value=shown_value) for n, key in enumerate(desired.headers))
    groups = tuple(RegisteredGroup(id=n, buyer_party=party) for n, party in enumerate(desired.groups))
    situation = Situation([row], [registered], Extras(headers, groups))
    assert situation.plan(desired, prune=True) == []
    others = {key: f"{value}-changed" for key, value in desired.headers.items()}
    changed = situation.plan(replace(desired, headers=others), prune=True)
    assert [change.action for change in changed] == [Action.REPLACE_HEADER] * len(others)
