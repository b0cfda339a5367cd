"""``REDIS_URL``, also where it names sentinels."""

from __future__ import annotations

import pickle

import pytest
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from receiver.queue import connect
from receiver.redis_url import SENTINEL_PORT, redis_url, sentinel_url

READ = {
    "redis+sentinel://one:1,two:2/name/3": ((("one", 1), ("two", 2)), "name", "redis://master/3"),
    "redis+sentinel://one,[::1]:2/name": ((("one", SENTINEL_PORT), ("::1", 2)), "name", "redis://master/0"),
    "redis+sentinel://user:p%40ss@one/a%20name/0?sentinel_password=x": (
        (("one", SENTINEL_PORT),),
        "a name",
        "redis://user:p%40ss@master/0?sentinel_password=x",
    ),
    "rediss+sentinel://one/name/0": ((("one", SENTINEL_PORT),), "name", "rediss://master/0"),
}
WRONG = [
    "redis+sentinel://:the-secret@/name/0",
    "redis+sentinel://:the-secret@one:port/name/0",
    "redis+sentinel://:the-secret@one,/name/0",
    "redis+sentinel://:the-secret@one",
    "redis+sentinel://:the-secret@one/0/name",
    "redis+sentinel://:the-secret@[one/name/0",
    "sentinel://:the-secret@one/name/0",
]


@pytest.mark.parametrize("url", READ)
def test_url_of_sentinels_is_read(url: str) -> None:
    assert redis_url(url) == url
    found = sentinel_url(url)
    assert found is not None
    assert (found.addresses, found.master, found.server_url) == READ[url]


@pytest.mark.parametrize("url", WRONG)
def test_wrong_url_of_sentinels_shows_no_secret(url: str) -> None:
    with pytest.raises(ValueError, match="looks like redis") as raised:
        redis_url(url)
    assert "the-secret" not in str(raised.value)


def test_credentials_reach_servers_and_sentinels() -> None:
    url = "rediss+sentinel://user:pass@one/name/2?sentinel_username=guard&sentinel_password=word&ssl_ca_certs=/ca.pem"
    with connect(url) as client:
        pool = client.connection_pool
        assert pool.connection_class is SentinelManagedSSLConnection
        to_server = pool.connection_kwargs
        to_sentinels = to_server["connection_pool"].options
    assert (to_server["username"], to_server["password"], to_server["db"]) == ("user", "pass", 2)
    assert to_server["ssl_ca_certs"] == to_sentinels["ssl_ca_certs"] == "/ca.pem"
    assert (to_sentinels["username"], to_sentinels["password"], to_sentinels["ssl"]) == ("guard", "word", True)


def test_pool_of_workers_passes_the_sentinels_on() -> None:
    """RQ gives the arguments of connections to its workers, which may be processes that were not forked."""
    with connect("redis+sentinel://one/name/0") as client:
        assert client.connection_pool.connection_class is SentinelManagedConnection
        master = client.connection_pool.connection_kwargs["connection_pool"]
    assert pickle.loads(pickle.dumps(master)).addresses == (("one", SENTINEL_PORT),)  # noqa: S301 - our own
