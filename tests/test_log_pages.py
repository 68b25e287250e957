"""The pages of logs: who may see them, what they show, and that they show nothing else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import AsyncClient, Client

from tests import factories
from workers.health import Health
from workers.models import Worker

from .conftest import Home, client_of, iso, person
from .markup import flat

pytestmark = pytest.mark.django_db
STDOUT = "agents/workers/w-1/logs/stdout.log"
ADDRESSES = ("/workers/w-1/logs/", "/workers/w-1/logs/card/", f"/workers/w-1/logs/download/?file={STDOUT}")


@pytest.fixture(autouse=True)
def worker(db: None, home: Home, settings: Any) -> Worker:
    settings.RELAY_HOME = home.path
    home.write(STDOUT, "one\ntwo <b>\nERROR: three\npassword=hunter2\n")
    return factories.add(Health.HEALTHY, worker_id="w-1")


def get(client: Client, address: str, **headers: str) -> str:
    response = client.get(address, headers=headers)
    assert response.status_code == 200, response.status_code
    return flat(response.content.decode())


# Who may


@pytest.mark.parametrize("address", ADDRESSES)
def test_it_rejects_somebody_anonymous(client: Client, address: str) -> None:
    assert client.get(address).status_code == 302


@pytest.mark.parametrize("address", ADDRESSES)
def test_it_rejects_somebody_without_a_role(address: str) -> None:
    assert client_of(person("nobody")).get(address).status_code == 403


@pytest.mark.parametrize("address", ADDRESSES)
def test_it_rejects_a_post(as_viewer: Client, address: str) -> None:
    assert as_viewer.post(address).status_code == 405


@pytest.mark.parametrize("address", [address.replace("w-1", "nobody") for address in ADDRESSES])
def test_an_unknown_worker_is_not_found(as_viewer: Client, address: str) -> None:
    assert as_viewer.get(address).status_code == 404


# What is shown


def test_the_end_of_the_log_is_shown_escaped_redacted_and_marked(as_viewer: Client) -> None:
    page = get(as_viewer, "/workers/w-1/logs/")
    assert "two &lt;b&gt;" in page
    assert "password=[redacted]" in page
    assert "hunter2" not in page
    assert '<div class="l error" data-o="12">ERROR: three</div>' in page


def test_the_workers_page_has_a_card_with_the_end_of_its_newest_log(as_viewer: Client) -> None:
    page = get(as_viewer, "/workers/w-1/")
    assert page.index('id="timeline"') < page.index('id="log"') < page.index('id="documents"')
    assert "ERROR: three" in page
    assert "hunter2" not in page
    assert 'data-socket="/ws/log/"' in page


def test_a_worker_without_a_log_says_where_was_looked(as_viewer: Client, home: Home) -> None:
    (home.path / STDOUT).unlink()
    assert "This worker has no log yet" in get(as_viewer, "/workers/w-1/")
    assert "This worker has no log yet" in get(as_viewer, "/workers/w-1/logs/")


@pytest.mark.parametrize(
    "file",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "agents/workers/w-1/logs/../../w-2/logs/stdout.log",
        "agents/workers/w-2/logs/stdout.log",
        "coordination/pm-state.json",
        "%2e%2e/%2e%2e/etc/passwd",
        "agents/workers/w-1/logs/stdout.log%00",
        "agents/workers/w-1/logs/link.log",
    ],
)
def test_no_path_leads_anywhere_else(as_viewer: Client, home: Home, tmp_path: Path, file: str) -> None:
    home.write("agents/workers/w-2/logs/stdout.log", "other worker's\n")
    home.write("coordination/pm-state.json", "{}")
    (tmp_path / "out").write_text("outside\n")
    (home.path / "agents/workers/w-1/logs/link.log").symlink_to(tmp_path / "out")
    for address in ("/workers/w-1/logs/", "/workers/w-1/logs/download/"):
        response = as_viewer.get(f"{address}?file={file}")
        text = "" if response.streaming else response.content.decode()
        assert "root:" not in text
        assert "other worker" not in text
        assert "outside" not in text
        if "%00" not in file and "link" not in file:
            assert response.status_code == 404


def test_a_log_that_may_not_be_read_says_why(as_viewer: Client, home: Home) -> None:
    os.mkfifo(home.path / "agents/workers/w-1/logs/pipe.log")
    page = get(as_viewer, "/workers/w-1/logs/?file=agents/workers/w-1/logs/pipe.log")
    assert "Not shown:" in page
    assert "a named pipe, no file" in page


def test_a_log_of_an_earlier_run_says_so(as_viewer: Client, home: Home) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=9)).timestamp()
    os.utime(home.path / STDOUT, (long_ago, long_ago))
    assert "of an earlier run" in get(as_viewer, "/workers/w-1/logs/")
    assert "of an earlier run" in get(as_viewer, "/workers/w-1/").lower()


def test_an_earlier_run_of_the_id_says_that_a_later_one_has_written_too(as_viewer: Client, worker: Worker) -> None:
    created = datetime.now(UTC) - timedelta(days=3)
    earlier = factories.add(Health.FAILED, worker_id="w-1", created_at=created, live=False)
    page = get(as_viewer, f"/workers/w-1/logs/?run={earlier.pk}")
    assert "a later run of this id may have written to it too" in page
    assert f"run={earlier.pk}&amp;file=" in page
    assert "a later run" not in get(as_viewer, "/workers/w-1/logs/")


def test_lines_of_a_system_log_are_this_workers_alone(as_viewer: Client, home: Home) -> None:
    path = "agents/logs/system/pm-daemon.log"
    home.write(path, f"[{iso(datetime.now(UTC))}] [PM] WARN: Worker w-1 stalled\n[PM] Worker w-10 stalled\n")
    page = get(as_viewer, f"/workers/w-1/logs/?file={path}")
    assert "Worker w-1 stalled" in page
    assert "w-10" not in page


# Moving about


def test_earlier_lines_are_a_page_of_their_own_and_a_piece_for_the_browser(as_viewer: Client, home: Home) -> None:
    home.write(STDOUT, "".join(f"line {number:04}\n" for number in range(2000)))
    page = get(as_viewer, "/workers/w-1/logs/")
    assert "line 1999" in page
    assert "line 1499" not in page
    assert f"?file={STDOUT.replace('/', '%2F')}&amp;before=15000" in page
    before = get(as_viewer, f"/workers/w-1/logs/?file={STDOUT}&before=15000")
    assert "line 1499" in before
    assert "Later lines" in before
    assert "data-socket" not in before
    part = get(as_viewer, f"/workers/w-1/logs/?file={STDOUT}&before=15000&part=lines").strip()
    assert part.startswith('<div class="chunk" data-begin="10000" data-end="15000"')
    assert "<html" not in part


def test_a_link_leads_to_a_place(as_viewer: Client) -> None:
    assert '<div class="l here" data-o="4" id="at">two' in get(as_viewer, f"/workers/w-1/logs/?file={STDOUT}&at=4")


@pytest.mark.parametrize("place", ["x", "-1", "99999999999999999999", "9999999", "²"])
def test_a_place_that_is_none_does_no_harm(as_viewer: Client, place: str) -> None:
    for name in ("at", "before", "after", "back"):
        get(as_viewer, f"/workers/w-1/logs/?{name}={place}&q=x")


# Searching


def test_what_is_found_links_to_its_place(as_viewer: Client) -> None:
    page = get(as_viewer, f"/workers/w-1/logs/?file={STDOUT}&q=TWO")
    assert "1 line with “TWO”" in page
    assert f"?file={STDOUT.replace('/', '%2F')}&amp;at=4&amp;q=TWO#at" in page
    assert "<mark>two</mark> &lt;b&gt;" in page


def test_htmx_gets_only_what_was_found(as_viewer: Client) -> None:
    part = get(as_viewer, f"/workers/w-1/logs/?file={STDOUT}&q=two", HX_Target="found", HX_Request="true")
    assert part.startswith('<div id="found"')
    assert "<html" not in part


def test_a_secret_cannot_be_searched_for(as_viewer: Client) -> None:
    assert "No line" in get(as_viewer, "/workers/w-1/logs/?q=hunter2")


def test_errors_are_found(as_viewer: Client) -> None:
    assert "1 line that reads like an error" in get(as_viewer, "/workers/w-1/logs/?errors=1")


def test_words_of_markup_are_escaped_where_they_are_marked(as_viewer: Client) -> None:
    page = get(as_viewer, "/workers/w-1/logs/?q=%3Cb%3E")
    assert "two <mark>&lt;b&gt;</mark>" in page
    assert "<b>\n" not in page


# Downloading


@pytest.mark.django_db(transaction=True)
async def test_a_download_is_streamed_and_redacted(worker: Worker) -> None:
    from asgiref.sync import sync_to_async

    client = AsyncClient()
    await client.aforce_login(
        await sync_to_async(person)("reader", "viewer"), backend="django.contrib.auth.backends.ModelBackend"
    )
    response = await client.get(f"/workers/w-1/logs/download/?file={STDOUT}")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="w-1-20')
    assert response["Content-Disposition"].endswith('-stdout.log"')
    assert response["X-Content-Type-Options"] == "nosniff"
    text = b"".join([part async for part in response.streaming_content]).decode()
    assert text == "one\ntwo <b>\nERROR: three\npassword=[redacted]\n"


@pytest.mark.parametrize("name", ['we"ird\nname.log', "ünïcode.log"])
def test_odd_names_of_files_make_no_odd_headers(as_viewer: Client, home: Home, name: str) -> None:
    home.write(f"agents/workers/w-1/logs/{name}", "text\n")
    response = as_viewer.get("/workers/w-1/logs/download/", {"file": f"agents/workers/w-1/logs/{name}"})
    assert response.status_code == 200
    assert "\n" not in response["Content-Disposition"]
    response.close()


def test_a_name_that_is_not_utf8_is_listed_and_opens(as_viewer: Client, home: Home) -> None:
    folder = os.fsencode(home.path / "agents/workers/w-1/logs/")
    with open(folder + b"/caf\xe9.log", "w") as file:  # noqa: PTH123 - bytes that are no text
        file.write("strange\n")
    page = get(as_viewer, "/workers/w-1/logs/?file=agents/workers/w-1/logs/caf\\xe9.log")
    assert "strange" in page
