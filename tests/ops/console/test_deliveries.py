from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest

from receiver.ops.console.deliveries import readable
from receiver.ops.console.words import highlighted
from tests.support.console_pages import EVENT, WRONG, address, ids, links, of_ticket, stored
from tests.support.factories import card_holder, snapshot
from tests.support.replay_steps import replay
from tests.support.service_states import miss_all_in_the_log

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations
    from tests.support.visitor import Visitor


def test_deliveries_are_listed_newest_first_without_payloads(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared", transaction="t-1", purchase_merchant="Merchant Of Secrets"))
    acme.apply("card_holder.created", card_holder("employee-99"))
    page = viewer.get("/ops/deliveries/").text
    assert ids(page) == stored(acme)
    assert "Merchant Of Secrets" not in page
    assert "employee-99" not in page


def test_list_names_the_purchase_the_age_and_the_attempts(acme: Acme, viewer: Visitor) -> None:
    bought = {**of_ticket(), "id": "t-1", "purchase_merchant_common": "Café Müller"}
    acme.apply(EVENT, bought)
    acme.apply(EVENT, {**bought, "id": "t-2", "purchase_merchant_common": None, "purchase_merchant": None})
    acme.apply("card_holder.created", card_holder("employee-1"))
    acme.execute("UPDATE receiver.stored_deliveries SET received_at = received_at - interval '3 hours'")
    acme.execute(
        "UPDATE receiver.outcomes SET attempts = 3 WHERE delivery_id = (SELECT min(id) FROM receiver.deliveries)"
    )
    holder, other, first = (unescape(row) for row in viewer.get("/ops/deliveries/").text.split("<tr>")[2:])
    for said in ("Café Müller</a>", "245.50", address("t-1"), "3 attempts", ">3 h</td>"):
        assert said in first, said
    assert "no merchant</a>" in other
    assert '<td class="purchase"></td>' in holder
    assert "attempts" not in other


def test_a_dead_delivery_names_the_purchase_of_its_payload(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared", transaction="t-9", accounting_amount="much"))
    assert acme.statuses() == ["dead"]
    page = viewer.get("/ops/deliveries/").text
    assert "109.38 EUR" in page
    assert address("t-9") in unescape(page)


def test_the_filters_narrow_the_list(acme: Acme, organizations: Organizations, viewer: Visitor) -> None:
    other = organizations.adopt("globex")
    acme.apply(EVENT, snapshot("cleared", transaction="t-1", card_holder={"reference_id": "employee-1"}))
    acme.apply(EVENT, WRONG)
    other.apply("card_holder.created", card_holder("employee-1", "globex"))
    first, wrong, globex = reversed(stored(acme))
    for query, wanted in {
        "status=dead": [wrong],
        "status=unresolved": [wrong],
        "status=processed": [globex, first],
        "organization=globex": [globex],
        f"event={EVENT}": [wrong, first],
        "transaction=t-1": [wrong, first],
        "error=accounting*": [wrong],
        "since=2020-01-01T00:00&until=2020-01-02": [],
        "since=2020-01-01 10:00:05": [globex, wrong, first],
        f"status=dead&event={EVENT}&organization=acme": [wrong],
        "status=dead&organization=globex": [],
        "until=9999-12-31T23:59": [globex, wrong, first],
        "since=9999-12-31T23:59": [],
        "until=0001-01-01T00:00": [],
        "organization=nobody": [],
    }.items():
        assert ids(viewer.get(f"/ops/deliveries/?{query}").text) == wanted, query


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=yesterday", "Received since (UTC): Give a time such as 2026-02-13T09:30 (UTC)."),
        ("status=attention", "Status: There is no status attention."),
        ("status=dead&until=x", "Received before (UTC): Give a time"),
    ],
)
def test_a_wrong_filter_shows_nothing(acme: Acme, operator: Visitor, query: str, said: str) -> None:
    acme.apply(EVENT, WRONG)
    page = operator.get(f"/ops/deliveries/?{query}").text
    assert f"The filter is wrong: {said}" in page
    assert (ids(page), "Replay these" in page) == ([], False)
    answer = operator.get(f"/ops/replays/new?{query}")
    assert (answer.status_code, f"The filter is wrong: {said}" in answer.text) == (400, True)


def test_a_card_holder_is_found_by_reference(acme: Acme, viewer: Visitor) -> None:
    acme.apply("card_holder.created", card_holder("employee-1"))
    acme.apply("card_holder.created", card_holder("employee-2"))
    assert ids(viewer.get("/ops/deliveries/?card_holder=employee-1").text) == [stored(acme)[1]]


@pytest.mark.parametrize("field", ["transaction", "card_holder", "error", "event", "organization", "since", "status"])
@pytest.mark.parametrize("value", ["%00", "' OR 1=1 --", "%25_\\", "\ud800".encode(errors="surrogatepass"), "x" * 3000])
def test_any_search_text_is_answered_with_a_page(viewer: Visitor, field: str, value: str | bytes) -> None:
    answer = viewer.client.get("/ops/deliveries/", query_string={field: value})
    assert answer.status_code == 200
    assert viewer.get(f"/ops/deliveries/?{field}=%00").status_code == 400


@pytest.mark.usefixtures("short_pages")
def test_pages_lead_to_older_ones_and_back(acme: Acme, viewer: Visitor) -> None:
    for number in range(7):
        acme.deliver_ok(EVENT, snapshot("cleared", transaction=f"t-{number}"))
    path, seen, trail = "/ops/deliveries/?organization=acme", [], []
    while path:
        page = viewer.get(path).text
        seen += ids(page)
        trail.append(ids(page))
        (path,) = re.findall(r'rel="next" href="([^"]+)"', page) or [""]
        path = unescape(path)
    assert seen == stored(acme)
    back = []
    while page:
        back.append(ids(page))
        newer = re.findall(r'rel="prev" href="([^"]+)"', page)
        page = viewer.get(unescape(newer[0])).text if newer else ""
    assert back == trail[::-1]


def test_a_delivery_shows_everything_that_is_known_of_it(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared", transaction="t-1"))
    acme.deliver_ok(EVENT, snapshot("cleared", transaction="t-1"))
    acme.apply(EVENT, WRONG)
    wrong, again, first = stored(acme)
    page = operator.get(f"/ops/deliveries/{first}").text
    assert "signature" in page
    assert "X-Data-Signature" in page
    assert "ems.transactions" in page
    assert f"/ops/deliveries/{again}" in page
    assert "transaction-1" not in page
    page = operator.get(f"/ops/deliveries/{wrong}").text
    assert "accounting_amount" in page
    assert "Attempt 1: dead" in page
    missing = operator.get("/ops/deliveries/999999")
    assert (missing.status_code, "There is no delivery 999999." in missing.text) == (404, True)
    assert 'href="/ops/deliveries/">Back to the list' in missing.text
    assert operator.get("/ops/deliveries/99999999999999999999").status_code == 404


def test_each_look_at_a_payload_is_on_record_and_shown(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    (delivery,) = stored(acme)
    operator.get("/ops/deliveries/")
    assert acme.rows("SELECT * FROM receiver.audit WHERE action = 'deliveries show'") == []
    operator.get(f"/ops/deliveries/{delivery}")
    page = viewer.get(f"/ops/deliveries/{delivery}").text
    looks = "SELECT object, actor FROM receiver.audit WHERE action = 'deliveries show' ORDER BY id"
    assert [tuple(row.values()) for row in acme.rows(looks)] == [(str(delivery), "olga"), (str(delivery), "vera")]
    assert re.search(r"<li>vera, .*</li><li>olga, .*</li>", page)


def test_a_payload_is_text_whatever_is_in_it(acme: Acme, operator: Visitor) -> None:
    script = "<script>alert(1)</script>"
    acme.apply(EVENT, snapshot("cleared", purchase_merchant=script))
    acme.apply(script, snapshot("cleared"))
    acme.apply(EVENT, b'{"id": "<img src=x onerror=alert(1)>')
    for path in ["/ops/", "/ops/deliveries/", *(f"/ops/deliveries/{number}" for number in stored(acme))]:
        shown = operator.get(path).text
        assert "<script>" not in shown
        assert "<img src=x" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in operator.get(f"/ops/deliveries/{stored(acme)[2]}").text


def test_a_payload_has_colours_and_is_otherwise_unchanged() -> None:
    payload = '{\n  "a\\"<b>": [1.10, -2e5, null, "x: \\"y\\" <i>"],\n  "c": "d'
    shown = highlighted(payload)
    assert re.findall(r'<span class="json-(\w+)">(.*?)</span>', shown) == [
        ("key", "&#34;a\\&#34;&lt;b&gt;&#34;"),
        *[("value", value) for value in ("1.10", "-2e5", "null")],
        ("text", "&#34;x: \\&#34;y\\&#34; &lt;i&gt;&#34;"),
        ("key", "&#34;c&#34;"),
    ]
    assert unescape(re.sub(r"</?span[^>]*>", "", shown)) == payload
    assert highlighted("<" * 70_000) == "&lt;" * 70_000


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ('{"a":1.10,"b":["\\u00e5"]}', '{\n  "a": 1.10,\n  "b": [\n    "\\u00e5"\n  ]\n}'),
        ("no json", "no json"),
        ("[" * 100_000, "[" * 100_000),
        ("", ""),
        (None, None),
    ],
)
def test_a_payload_is_set_out_and_nothing_in_it_changed(payload: str | None, shown: str | None) -> None:
    assert readable(payload) == shown


def test_others_with_the_same_error_are_one_link_away(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    acme.apply(EVENT, WRONG.replace(b"t-1", b"t-2"))
    acme.apply(EVENT, b"no json")
    other, second, first = stored(acme)
    page = operator.get(f"/ops/deliveries/{first}").text
    (same_error,) = [link for link in links(page) if link.startswith("/ops/deliveries/?status=dead")]
    assert ids(operator.get(same_error).text) == [second, first]
    assert other not in ids(operator.get(same_error).text)


def test_a_test_delivery_is_named_and_offers_no_replay(acme: Acme, operator: Visitor) -> None:
    acme.deliver_ok(EVENT, snapshot("cleared"))
    acme.execute("UPDATE receiver.webhooks SET test = true")
    acme.process()
    page = operator.get(f"/ops/deliveries/{stored(acme)[0]}").text
    assert "signature; a test delivery" in page
    assert "It is a test delivery and is never applied." in page
    assert "not compared" in page
    assert "No webhooks registered" in operator.get("/ops/webhooks/").text


def test_dead_delivery_says_why_it_is_not_retried(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    acme.apply(EVENT, WRONG)
    dead, processed = stored(acme)
    assert "another attempt would end with the same error" in operator.get(f"/ops/deliveries/{dead}").text
    assert "Not retried" not in operator.get(f"/ops/deliveries/{processed}").text
    acme.execute(
        "INSERT INTO receiver.processing_attempts (delivery_id, number, attempted_at, outcome, error)"
        " SELECT delivery_id, 1, attempted_at - place * interval '1 min', 'failed', error"
        " FROM receiver.processing_attempts, generate_series(1, 7) AS place"
    )
    assert "8 attempts failed" in operator.get(f"/ops/deliveries/{dead}").text
    replay(acme, (dead,))
    assert "another attempt would end with the same error" in operator.get(f"/ops/deliveries/{dead}").text


def test_an_unconfirmed_delivery_is_accepted_as_genuine(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    (delivery,) = stored(acme)
    path = f"/ops/deliveries/{delivery}"
    assert "Accept as genuine" not in operator.get(path).text, "before the log was compared"
    miss_all_in_the_log(acme.engine, "acme")
    assert "Accept as genuine" not in viewer.get(path).text
    assert viewer.post(f"{path}/accept", form="/ops/", reason="a gap").status_code == 403
    assert operator.post(f"{path}/accept", form=path).status_code == 400
    page = operator.get(operator.post(f"{path}/accept", form=path, reason="a gap").location).text
    assert "Accepted as genuine by olga: a gap" in page
    assert "Accept as genuine" not in page
    recorded = acme.rows("SELECT outcome, reason FROM receiver.audit WHERE action = 'deliveries accept' ORDER BY id")
    assert [tuple(row.values()) for row in recorded] == [("refused", "a gap"), ("refused", None), ("done", "a gap")]


def test_a_forged_delivery_is_retracted_and_restored(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    (delivery,) = stored(acme)
    path = f"/ops/deliveries/{delivery}"
    assert operator.post(f"{path}/retract", form=path, reason="forged").status_code == 409, "the log was not compared"
    miss_all_in_the_log(acme.engine, "acme")
    assert "Retract as forged" not in viewer.get(path).text
    assert viewer.post(f"{path}/retract", form="/ops/", reason="forged").status_code == 403
    assert "Retract as forged" in operator.get(path).text
    assert operator.post(f"{path}/retract", form=path).status_code == 400
    page = operator.get(operator.post(f"{path}/retract", form=path, reason="forged").location).text
    assert "Retracted as forged by olga: forged" in page
    assert "Retract as forged" not in page
    assert acme.rows("SELECT FROM ems.transactions") == []
    page = operator.get(operator.post(f"{path}/retract", form=path, reason="theirs", undo="y").location).text
    assert "Retract as forged" in page
    assert len(acme.rows("SELECT FROM ems.transactions")) == 1
    query = "SELECT object, outcome, reason FROM receiver.audit WHERE action = 'deliveries retract' ORDER BY id"
    assert [tuple(row.values()) for row in acme.rows(query)] == [
        (f"{delivery}", "refused", "forged"),
        (f"{delivery}", "refused", "forged"),
        (f"{delivery}", "refused", None),
        (f"{delivery}", "done", "forged"),
        (f"{delivery} --undo", "done", "theirs"),
    ]
