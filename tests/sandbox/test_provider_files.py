"""Receipts' files at the local OpenCard: who gets them, until when, and what is in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from receiver.sandbox.provider import Provider, serving
from receiver.sandbox.receipt_files import FilesAt, receipt_file, signed_url
from receiver.sandbox.story import make_story
from receiver.sandbox.story_events import read

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = {"Accept": "application/json, */*"}
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def url(provider: Provider) -> Iterator[str]:
    with serving(provider) as url:
        yield url


def token(provider: Provider, url: str, scope: str) -> dict[str, str]:
    client = provider.clients.add(scopes=[scope])
    form = {"grant_type": "client_credentials", "client_id": client.id, "client_secret": client.secret, "scope": scope}
    return {**JSON, "Authorization": f"Bearer {httpx.post(f'{url}/oauth/token', data=form).json()['access_token']}"}


@pytest.mark.parametrize(
    ("name", "media_type"), [("1.pdf", "application/pdf"), ("1.png", "image/png"), ("1.html", "text/html")]
)
def test_files_have_the_announced_type(provider: Provider, url: str, name: str, media_type: str) -> None:
    answer = httpx.get(signed_url(url, name, TOMORROW), headers=token(provider, url, "files-read"))
    assert (answer.status_code, answer.content) == (200, receipt_file(name))
    assert answer.headers["Content-Type"].startswith(media_type)
    assert receipt_file(name) != receipt_file(f"2{name[1:]}")


def test_no_other_request_gets_the_file(provider: Provider, url: str) -> None:
    address = signed_url(url, "1.pdf", TOMORROW)
    assert httpx.get(address, headers=JSON).status_code == 401
    assert httpx.get(address, headers=token(provider, url, "webhooks-read")).status_code == 403


def test_a_url_works_until_it_expires(provider: Provider, url: str) -> None:
    headers = token(provider, url, "files-read")
    yesterday = signed_url(url, "1.pdf", TOMORROW - timedelta(days=2))
    assert httpx.get(yesterday, headers=headers).status_code == 410
    provider.behaviour.expired_status = 403
    assert httpx.get(yesterday, headers=headers).status_code == 403


def test_where_urls_are_signed_the_signature_is_what_counts(provider: Provider, url: str) -> None:
    provider.behaviour.files_are_signed = True
    address = signed_url(url, "1.pdf", TOMORROW)
    assert httpx.get(address).status_code == 200
    assert httpx.get(address.replace("signature=", "signature=0"), headers=JSON).status_code == 403
    assert httpx.get(address, headers=token(provider, url, "files-read")).status_code == 400


def test_story_can_have_urls_of_its_receipts(provider: Provider, url: str) -> None:
    at_opencard = make_story(seed=1, organizations=["acme"], purchases=20, files=FilesAt(url, TOMORROW))
    nowhere = make_story(seed=1, organizations=["acme"], purchases=20)
    assert [sent.at for sent in at_opencard.events] == [sent.at for sent in nowhere.events]
    headers = token(provider, url, "files-read")
    addresses = [read(sent.payload)["url"] for sent in at_opencard.events if sent.event == "receipt.fetched"]
    assert {httpx.get(address, headers=headers).status_code for address in addresses} == {200}
