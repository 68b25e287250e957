"""`/metrics`: what Prometheus scrapes, in the form that it wants, and who may."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from workers import metrics as metrics_module
from workers.health import Health
from workers.incidents import Kind
from workers.metrics import MOST_TYPES, OTHER, exposition
from workers.models import (
    Alert,
    Attendant,
    Change,
    Channel,
    Delivery,
    Event,
    Incident,
    LogFile,
    Poller,
    Remediation,
    Severity,
    Worker,
)

from . import factories

pytestmark = pytest.mark.django_db
TOKEN = "s3cret-token"
NAME = re.compile(r"relay_[a-z][a-z0-9]*(_[a-z0-9]+)*")
LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
#: What Prometheus' conventions want in the place of these: base units, spelt out, and no type in the name.
NOT_IN_A_NAME = ("_ms", "_milliseconds", "_minutes", "_kb", "_mb", "_percent", "_count", "_gauge", "_counter", "_sum")


def families() -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(exposition(timezone.now()).decode())}


def value(name: str, **labels: str) -> float | None:
    """The value of one sample; None where there is none."""
    for family in families().values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def incident(kind: Kind, **fields: Any) -> Incident:
    now = timezone.now()
    return Incident.objects.create(
        **{"host": "host-a", "worker_id": "w", "kind": kind, "began": now, "detected": now, **fields}
    )


@pytest.fixture
def everything() -> None:
    """One of each, so that no family is without a sample."""
    now = timezone.now()
    factories.poller(disk_free_bytes=5, disk_total_bytes=10)
    worker = factories.add(Health.ZOMBIE)
    factories.repair(worker, Remediation.State.DONE)
    incident(Kind.ZOMBIE, run=worker)
    LogFile.objects.create(host="host-a", path="coordination/x.jsonl", records=7, damaged=2)
    channel = Channel.objects.create(name="mail", address="json://localhost", failing_since=now)
    Delivery.objects.create(channel=channel, key="k", subject="s", body="b", created_at=now, next_try_at=now)
    Attendant.objects.create(process="p", until=now + timedelta(minutes=1), last_round_at=now)
    Alert.objects.create(rule_name="r", severity=Severity.CRITICAL, state="firing", summary="s", began=now)


# The form


def test_every_family_says_what_it_is(everything: None) -> None:
    text = exposition(timezone.now()).decode()
    assert text.endswith("\n")
    helped = Counter(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    typed = Counter(re.findall(r"^# TYPE (\S+) (?:gauge|counter)$", text, re.MULTILINE))
    assert helped == typed
    assert set(helped.values()) == {1}
    sampled = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert sampled <= set(helped)
    assert len(helped) > 30
    assert set(helped) - sampled <= {"relay_push_delay_seconds", "relay_event_loop_delay_seconds"}  # nobody listens


def test_names_keep_to_the_conventions(everything: None) -> None:
    for family in families().values():
        assert NAME.fullmatch(family.name), family.name
        assert not family.name.endswith(NOT_IN_A_NAME), family.name
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter"), sample.name
            assert all(LABEL.fullmatch(label) for label in sample.labels), sample.labels
            if family.type == "counter":
                assert sample.value >= 0


def test_no_series_is_there_twice(everything: None) -> None:
    series = Counter(
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families().values()
        for sample in family.samples
    )
    assert [name for name, number in series.items() if number > 1] == []


def test_names_from_specs_cannot_break_the_form() -> None:
    awkward = 'a "quoted"\\ type\nwith lines {and="braces"} 1\n# HELP x'
    factories.poller('host "b"\\')
    factories.add(Health.HEALTHY, worker_type=awkward[:100], host='host "b"\\')
    assert value("relay_workers_by_type", worker_type=awkward[:100], health="healthy") == 1
    assert value("relay_workers", host='host "b"\\', health="healthy") == 1
    lines = exposition(timezone.now()).decode().splitlines()
    assert all(re.match(r"relay_\w+(\{.*\})? \S+$|# (HELP|TYPE) relay_", line) for line in lines)


def test_worker_types_are_bounded_and_none_is_lost() -> None:
    for number in range(MOST_TYPES + 5):
        for again in range(2 if number < MOST_TYPES else 1):
            factories.add(Health.HEALTHY, 100 * number + again, worker_type=f"type-{number:02}")
    samples = families()["relay_workers_by_type"].samples
    assert len({sample.labels["worker_type"] for sample in samples}) == MOST_TYPES + 1
    assert sum(sample.value for sample in samples) == 2 * MOST_TYPES + 5
    assert value("relay_workers_by_type", worker_type=OTHER, health="healthy") == 5


# What it says


def test_the_fleet_is_counted_by_host_and_health_zero_included() -> None:
    factories.poller()
    factories.poller("host-b")
    factories.add(Health.ZOMBIE, 1)
    factories.add(Health.ZOMBIE, 2)
    factories.add(Health.FAILED, 3)
    factories.add(Health.HEALTHY, 4, host="host-b")
    assert value("relay_workers", host="host-a", health="zombie") == 2
    assert value("relay_workers", host="host-b", health="healthy") == 1
    assert value("relay_workers", host="host-b", health="zombie") == 0, (
        "a series that comes and goes cannot be alerted on"
    )
    assert value("relay_workers", host="host-a", health="failed") == 0, "only live runs"
    assert value("relay_runs_total") == 4


def test_incidents_are_counted_open_and_ever() -> None:
    worker = factories.add(Health.ZOMBIE)
    incident(Kind.ZOMBIE, run=worker)
    incident(Kind.ZOMBIE, resolved=timezone.now())
    assert value("relay_incidents_open", kind="zombie") == 1
    assert value("relay_incidents_detected_total", kind="zombie") == 2
    assert value("relay_incidents_open", kind="crashed") == 0


def test_remediations_are_counted_by_action_and_state() -> None:
    worker = factories.add(Health.ZOMBIE)
    factories.repair(worker, Remediation.State.DONE)
    factories.repair(worker, Remediation.State.FAILED)
    assert value("relay_remediations", action="clean-up", state="done") == 1
    assert value("relay_remediations", action="restart", state="done") == 0


def test_a_poller_says_how_it_does_in_base_units() -> None:
    now = timezone.now()
    factories.poller(cycle_ms=250, lag_ms=40, unreadable=3, last_cycle_at=now - timedelta(seconds=1), pm_alive=False)
    assert value("relay_poller_up", host="host-a") == 1
    assert value("relay_poller_cycle_duration_seconds", host="host-a") == 0.25
    assert value("relay_event_lag_seconds", host="host-a") == 0.04
    assert value("relay_unreadable_files", host="host-a") == 3
    assert value("relay_pm_daemon_up", host="host-a") == 0
    age = value("relay_poller_last_cycle_age_seconds", host="host-a")
    assert age is not None
    assert 1 <= age < 5
    stamp = value("relay_poller_last_cycle_timestamp_seconds", host="host-a")
    assert stamp == pytest.approx(now.timestamp() - 1, abs=0.01)
    Poller.objects.update(last_cycle_at=now - timedelta(minutes=5))
    assert value("relay_poller_up", host="host-a") == 0
    assert value("relay_pm_daemon_up", host="host-a") is None, "without its poller nobody knows"


def test_what_is_not_known_has_no_sample() -> None:
    factories.poller(cycle_ms=None, lag_ms=None, pm_seen=False)
    assert value("relay_poller_cycle_duration_seconds", host="host-a") is None
    assert value("relay_event_lag_seconds", host="host-a") is None
    assert value("relay_pm_daemon_up", host="host-a") is None
    assert value("relay_home_disk_free_bytes", host="host-a") is None
    assert value("relay_attendant_up") is None


def test_events_are_counted_by_their_cursors_and_survive_their_rows() -> None:
    log = LogFile.objects.create(host="host-a", path="a.jsonl", records=40, damaged=1)
    LogFile.objects.create(host="host-a", path="b.jsonl", records=2)
    Event.objects.create(log=log, generation=0, offset=0, stored_at=timezone.now(), data="{}")
    assert value("relay_events_stored_total", host="host-a") == 42
    assert value("relay_events_damaged_total", host="host-a") == 1


def test_alerts_messages_and_channels_are_counted(everything: None) -> None:
    assert value("relay_alerts_firing", severity="critical") == 1
    assert value("relay_alerts_firing", severity="warning") == 0
    assert value("relay_deliveries_queued") == 1
    assert value("relay_channels_failing") == 1
    assert value("relay_attendant_up") == 1


def test_the_product_tells_of_itself(everything: None) -> None:
    (sample,) = families()["relay_build_info"].samples
    assert sample.labels["database"] == connection.vendor
    assert re.match(r"\d+\.\d+|unknown", sample.labels["version"])
    assert value("relay_database_writable") == 1
    assert (value("relay_database_size_bytes") or 0) > 10_000
    assert value("relay_sockets") == 0
    before = value("relay_outbox_changes")
    Change.objects.create(kind="worker", key=1, at=timezone.now())
    assert before is not None
    assert value("relay_outbox_changes") == before + 1


def test_an_empty_database_is_no_error() -> None:
    assert value("relay_runs_total") == 0
    assert value("relay_outbox_changes") == 0


# What it costs


def test_the_number_of_queries_is_constant_and_none_walks_the_events(everything: None) -> None:
    with CaptureQueriesContext(connection) as few:
        exposition(timezone.now())
    factories.add_fleet(300)
    factories.poller("host-b")
    for number in range(20):
        LogFile.objects.create(host=f"host-{number}", path="x", records=1)
    with CaptureQueriesContext(connection) as many:
        exposition(timezone.now())
    assert len(few) == len(many) <= 14
    assert not [query["sql"] for query in many if re.search(r'"workers_event(count)?"', query["sql"])]


def test_ten_thousand_workers_are_scraped_in_a_blink() -> None:
    factories.add_fleet(10_000)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        exposition(timezone.now())
        took.append(time.perf_counter() - began)
    print(f"a scrape of 10,000 workers: {min(took) * 1000:.1f} ms")
    began = time.perf_counter()
    list(Worker.objects.values_list("id", "health"))  # the floor: to read two columns of each row
    floor = time.perf_counter() - began
    assert min(took) < max(0.05, 3 * floor)


# Who may


def test_this_machine_may_where_no_token_is_set(client: Client) -> None:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies, "no session is made"
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    assert client.head("/metrics").status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1.evil", "", "::2"])
def test_another_machine_may_not_where_no_token_is_set(client: Client, address: str) -> None:
    response = client.get("/metrics", REMOTE_ADDR=address)
    assert response.status_code == 403
    assert b"relay_" not in response.content


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via"])
def test_who_comes_through_a_proxy_is_not_this_machine(client: Client, header: str) -> None:
    assert client.get("/metrics", headers={header: "127.0.0.1"}).status_code == 403


def test_somebody_who_is_signed_in_needs_the_same(as_admin: Client) -> None:
    assert as_admin.get("/metrics", REMOTE_ADDR="10.0.0.1").status_code == 403


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer wrong", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer schlüssel", 401),
    ],
)
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1"])
def test_with_a_token_only_the_token_counts(
    client: Client, settings: Any, given: str | None, status: int, address: str
) -> None:
    settings.RELAY_METRICS_TOKEN = TOKEN
    response = client.get(
        "/metrics", REMOTE_ADDR=address, **({"HTTP_AUTHORIZATION": given} if given is not None else {})
    )
    assert response.status_code == status
    assert (b"relay_" in response.content) is (status == 200)
    assert response.has_header("WWW-Authenticate") is (status == 401)
    assert TOKEN.encode() not in response.content


def test_with_a_token_a_proxy_may_stand_between(client: Client, settings: Any) -> None:
    settings.RELAY_METRICS_TOKEN = TOKEN
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "203.0.113.9"}
    assert client.get("/metrics", headers=headers).status_code == 200


def test_a_name_that_was_bound_to_this_machine_by_others_is_refused(client: Client) -> None:
    """A page of a stranger, in a browser on this machine, whose name leads to 127.0.0.1."""
    assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 400


def test_a_scraper_is_not_sent_to_https(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/metrics").status_code == 200
    assert client.get("/").status_code == 301


def test_nothing_can_be_posted(client: Client) -> None:
    assert client.post("/metrics").status_code == 405


def test_the_help_names_the_bound_of_types() -> None:
    assert str(metrics_module.MOST_TYPES) in families()["relay_workers_by_type"].documentation
