"""Charts on the page of components: exact values by pointer and keyboard, the table, paper, a telephone."""

from __future__ import annotations

import itertools

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Locator, Page, expect

from tests.conftest import client_of
from workers.charts import Chart
from workers.views.chart_samples import COLUMNS, GROUPS, HEAT, LINES, SHARES

from .conftest import Server


@pytest.fixture
def charts(visitor: Page, server: Server, admin_user: User) -> Page:
    """The page of components, which only staff may see."""
    cookie = client_of(admin_user).cookies[settings.SESSION_COOKIE_NAME]
    visitor.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])
    visitor.emulate_media(reduced_motion="reduce")
    visitor.goto("/components/")
    return visitor


def drawn(page: Page, chart: Chart) -> Locator:
    return page.locator(f"#{chart.id}")


def tip(chart: Locator) -> Locator:
    return chart.locator(".tip:visible")


def test_pointing_at_a_column_shows_its_exact_values(charts: Page) -> None:
    chart, sample = drawn(charts, COLUMNS[0]), COLUMNS[0]
    expect(tip(chart)).to_have_count(0)
    chart.locator('a.go[href="?sample=zombie-8"]').hover()
    expect(tip(chart)).to_have_count(1)
    name, *values, total = sample.table.rows[8]
    expect(tip(chart).locator("b")).to_have_text(name)
    expect(tip(chart).locator("em")).to_have_text([*values[::-1], total])


def test_the_keyboard_goes_from_column_to_column_and_past_the_drawing(charts: Page) -> None:
    chart = drawn(charts, COLUMNS[4])
    skip = chart.get_by_role("link", name="Skip the drawing")
    skip.focus()
    expect(skip).to_be_in_viewport()
    charts.keyboard.press("Tab")
    expect(tip(chart).locator("b")).to_have_text("10 Nov")
    charts.keyboard.press("Tab")
    expect(tip(chart)).to_have_count(1)
    expect(tip(chart).locator("b")).to_have_text("11 Nov")
    skip.focus()
    charts.keyboard.press("Enter")
    charts.keyboard.press("Tab")
    expect(chart.locator("summary")).to_be_focused()


def test_days_that_nobody_watched_say_so(charts: Page) -> None:
    chart = drawn(charts, COLUMNS[4])
    chart.get_by_role("img", name="13 Nov: no data").hover()
    expect(tip(chart).locator("em")).to_have_text(["no data"] * 4)


def test_cells_bars_points_and_marks_show_what_they_are(charts: Page) -> None:
    heat, shares, lines, month = (drawn(charts, each) for each in (HEAT[0], SHARES[0], LINES[0], COLUMNS[1]))
    heat.get_by_role("img", name="Sun 00:00: no data").hover()
    expect(tip(heat)).to_have_text("Sun 00:00 no data")
    shares.get_by_role("img", name="implementation-worker: ").focus()
    expect(tip(shares)).to_contain_text("< 0.1 % (1 min 15 s)")
    lines.get_by_role("img", name="18 Nov: ").hover()
    expect(tip(lines).locator("em")).to_have_text(["40 min", "1 h 55 min"])
    month.get_by_role("img", name="5 Oct: PM daemon restarted; ").hover()
    expect(tip(month).locator("span")).to_have_count(5)


def test_no_tip_leaves_the_page_at_either_edge(charts: Page) -> None:
    for width in (1440, 390):
        charts.set_viewport_size({"width": width, "height": 900})
        for sample in (COLUMNS[0], COLUMNS[1], LINES[0], HEAT[0], SHARES[0]):
            chart = drawn(charts, sample)
            for spot in (chart.locator(".spot").first, chart.locator(".spot").last):
                spot.focus()
                box = tip(chart).bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width


def test_a_part_of_a_column_leads_to_what_it_counts(charts: Page) -> None:
    chart = drawn(charts, COLUMNS[0])
    chart.locator('a.go[href="?sample=zombie-8"]').click()
    charts.wait_for_url("**/components/?sample=zombie-8")


def test_the_table_opens_with_the_same_numbers_and_links(charts: Page) -> None:
    chart, table = drawn(charts, COLUMNS[0]), COLUMNS[0].table
    expect(chart.locator("table")).to_be_hidden()
    chart.locator("summary").focus()
    charts.keyboard.press("Enter")
    expect(chart.locator("tbody tr").first).to_be_visible()
    assert [row.split("\t") for row in chart.locator("tbody tr").all_inner_texts()] == [list(row) for row in table.rows]
    expect(chart.locator("details")).to_contain_text("18 Nov 06:02 UTC: PM daemon restarted")
    chart.locator('td a[href="?sample=zombie-8"]').press("Enter")
    charts.wait_for_url("**/components/?sample=zombie-8")


def test_on_paper_every_table_is_shown_and_parts_have_patterns(charts: Page) -> None:
    part = drawn(charts, COLUMNS[0]).locator("rect.part.zombie").first
    assert "url" not in part.evaluate("rect => getComputedStyle(rect).fill")
    charts.emulate_media(media="print", color_scheme="dark")
    for sample in (chart for group in GROUPS for chart in group.charts if not chart.is_empty):
        expect(drawn(charts, sample).locator("tbody td").last).to_be_visible()
        assert drawn(charts, sample).locator("details").evaluate("each => each.clientHeight") > 20
    assert "url" in part.evaluate("rect => getComputedStyle(rect).fill")
    assert charts.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
    expect(drawn(charts, HEAT[0]).locator("text.on-paper").first).to_be_visible()


@pytest.mark.parametrize("width", [390, 1440])
def test_no_chart_makes_the_page_scroll_sideways(charts: Page, width: int) -> None:
    charts.set_viewport_size({"width": width, "height": 844})
    for summary in charts.locator(".chart summary").all():
        summary.click()
    assert charts.evaluate("document.documentElement.scrollWidth") <= width
    for sample in (COLUMNS[1], COLUMNS[5], LINES[1], HEAT[0]):
        labels = drawn(charts, sample).locator("svg > text[text-anchor=middle]:not(.on-paper):visible")
        boxes = [box for each in labels.all() if (box := each.bounding_box())]
        assert len(boxes) >= 4
        assert all(one["x"] + one["width"] < two["x"] for one, two in itertools.pairwise(boxes))
