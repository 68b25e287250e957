"""Whatever somebody sends to any address is answered, and nothing reaches the database that one would refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from workers.health import Health
from workers.models import Alert, AlertRule, Channel, Incident, Policy, Remediation, RemediationBatch
from workers.params import positive, text_of, whole, wholes
from workers.screens import View
from workers.urls import urlpatterns

from . import factories

pytestmark = pytest.mark.django_db
HOSTILE = {
    "NUL": "a\0b",
    "5,000 digits": "9" * 5_000,
    "19 digits": "9" * 19,
    "negative": "-1",
    "a digit that is no number": "²",
    "half a surrogate pair": "a\udc80b",
    "long": "x" * 20_000,
    "quotes": "\"'%_\\",
    "the first day": "0001-01-01T00:00:00",
    "the last day": "9999-12-31T23:59:59-14:00",
}
#: Whatever any page or form reads.
NAMES = (
    *("action", "actor", "after", "all", "answered", "at", "back", "batch", "before", "cause", "errors", "expect"),
    *("file", "for", "from", "group", "health", "host", "how", "identity", "incident", "instead", "kind", "master"),
    *("more", "move", "newest", "next", "note", "one", "page", "part", "password", "password1", "password2", "q"),
    *("query", "range", "read_at", "reason", "recover", "remediation", "root_cause", "rows", "rule", "run", "runs"),
    *("severity", "shown", "since", "size", "sort", "source", "state", "table", "task_type", "token", "type"),
    *("undoes", "until", "username", "via", "view", "week", "with", "within", "word", "worker", "worker_type", "zone"),
)
#: What has to be right for a look at the rest to be worth it.
NEEDED: dict[str, tuple[dict[str, str], ...]] = {
    "fleet": ({"at": "2026-01-01T00:00"}, {"at": "2026-01-01T00:00", "with": "2026-01-02T00:00"}),
    "history": ({"range": "own"},),
    "history-export": ({"table": "incidents"},),
    "worker-logs": ({"part": "lines"},),
    "remediation-new": ({"action": "clean-up"}, {"action": "undo"}, {"action": "archive-failed"}),
    "batch-new": ({"action": "clean-up"}, {"action": "clean-up", "all": "1"}),
    "rule-mute": ({"for": "hour"},),
    "login": ({"username": "nobody"}, {"password": "none"}),
}


@pytest.fixture
def strict() -> Iterator[None]:
    """Refuse what PostgreSQL refuses."""

    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        for value in [each for row in params for each in row] if many else params or ():
            if isinstance(value, str):
                assert "\0" not in value, sql
                assert not re.search("[\ud800-\udfff]", value), sql
                assert "\\u0000" not in value, sql
            elif isinstance(value, int):
                assert -(2**63) <= value < 2**63, sql
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield


def fill() -> dict[str, str]:
    """Let there be one of everything, by the part of an address that names it."""
    worker = factories.add(Health.ZOMBIE)
    batch = RemediationBatch.objects.create(action="clean-up", actor="kim", requested_at=timezone.now())
    found = {
        "alerts": Alert.objects.first(),
        "rules": AlertRule.objects.first(),
        "channels": Channel.objects.create(name="mail"),
        "incidents": factories.incident(worker),
        "many": batch,
        "remediations": factories.repair(worker),
        "autopilot": Policy.objects.first(),
    }
    return {name: str(row.pk) if row else "1" for name, row in found.items()} | {"workers": worker.worker_id}


def addresses(keys: dict[str, str], hostile: str) -> Iterator[tuple[str, str]]:
    """Every address by name: with what is there, and with what is hostile in its place."""
    for each in urlpatterns:
        pattern = str(each.pattern)
        part = re.search(r"(\w+)/<[^>]+>", pattern)
        yield each.name, "/" + re.sub(r"<[^>]+>", quote(keys.get(part[1], "calm")) if part else "", pattern)
        if part:
            before, _, behind = pattern.partition("<")
            value = quote(hostile, errors="surrogateescape", safe="")[:20_000]
            yield each.name, f"/{before}{value}{behind.partition('>')[2]}"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("strict")
def test_no_address_is_answered_with_500(as_admin: Client, name: str) -> None:
    as_admin.raise_request_exception = False
    hostile, keys = HOSTILE[name], fill()
    everything = dict.fromkeys(NAMES, hostile)
    failed = set()
    for address, path in addresses(keys, hostile):
        for right in ({}, *NEEDED.get(address, ())) if address != "logout" else ():
            for answer in answers(as_admin, path, urlencode({**everything, **right}, errors="surrogateescape")):
                if answer.status_code >= 500:
                    failed.add((address, answer.request["REQUEST_METHOD"], repr(answer.exc_info)))
    assert not failed


def answers(client: Client, path: str, given: str) -> Iterator[Any]:
    form = "application/x-www-form-urlencoded"
    yield client.get(f"{path}?{given}")
    yield client.post(path, given, content_type=form)
    yield client.post(path, given, content_type=form, HTTP_HX_REQUEST="true")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("strict")
def test_no_query_string_of_a_socket_raises(name: str) -> None:
    for view in ("fleet", "events", "incidents", "incident", "alerts", "integrity", "remediations", "autopilot", "x"):
        assert View.parse(urlencode({**dict.fromkeys(NAMES, HOSTILE[name]), "view": view}, errors="surrogateescape"))


@pytest.mark.parametrize("expect", ["9" * 5_000, "-1", "٣"])
def test_a_number_that_is_none_confirms_no_batch(as_admin: Client, expect: str) -> None:
    batch = RemediationBatch.objects.create(action="clean-up", actor="admin", requested_at=timezone.now())
    assert as_admin.post(f"/remediations/many/{batch.pk}/confirm/", {"expect": expect}).status_code == 302


def test_what_people_write_is_kept_without_what_cannot_be_stored(as_operator: Client) -> None:
    trouble = factories.incident(factories.add(Health.STALLED))
    as_operator.post(f"/incidents/{trouble.pk}/acknowledge/", {"reason": " seen\0 it "})
    as_operator.post(f"/incidents/{trouble.pk}/note/", {"note": "wait\0ing"})
    kept = Incident.objects.get(pk=trouble.pk)
    assert (kept.acknowledged_reason, kept.note) == ("seen it", "waiting")


def test_a_text_of_any_length_is_cut(as_operator: Client) -> None:
    worker = factories.add(Health.STALLED)
    trouble = factories.incident(worker)
    long = "x" * 100_000
    for path, given in {
        f"/incidents/{trouble.pk}/acknowledge/": {"reason": long},
        f"/incidents/{trouble.pk}/note/": {"note": long},
        "/remediations/new/": {"action": "force-fail", "run": worker.pk, "reason": long},
    }.items():
        assert as_operator.post(path, given).status_code == 302
    kept = Incident.objects.get(pk=trouble.pk)
    assert (len(kept.acknowledged_reason), len(kept.note)) == (2_000, 10_000)
    assert [len(each.reason) for each in Remediation.objects.all()] == [2_000]
    for path in ("/", "/events/", "/incidents/", "/integrity/", "/history/", "/remediations/"):
        assert as_operator.get(path, {"q": long, "worker": long, "host": long}).status_code == 200


def test_the_reason_of_a_repair_is_kept_without_what_cannot_be_stored(as_operator: Client) -> None:
    worker = factories.add(Health.ZOMBIE)
    as_operator.post("/remediations/new/", {"action": "clean-up", "run": worker.pk, "reason": "de\0ad"})
    assert [each.reason for each in Remediation.objects.all()] == ["dead"]


def test_numbers_are_read_where_a_column_holds_them() -> None:
    assert [whole(value) for value in ("0", "12", "9" * 18)] == [0, 12, 10**18 - 1]
    assert [whole(value) for value in ("", "-1", "1.0", " 1", "²", "١", "9" * 19, "9" * 5_000)] == [None] * 8
    assert wholes(["3", "x", "", "1"]) == [3, 1]


def test_what_is_none_of_the_numbers_is_named() -> None:
    ignored: list[str] = []
    params = QueryDict("a=2&b=0&c=x&d=7&f=" + "9" * 30)
    found = [positive(params, name, ignored) for name in "abcef"] + [positive(params, "d", ignored, among=(25, 50))]
    assert found == [2, None, None, None, None, None]
    assert ignored == ["b “0”, which is none", "c “x”, which is none", f"f “{'9' * 30}”, which is none",
                       "d “7”, which is none of 25, 50"]  # fmt: skip


def test_texts_are_stripped_and_cut() -> None:
    params = QueryDict(mutable=True)
    params["a"] = " \0a\udc80b \0"
    params["b"] = "x" * 300
    assert (text_of(params, "a"), text_of(params, "b"), text_of(params, "c")) == ("a\ufffdb", "x" * 255, "")
    assert text_of(params, "a", stripped=False) == " a\ufffdb "
