"""A run may be cut off at any moment: the next one ends where an undisturbed one would have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import event, text

from receiver.sandbox.provider import ApiFault
from receiver.sandbox.provider.state import ProviderState
from receiver.tls import tls_context
from receiver.webhooks.addresses import endpoint_url
from tests.support.bootstrap_steps import FLAGS, deliver
from tests.support.killing import Killed
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.world import World

CONFIGURATION = """
groups = ["5561234567"]
[headers]
X-Token = "the-token"
"""
OTHER = """
authentication_type = "custom"
events = ["card.transaction.cleared"]
groups = ["5567654321"]
[headers]
X-Token = "a-new-token"
"""


class KillableBootstrap(httpx.BaseTransport):
    """A process that ends at its *last* step, by number or by name; each commit is one, and each end of a call."""

    def __init__(self, last: int | str | None) -> None:
        self.last = last
        self.steps: list[str] = []
        self.ended = False
        self._network = httpx.HTTPTransport(verify=tls_context())

    def step(self, name: str) -> None:
        self.steps.append(name)
        self.ended = self.ended or self.last in (len(self.steps), name)
        if self.ended:
            raise Killed

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        writes = request.method != "GET" and "/oauth/" not in request.url.path
        if writes:
            self.step(f"before {request.method}")
        response = self._network.handle_request(request)
        if writes:
            response.read()
            self.step(f"after {request.method}")
        return response

    def close(self) -> None:
        self._network.close()


@contextmanager
def killable_process(world: World, last: int | str | None) -> Iterator[KillableBootstrap]:
    """Let what follows run in a process that ends at its *last* step."""
    life = KillableBootstrap(last)

    def before_commit(_connection: object) -> None:
        life.step("commit")

    event.listen(world.engine, "commit", before_commit)
    world.transport = life
    try:
        yield life
    finally:
        world.transport = None
        event.remove(world.engine, "commit", before_commit)


def reset(world: World) -> None:
    """Nothing is registered, nothing is stored."""
    world.provider.state = ProviderState()
    world.add_organizations("acme")
    with world.engine.begin() as connection:
        connection.execute(text("TRUNCATE receiver.webhooks, receiver.oauth_tokens CASCADE"))
        connection.execute(text("TRUNCATE receiver.organizations, receiver.applied_configuration"))


def nothing(_world: World) -> None:
    pass


def registered_otherwise(world: World) -> None:
    """Everything is registered, and then everything that can be changed is changed."""
    world.bootstrap(OTHER)
    webhook = world.registered()
    world.provider.state.change_webhook(webhook.id, enabled=False, active=False)


def inactive(world: World) -> None:
    world.bootstrap(CONFIGURATION)
    world.provider.state.change_webhook(world.registered().id, active=False)


def secret_lost(world: World) -> None:
    world.bootstrap(CONFIGURATION)
    with world.engine.begin() as connection:
        connection.execute(text("TRUNCATE receiver.webhooks CASCADE"))


def gone_at_opencard(world: World) -> None:
    world.bootstrap(CONFIGURATION)
    world.provider.state.remove_webhook(world.registered().id)


BEGINNINGS = {
    "nothing": nothing,
    "registered otherwise": registered_otherwise,
    "inactive": inactive,
    "secret lost": secret_lost,
    "gone at OpenCard": gone_at_opencard,
}


def check_end(world: World, *, prune: bool) -> None:
    """Insist on the state that an undisturbed run ends with."""
    stored, registered = world.stored(), world.registered()
    assert (registered.active, registered.enabled) == (True, True)
    assert registered.flags == FLAGS
    assert registered.url == endpoint_url(world.public_url, stored.endpoint_key)
    assert (stored.opencard_webhook_id, stored.active) == (registered.id, True)
    assert (stored.acknowledged, stored.previous_keys) == (True, ())
    assert stored.secret == registered.secret
    assert registered.authentication_type == stored.authentication_type == "basic"
    assert stored.credentials.basic_username == registered.basic_username
    assert stored.credentials.basic_password == registered.basic_password
    assert {header.key: header.value for header in registered.headers} == {"X-Token": "the-token"}
    assert dict(stored.headers) == {"x-token": "the-token"}
    groups = {group.buyer_party for group in registered.groups}
    assert groups == {"5561234567"} if prune else "5561234567" in groups
    assert deliver(world) == 200


@pytest.mark.long
@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_run_after_interruption_at_any_step_is_complete(world: World, begin: Callable[[World], None]) -> None:
    options: dict[str, Any] = {"parallelism": 1, "prune": True}
    begin(world)
    with killable_process(world, last=None) as undisturbed:
        assert world.bootstrap(CONFIGURATION, **options).failures == []
    check_end(world, prune=True)
    assert len(undisturbed.steps) > 3

    for last in range(1, len(undisturbed.steps) + 1):
        reset(world)
        begin(world)
        with killable_process(world, last=last), pytest.raises(Killed):
            world.bootstrap(CONFIGURATION, **options)
        assert world.bootstrap(CONFIGURATION, **options).failures == []
        check_end(world, prune=True)
        assert world.bootstrap(CONFIGURATION, **options).changes == []


@pytest.mark.parametrize("kind", ["hang-up-after", "hang-up-before"])
@pytest.mark.parametrize("path", ["/webhooks$", "/headers$", "/groups$"])
def test_lost_answer_is_checked_before_sending_again(world: World, path: str, kind: Any) -> None:
    world.provider.faults.add(ApiFault(kind, path=path, method="POST"))
    assert world.bootstrap(CONFIGURATION).failures == []
    check_end(world, prune=False)
    assert world.bootstrap(CONFIGURATION).changes == []
    posts = [each for each in world.writes() if each.startswith("POST") and each.endswith(path.strip("$"))]
    assert len(posts) == (1 if kind == "hang-up-after" else 2)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_api_errors_are_retried(world: World, status: int) -> None:
    world.provider.faults.add(ApiFault.answers(status, times=3, path="/webhooks"))
    world.provider.faults.add(ApiFault.answers(status, path="/headers"))
    world.provider.faults.add(ApiFault.answers(status, path="/oauth/token"))
    assert world.bootstrap(CONFIGURATION).failures == []
    check_end(world, prune=False)


def test_expired_token_is_replaced_during_a_run(world: World) -> None:
    world.provider.faults.add(ApiFault("expire-token", path="/webhooks$", method="POST"))
    world.provider.faults.add(ApiFault("expire-token", path="/webhooks$", method="GET"))
    assert world.bootstrap(CONFIGURATION).failures == []
    check_end(world, prune=False)


def test_secrets_are_committed_before_the_request(world: World) -> None:
    """Killed between the call and its answer: the webhook exists, and its deliveries are taken."""
    with killable_process(world, last="after POST"), pytest.raises(Killed):
        world.bootstrap(parallelism=1)
    assert world.registered().active
    assert world.stored().opencard_webhook_id is None
    assert deliver(world) == 200


def test_old_and_new_credentials_are_accepted_during_change(world: World) -> None:
    world.bootstrap()
    old = world.registered()
    with killable_process(world, last="before PUT"), pytest.raises(Killed):
        world.bootstrap('authentication_type = "custom"', parallelism=1)
    assert world.registered() == old
    assert deliver(world) == 200
    with killable_process(world, last="after PUT"), pytest.raises(Killed):
        world.bootstrap('authentication_type = "custom"', parallelism=1)
    assert world.registered().authentication_type == "custom"
    assert deliver(world) == 200
    world.provider.state.change_webhook(old.id, authentication_type="basic")  # what is under way still
    assert deliver(world) == 200
    assert world.bootstrap('authentication_type = "custom"').failures == []


def test_credentials_replaced_twice_keep_those_opencard_uses(world: World) -> None:
    """Cut off before OpenCard heard of the first replacement, or in the middle of a new secret."""
    world.bootstrap()
    old = world.registered()
    world.store.replace_secret(world.stored())  # a rotation that was cut off
    for kind in ("custom", "oauth"):
        with killable_process(world, last="before PUT"), pytest.raises(Killed):
            world.bootstrap(f'authentication_type = "{kind}"', parallelism=1)
        assert world.registered() == old
        assert deliver(world) == 200
    assert world.bootstrap('authentication_type = "custom"').failures == []
    assert deliver(world) == 200


def ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


@pytest.mark.parametrize("registered_before", [1, 8, 15])
def test_second_run_completes_a_killed_one(
    world: World, environment: dict[str, str], folder: Path, registered_before: int
) -> None:
    world.add_organizations(*(f"org-{number:02}" for number in range(19)))
    command = [str(Path(sys.executable).with_name("receiver")), "bootstrap"]
    environment = {**os.environ, **world.environment(environment)}
    running = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert eventually(lambda: len(world.provider.state.webhooks()) >= registered_before or ended(running), within=60)
    assert not ended(running), running.communicate()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    webhooks = world.provider.state.webhooks()
    assert len({webhook.organization_id for webhook in webhooks}) == len(webhooks) == 20
    secrets = {webhook.opencard_webhook_id: webhook.secret for webhook in world.store.all()}
    assert secrets == {webhook.id: webhook.secret for webhook in webhooks}
    assert all(webhook.active for webhook in webhooks)


@pytest.mark.usefixtures("sigint")
def test_interrupted_run_finishes_only_started_work(world: World, environment: dict[str, str], folder: Path) -> None:
    world.add_organizations(*(f"org-{number:02}" for number in range(39)))
    command = [str(Path(sys.executable).with_name("receiver")), "bootstrap"]
    environment = {**os.environ, **world.environment(environment)}
    running = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert eventually(lambda: bool(world.provider.state.webhooks()) or ended(running), within=60)
    assert not ended(running), running.communicate()
    running.send_signal(signal.SIGINT)
    _said, complained = running.communicate(timeout=60)
    assert running.returncode == 1
    assert b"Traceback" not in complained
    made = world.provider.state.webhooks()
    assert 0 < len(made) < 40
    assert {row.opencard_webhook_id for row in world.store.all()} == {webhook.id for webhook in made}
