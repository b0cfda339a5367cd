"""No header changes the web process's path: a proxy that admits only /hooks/ admits nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.conftest import genuine, request, statuses
from tests.support.factories import body, snapshot

if TYPE_CHECKING:
    from flask import Flask

    from tests.conftest import Acme
    from tests.security.conftest import WebUnderAttack

NAMES = ("SCRIPT_NAME", "SCRIPT-NAME", "PATH_INFO", "PATH-INFO", "X-Script-Name", "X-Forwarded-Prefix")
VALUES = ("/hooks", "/hooks/", "/ops", "/elsewhere", "hooks", "", "//", "/%2e%2e")


def paths(app: Flask) -> list[str]:
    """Return an address of every route, and some of the console's."""
    console = {"/ops/", "/ops/deliveries", "/ops/sign-in"}
    return sorted(console | {rule.rule.partition("<")[0] for rule in app.url_map.iter_rules()})


@pytest.mark.parametrize("name", NAMES)
def test_no_header_opens_another_route(web: WebUnderAttack, app: Flask, name: str) -> None:
    hidden = paths(app)
    assert {"/metrics", "/healthz", "/ops/"} <= set(hidden)
    for path in (f"/hooks{path}" for path in hidden):
        for value in VALUES:
            answers = web.send(request(path, {name: value, "Connection": "close"}, method="GET"))
            assert statuses(answers) in ([404], [405]), (path, value, answers)


@pytest.mark.parametrize("name", NAMES)
def test_no_header_changes_the_answer_of_a_route(web: WebUnderAttack, acme: Acme, app: Flask, name: str) -> None:
    known = body(snapshot("authorized"))
    for value in VALUES:
        (status,) = statuses(web.send(genuine(acme, known, **{name: value, "Connection": "close"})))
        assert status == 200, value
    for path in paths(app):
        plain = statuses(web.send(request(path, {"Connection": "close"}, method="GET")))
        for value in VALUES:
            assert statuses(web.send(request(path, {name: value, "Connection": "close"}, method="GET"))) == plain, path
