"""What somebody sees who keeps the fleet page open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from workers.health import Health
from workers.models import Poller, Worker

from .conftest import Server, live


@pytest.fixture(autouse=True)
def poller(transactional_db: None) -> Poller:
    return factories.poller(interval_seconds=3600)


def row(page: Page, worker: Worker) -> object:
    return page.locator(f"#run-{worker.pk}")


def test_a_change_appears_without_a_reload_and_the_tint_fades(page: Page) -> None:
    worker = factories.add(Health.HEALTHY)
    page.goto("/")
    live(page)
    page.evaluate("window.sameDocument = true")
    shown = page.locator(f"#run-{worker.pk}")
    expect(shown.locator(".badge")).to_have_text("●Healthy")
    factories.change(worker, health="zombie", progress_pct=64)
    expect(shown.locator(".badge")).to_have_text("◌Zombie")
    expect(shown).to_have_class("zombie flash")
    expect(shown.locator("progress")).to_have_attribute("value", "64")
    expect(shown).to_have_class("zombie")
    expect(page.locator("#tiles .zombie b")).to_have_text("1")
    expect(page).to_have_title("(1) Fleet · Relay Web")
    assert "/icon/zombie.svg" in str(page.locator("#icon").get_attribute("href"))
    assert page.evaluate("window.sameDocument")


def test_a_heartbeat_does_not_tint_the_row(page: Page) -> None:
    worker = factories.add(Health.HEALTHY)
    page.goto("/")
    live(page)
    page.evaluate(
        "new MutationObserver((all) => all.forEach((one) => { window.tinted ||= one.target.matches('.flash') }))"
        ".observe(document.getElementById('list'), { subtree: true, attributes: true })"
    )
    factories.change(worker, last_checkin_at=datetime.now(UTC))
    expect(page.locator(f"#run-{worker.pk} .checkin")).to_contain_text(" s ago")
    assert not page.evaluate("window.tinted")


def test_checkbox_focus_and_selected_text_survive_a_push(page: Page) -> None:
    worker = factories.add(Health.STALLED)
    page.goto("/")
    live(page)
    shown = page.locator(f"#run-{worker.pk}")
    shown.get_by_role("checkbox").check()
    shown.locator("th a").focus()
    shown.locator(".why").select_text()
    selected = page.evaluate("getSelection().toString()")
    factories.change(worker, health="crashed", reasons=[factories.reason("Another reason", "processes")])
    expect(shown.locator(".badge")).to_have_text("✕Crashed")
    expect(shown.get_by_role("checkbox")).to_be_checked()
    expect(shown.locator("th a")).to_be_focused()
    assert page.evaluate("getSelection().toString()") == selected
    page.evaluate("getSelection().removeAllRanges()")
    expect(shown.locator(".why")).to_contain_text("Another reason")


def test_nothing_moves_until_somebody_asks_for_what_is_new(page: Page) -> None:
    workers = [factories.add(Health.HEALTHY, number) for number in range(3)]
    page.goto("/")
    live(page)
    page.locator(f"#run-{workers[2].pk}").get_by_role("checkbox").check()
    order = page.locator("#list tr[data-run]").evaluate_all("rows => rows.map((row) => row.id)")
    factories.change(workers[1], live=False, directory="completed", health="completed")
    new = factories.add(Health.ZOMBIE, 9)
    pill = page.locator("#pill a")
    expect(pill).to_have_text("1 new, 1 gone · show")
    assert page.locator("#list tr[data-run]").evaluate_all("rows => rows.map((row) => row.id)") == order
    pill.click()
    expect(page.locator("#list tr[data-run]").first).to_have_id(f"run-{new.pk}")
    expect(page.locator("#list tr[data-run]")).to_have_count(3)
    expect(page.locator("#pill a")).to_have_count(0)
    expect(page.locator(f"#run-{workers[2].pk}").get_by_role("checkbox")).to_be_checked()
    expect(page.locator("#shown")).to_have_text("3 of 3 workers shown")
    factories.change(new, progress_pct=71)
    expect(page.locator(f"#run-{new.pk} progress")).to_have_attribute("value", "71")


def test_a_filter_that_is_on_its_way_survives_a_push(page: Page) -> None:
    """The tile that was clicked is counted anew before the answer comes."""
    worker = factories.add(Health.HEALTHY, 1)
    factories.add(Health.ZOMBIE, 2)
    page.goto("/")
    live(page)
    held = []
    page.route("**/?health=zombie", lambda route: held.append(route))
    page.locator("#tiles .zombie").click()
    expect(page.locator("#tiles .zombie")).to_have_class("tile zombie htmx-request")
    factories.change(worker, health="zombie")
    expect(page.locator("#tiles .healthy b")).to_have_text("0")
    held[0].continue_()
    expect(page.locator("#tiles .zombie")).to_have_attribute("aria-current", "true")
    expect(page.locator("#tiles .zombie b")).to_have_text("2")
    expect(page.locator("#shown")).to_have_text("2 that match shown; 2 live workers")


def test_an_order_that_no_longer_holds_is_said(page: Page) -> None:
    first, second = factories.add(Health.LATE, 1), factories.add(Health.HEALTHY, 2)
    page.goto("/")
    live(page)
    factories.change(second, health="crashed")
    expect(page.locator("#pill a")).to_have_text("order changed · show")
    page.locator("#pill a").click()
    expect(page.locator("#list tr[data-run]").first).to_have_id(f"run-{second.pk}")
    expect(page.locator("#list tr[data-run]").last).to_have_id(f"run-{first.pk}")


@pytest.mark.may_complain("WebSocket|ERR_CONNECTION_(REFUSED|RESET)|htmx:|object Event")
def test_a_page_from_before_a_restart_is_brought_up_to_date(page: Page, server: Server) -> None:
    worker, other = factories.add(Health.HEALTHY, 1), factories.add(Health.HEALTHY, 2)
    page.goto("/")
    live(page)
    page.evaluate("window.sameDocument = true")
    server.stop()
    expect(page.locator("#live")).to_have_attribute("data-state", "reconnecting")
    factories.change(worker, health="stalled")
    new = factories.add(Health.ZOMBIE, 3)
    server.start()
    live(page)
    expect(page.locator(f"#run-{worker.pk} .badge")).to_have_text("◔Stalled")
    expect(page.locator(f"#run-{other.pk} .badge")).to_have_text("●Healthy")
    expect(page.locator("#tiles .zombie b")).to_have_text("1")
    expect(page.locator("#pill a")).to_contain_text("1 new")
    assert page.locator(f"#run-{new.pk}").count() == 0
    assert page.evaluate("window.sameDocument")


def test_a_silent_poller_marks_every_verdict_in_the_open_page(page: Page, poller: Poller) -> None:
    worker = factories.add(Health.HEALTHY)
    Poller.objects.update(interval_seconds=0.1, last_cycle_at=datetime.now(UTC))
    page.goto("/")
    live(page)
    as_of = page.locator(f"#run-{worker.pk} .as-of")
    expect(as_of).to_be_hidden()
    stood = datetime.now(UTC)
    Poller.objects.update(last_cycle_at=stood)
    expect(page.locator("#live")).to_have_attribute("data-state", "stale")
    expect(as_of).to_be_visible()
    expect(as_of).to_have_text(f"as of {stood:%H:%M}")
    expect(page.locator("#live")).to_contain_text("no news from poller host-a since")
    expect(page.locator("#banners")).to_contain_text("The poller of host-a is silent.")
    assert_nothing_is_green(page)
    Poller.objects.update(last_cycle_at=datetime.now(UTC), interval_seconds=3600)
    live(page)
    expect(as_of).to_be_hidden()


def assert_nothing_is_green(page: Page) -> None:
    """Compare every colour that is painted with the token of healthy."""
    assert not page.evaluate(
        """() => {
            const probe = document.createElement("i");
            probe.className = "healthy";
            probe.style.color = "var(--c)";
            document.body.append(probe);
            const green = getComputedStyle(probe).color;
            probe.remove();
            return [...document.querySelectorAll("main *, header *")].filter((element) => {
                const style = getComputedStyle(element);
                const colours = [style.color, style.backgroundColor, style.borderTopColor];
                return element.checkVisibility() && colours.includes(green);
            }).map((element) => element.outerHTML.slice(0, 80));
        }"""
    )


def test_a_silent_poller_marks_every_verdict_without_javascript_too(page: Page, server: Server) -> None:
    factories.add(Health.HEALTHY)
    Poller.objects.update(interval_seconds=2, last_cycle_at=datetime.now(UTC) - timedelta(minutes=5))
    context = page.context.browser.new_context(base_url=server.url, java_script_enabled=False)
    context.add_cookies(page.context.cookies())
    plain = context.new_page()
    plain.goto("/")
    expect(plain.locator("#list .as-of").first).to_be_visible()
    expect(plain.locator("#live")).to_contain_text("no news from poller host-a since")
    expect(plain.locator("#banners")).to_contain_text("is silent")
    context.close()


def test_who_is_signed_out_elsewhere_is_told(page: Page, server: Server) -> None:
    from django.contrib.sessions.models import Session

    factories.add(Health.HEALTHY)
    page.goto("/")
    live(page)
    Session.objects.all().delete()
    page.evaluate("document.getElementById('socket').remove()")  # as if the connection had been lost
    page.reload()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_session_that_ended_leads_to_the_sign_in_page_not_into_the_list(page: Page) -> None:
    from django.contrib.sessions.models import Session

    factories.add(Health.HEALTHY)
    page.goto("/")
    live(page)
    Session.objects.all().delete()
    page.locator("#tiles .healthy").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator("#list")).to_have_count(0)


def test_ages_tick(page: Page) -> None:
    worker = factories.add(Health.HEALTHY, last_checkin_at=datetime.now(UTC) - timedelta(seconds=5))
    page.goto("/")
    age = page.locator(f"#run-{worker.pk} .checkin time")
    before = age.inner_text()
    expect(age).not_to_have_text(before, timeout=5000)


def test_cpu_and_memory_are_asked_for(page: Page) -> None:
    worker = factories.add(Health.HEALTHY)
    page.clock.install()
    page.goto("/")
    expect(page.locator(f"#usage-{worker.pk}")).to_contain_text("38.4 %")
    Worker.objects.filter(pk=worker.pk).update(cpu_percent=71.5)
    page.clock.run_for(11_000)
    expect(page.locator(f"#usage-{worker.pk}")).to_contain_text("71.5 %")


NASTY = '"><script>window.hacked = 1</script>\'<img src=x onerror="window.hacked = 1">'


def test_what_a_file_says_is_text_and_nothing_else(page: Page) -> None:
    worker = factories.add(
        Health.HEALTHY,
        1,
        worker_id=f"w{NASTY}"[:255],
        description=NASTY,
        task_id=NASTY[:255],
        worker_type=NASTY[:100],
        host=f"host-a{NASTY}",
        error=NASTY,
        pm_health=NASTY[:50],
        reasons=[factories.reason(NASTY, NASTY)],
    )
    factories.poller(f"host-a{NASTY}", error=NASTY, interval_seconds=3600)
    page.goto("/")
    live(page)
    expect(page.locator(f"#run-{worker.pk} .why")).to_contain_text(NASTY)
    factories.change(worker, reasons=[factories.reason(f"again {NASTY}", NASTY)])
    expect(page.locator(f"#run-{worker.pk} .why")).to_contain_text(f"again {NASTY}")
    page.locator(f"#run-{worker.pk} .id a").click()
    expect(page.locator("h1")).to_have_text(f"w{NASTY}"[:255])
    live(page)
    factories.change(worker, health="stalled", reasons=[factories.reason(f"a third time {NASTY}", NASTY)])
    expect(page.locator("#why")).to_contain_text(f"a third time {NASTY}")
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img").count() == 0
