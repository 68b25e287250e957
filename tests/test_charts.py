"""Charts: their geometry at its limits, that their tables say what they draw, and how they are rendered."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from workers.charts import (
    COUNT,
    NO_DATA,
    SECONDS,
    SHARE,
    Chart,
    Columns,
    Heat,
    Lines,
    Mark,
    Series,
    Shares,
    Target,
    Unit,
)
from workers.charts.columns import LEAST
from workers.charts.parts import sizes
from workers.charts.plot import HEAD_WITH_MARKS, PLOT
from workers.charts.units import count, duration, percent, short_count, ticks
from workers.views.chart_samples import GROUPS

from .markup import flat

SAMPLES = [chart for group in GROUPS for chart in group.charts]
HOSTILE = "<script>alert(1)</script>\"'&"
values = st.one_of(st.none(), st.floats(0, 1e15))


def html(chart: Chart) -> str:
    return render_to_string("workers/charts/chart.html", {"chart": chart})


def columns(*rows: list[float | None], **more: object) -> Columns:
    labels = [f"d{number}" for number in range(len(rows[0]))]
    return Columns("Title", labels, [Series(f"s{row}", each) for row, each in enumerate(rows)], **more)  # type: ignore[arg-type]


def lines(*row: float | None, **more: object) -> Lines:
    return Lines("Title", [str(number) for number in range(len(row))], [Series("s", row)], **more)  # type: ignore[arg-type]


# -- quantities


@pytest.mark.parametrize(
    ("highest", "unit", "expected"),
    [
        (0, COUNT, (0, 1)),
        (1, COUNT, (0, 1)),
        (3, COUNT, (0, 1, 2, 3)),
        (35, COUNT, (0, 10, 20, 30, 40)),
        (40, COUNT, (0, 10, 20, 30, 40)),
        (41, COUNT, (0, 20, 40, 60)),
        (0.5, Unit(count), (0, 0.2, 0.4, 0.6)),
        (0, SECONDS, (0, 1)),
        (100, SECONDS, (0, 30, 60, 90, 120)),
        (7200, SECONDS, (0, 1800, 3600, 5400, 7200)),
        (3 * 86400, SECONDS, (0, 86400, 172800, 259200)),
        (0, SHARE, (0, 0.25, 0.5, 0.75, 1)),
    ],
)
def test_an_axis_has_round_ticks(highest: float, unit: Unit, expected: tuple[float, ...]) -> None:
    assert ticks(highest, unit) == pytest.approx(expected)


@given(st.floats(0, 1e300), st.sampled_from([COUNT, SECONDS, SHARE]))
def test_an_axis_reaches_every_value_in_few_steps(highest: float, unit: Unit) -> None:
    found = ticks(highest, unit)
    assert found[0] == 0
    assert found[-1] >= highest * (1 - 1e-8)
    assert 2 <= len(found) <= 5
    assert list(found) == sorted(set(found))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (0.4, "0.4 s"), (59, "59 s"), (60, "1 min"), (100, "1 min 40 s"), (3600, "1 h")),
        *((3605, "1 h"), (3 * 3600 + 300, "3 h 5 min"), (90000 + 86400, "2 d 1 h"), (59.7, "1 min")),
    ],
)
def test_a_length_of_time_is_written_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (1e-9, "< 0.1 %"), (0.483, "48.3 %"), (0.5, "50 %"), (0.99999, "> 99.9 %"), (1, "100 %")],
)
def test_a_share_is_never_rounded_to_nothing_or_all(share: float, words: str) -> None:
    assert percent(share) == words


def test_counts_are_exact_in_words_and_short_on_an_axis() -> None:
    assert [count(value) for value in (0, 1204, 2.25)] == ["0", "1,204", "2.2"]
    assert [short_count(value) for value in (0, 0.2, 5000, 15000, 2.5e6, 3e12, 1e18)] == [
        *("0", "0.2", "5,000", "15k", "2.5M", "3T", "1e18")
    ]


@given(st.lists(st.floats(0, 1e12), max_size=13), st.floats(10, 1000))
def test_parts_fill_their_room_and_none_is_too_thin(parts: list[float], room: float) -> None:
    found = sizes(parts, room, 0.7)
    assert [size > 0 for size in found] == [part > 0 for part in parts]
    assert all(size >= 0.7 * (1 - 1e-9) for size in found if size)
    if any(parts):
        assert sum(found) == pytest.approx(room)


def test_parts_that_are_all_too_many_are_alike() -> None:
    assert sizes([1, 1000, 5], 1.5, 2) == [0.5, 0.5, 0.5]


# -- what cannot be drawn


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_what_is_no_quantity_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Zombie"):
        Series("Zombie", [0, value])


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 1 labels"):
        Columns("Title", ["a"], [Series("Zombie", [1, 2])])
    with pytest.raises(ValueError, match="1 links for 2 values"):
        Series("Zombie", [1, 2], hrefs=["/"])
    with pytest.raises(ValueError, match="2 names for 1 labels"):
        Columns("Title", ["a"], [], names=["a", "b"])


# -- columns


def test_columns_of_zeros_have_an_axis_and_no_parts() -> None:
    chart = columns([0, 0], [0, 0])
    assert not chart.is_empty
    assert chart.boxes == []
    assert chart.gaps == []
    assert [tick.text for tick in chart.axis] == ["0", "1"]
    assert chart.spots[0].words == "d0: s0 0, s1 0; total 0"


def test_parts_are_stacked_from_the_axis_upward_in_proportion() -> None:
    first, second = columns([10], [30]).boxes
    bottom = columns([10], [30]).bottom
    assert first.y == pytest.approx(bottom - PLOT / 4)
    assert second.y == pytest.approx(bottom - PLOT)
    assert second.y + second.height < first.y


def test_a_part_beside_a_huge_one_is_still_there() -> None:
    chart = columns([1e12, 0, 1], [1, 1, None])
    assert [box.key.name for box in chart.boxes if box.key] == ["s0", "s1", "s1", "s0"]
    assert all(box.height >= LEAST - 1 for box in chart.boxes)
    assert all(box.y >= chart.head for box in chart.boxes)


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=31))
def test_columns_never_leave_their_plot(rows: list[tuple[float | None, ...]]) -> None:
    chart = columns(*map(list, zip(*rows, strict=True)))
    for box in chart.boxes:
        assert box.height >= 1
        assert box.y >= chart.head - 0.01
        assert box.y + box.height <= chart.bottom + 0.01
        assert box.x >= 0
        assert box.x + box.width <= 100.01


def test_days_without_a_figure_are_one_gap_and_not_zero() -> None:
    chart = columns([1, None, None, 0], [1, None, None, None])
    (gap,) = chart.gaps
    assert (gap.x, gap.width) == (25, 50)
    assert chart.has_gaps
    assert chart.spots[1].words == "d1: no data"
    assert chart.spots[3].words == "d3: s0 0, s1 no data; total 0"
    assert chart.table.rows[1] == ("d1", NO_DATA, NO_DATA, NO_DATA)


def test_one_column_is_no_wall() -> None:
    (box,) = columns([5]).boxes
    assert box.width < 10
    assert box.x + box.width / 2 == pytest.approx(50)


@pytest.mark.parametrize("number", [1, 7, 14, 24, 31, 53, 365])
def test_labels_are_thinned_out_until_they_find_room(number: int) -> None:
    chart = columns([1.0] * number)
    texts = chart.label_texts
    widest = max(len(text.text) for text in texts) * 6
    assert texts[0].text == "d0"
    assert len(texts) * widest <= 640
    assert len([text for text in texts if not text.wide]) * widest <= 270
    assert len(texts) == number or number > 14


# -- marks


def test_marks_that_stand_apart_are_named_one_by_one() -> None:
    chart = columns([1.0] * 10, marks=[Mark(2, "one"), Mark(5.5, "two")])
    assert [(flag.at, flag.text, flag.room) for flag in chart.flags] == [(20, "one", 35), (55, "two", 45)]
    assert chart.head == HEAD_WITH_MARKS


def test_marks_that_stand_close_are_counted_and_each_has_its_line() -> None:
    marks = [Mark(5 + step / 10, "Restarted", f"day {step}") for step in range(4)]
    chart = columns([1.0] * 10, marks=marks)
    (flag,) = chart.flags
    assert flag.text == "4 × Restarted"
    assert flag.words == "day 0: Restarted; day 1: Restarted; day 2: Restarted; day 3: Restarted"
    assert chart.mark_lines == [50, 51, 52, 53]
    unlike = columns([1.0] * 10, marks=[Mark(5, "one"), Mark(5.5, "two")])
    assert [flag.text for flag in unlike.flags] == ["2 marks"]


def test_a_mark_at_the_right_edge_is_named_to_its_left() -> None:
    first, last = columns([1.0] * 10, marks=[Mark(2, "one"), Mark(9.9, "two")]).flags
    assert (last.leftward, last.at) == (True, 99)
    assert first.at + first.room <= last.at - last.room + 0.01


@given(st.lists(st.floats(-5, 40), max_size=40))
def test_names_of_marks_never_cover_each_other(places: list[float]) -> None:
    chart = columns([1.0] * 31, marks=[Mark(at, "Restarted") for at in places])
    spans = [
        (flag.at - flag.room, flag.at) if flag.leftward else (flag.at, flag.at + flag.room) for flag in chart.flags
    ]
    assert all(-0.01 <= start <= end <= 100.01 for start, end in spans)
    assert all(one[1] <= two[0] + 0.01 for one, two in pairwise(spans))
    assert sum(len(flag.marks) for flag in chart.flags) == len(places)


def test_marks_are_written_under_the_table_with_their_day() -> None:
    chart = columns([1, 1, 1], marks=[Mark(1.5, "Restarted"), Mark(0.2, "Limits changed", "1 Nov 04:00 UTC")])
    assert chart.remarks == ["1 Nov 04:00 UTC: Limits changed", "d1: Restarted"]


# -- lines


def test_a_line_breaks_where_there_is_no_figure_and_a_point_alone_is_seen() -> None:
    chart = lines(1, 2, None, 3, None, 4)
    assert [(stroke.x1 < 20, stroke.x2 < 30) for stroke in chart.strokes] == [(True, True)]
    assert [point.alone for point in chart.points] == [False, False, True, True]
    assert len(chart.gaps) == 2
    assert 'class="point isolated"' in html(chart)


def test_a_line_of_one_value_is_a_point_in_the_middle() -> None:
    (point,) = lines(7).points
    assert (point.x, point.alone) == (50, True)


def test_a_line_of_zeros_lies_on_the_axis() -> None:
    chart = lines(0, 0)
    assert {point.y for point in chart.points} == {chart.bottom}


def test_a_target_above_all_values_is_still_within_the_plot() -> None:
    chart = lines(1, 2, targets=[Target(30, "high"), Target(31, "higher")])
    (one, words, text), (two, other, _) = chart.target_lines
    assert chart.head <= two < one < chart.bottom
    assert text == "high"
    assert words - other >= 12
    assert "Target: high" in chart.remarks


@given(st.lists(values, min_size=1, max_size=53))
def test_points_never_leave_their_plot(row: list[float | None]) -> None:
    chart = lines(*row)
    assert len(chart.points) == len([value for value in row if value is not None])
    assert all(chart.head - 0.01 <= point.y <= chart.bottom for point in chart.points)
    assert all(0 <= point.x <= 100 for point in chart.points)


# -- heat maps and shares


def test_zero_and_no_data_differ_on_a_heat_map() -> None:
    chart = Heat("Title", ["0", "1", "2"], [Series("Mon", [0, None, 1000]), Series("Tue", [1, 0, 0])])
    zero, none, most, one, *_ = chart.cells
    assert (zero.area.weight, most.area.weight) == (0, 100)
    assert zero.area.key
    assert none.area.key is None
    assert none.words == "Mon 1: no data"
    assert one.area.weight >= 8
    page = html(chart)
    assert page.count('<rect class="gap"') == 2  # the cell, and the legend's
    assert page.count('<rect class="cell"') == 5


def test_a_tiny_share_is_still_there() -> None:
    chart = Shares("Title", ["scan"], [Series("Healthy", [1e9]), Series("Zombie", [1]), Series("Late", [0])])
    (bar,) = chart.bars
    assert [box.key.name for box in bar.boxes if box.key] == ["Healthy", "Zombie"]
    assert bar.boxes[1].width >= 0.7
    assert bar.boxes[1].x + bar.boxes[1].width == pytest.approx(100)
    assert chart.table.rows == (("scan", "> 99.9 % (1,000,000,000)", "< 0.1 % (1)", "0 % (0)"),)


def test_a_share_of_nothing_is_no_data_and_not_0_percent() -> None:
    chart = Shares("Title", ["scan", "fix"], [Series("Healthy", [1, 0]), Series("Late", [1, None])], unit=SECONDS)
    assert chart.has_gaps
    assert chart.bars[1].boxes == ()
    assert chart.bars[1].spot.words == "fix: no data"
    assert chart.table.rows[1] == ("fix", NO_DATA, NO_DATA)
    assert chart.bars[0].spot.words == "scan: Healthy 50 % (1 s), Late 50 % (1 s)"


# -- tables and pages


@pytest.mark.parametrize("chart", SAMPLES, ids=lambda chart: chart.id)
def test_a_table_says_the_same_as_the_drawing(chart: Chart) -> None:
    table = chart.table
    assert {len(row) for row in (*table.rows, *table.links)} <= {len(table.head)}
    if isinstance(chart, Heat):
        said = iter(chart.cells)
        for row in table.rows:
            for name, text in zip(table.head[1:], row[1:], strict=True):
                assert next(said).words == f"{row[0]} {name}: {text}"
        return
    spots = [bar.spot for bar in chart.bars] if isinstance(chart, Shares) else chart.spots  # type: ignore[attr-defined]
    for spot, row in zip(spots, table.rows, strict=True):
        assert spot.title == row[0]
        if NO_DATA not in row:
            assert all(text in spot.words for text in row[1:])
        assert {value.text for value in spot.values} <= set(row)


class _Well(HTMLParser):
    """Tags that are open, to see that a page closes what it opens, and every text and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.ids += [value for name, value in attributes if name == "id" and value]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("chart", SAMPLES, ids=lambda chart: chart.id)
def test_every_sample_is_whole_html_whose_ids_are_its_own(chart: Chart) -> None:
    page = html(chart)
    well = _Well()
    well.feed(page)
    assert well.open == []
    assert len(set(well.ids)) == len(well.ids)
    assert all(name.startswith(chart.id) for name in well.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(well.ids)
    assert chart.empty in page if chart.is_empty else "<table>" in page
    assert not re.search(r"nan|inf%|None", page)


def test_no_two_samples_share_an_id() -> None:
    assert len({chart.id for chart in SAMPLES}) == len(SAMPLES)


@pytest.mark.parametrize("kind", [Columns, Lines, Heat, Shares])
def test_an_empty_chart_shows_its_sentence_and_draws_nothing(kind: type[Chart]) -> None:
    for labels, series in (([], []), (["a"], []), (["a"], [Series("Zombie", [None])])):
        page = html(kind("Title", labels, series, empty="Nobody watched in these days."))
        assert "Nobody watched in these days." in page
        assert "<rect" not in page
        assert "<table" not in page


@pytest.mark.parametrize("kind", [Columns, Lines, Heat, Shares])
def test_hostile_words_are_text(kind: type[Chart]) -> None:
    more = {"marks": [Mark(0.5, HOSTILE, HOSTILE)]} if kind in (Columns, Lines) else {}
    more |= {"targets": [Target(1, HOSTILE)]} if kind is Lines else {}
    series = [Series(HOSTILE, [1, None], hrefs=[f"/?{HOSTILE}", ""]), Series("other", [2, None])]
    chart = kind(HOSTILE, [HOSTILE, "b"], series, note=HOSTILE, names=[HOSTILE, "b"], by=HOSTILE, **more)  # type: ignore[arg-type]
    for page in (html(chart), html(kind(HOSTILE, [], [], empty=HOSTILE))):
        well = _Well()
        well.feed(page)
        assert "script" not in well.tags
        assert "&lt;script&gt;" in page
        assert HOSTILE not in page


@pytest.mark.parametrize("kind", [Columns, Lines, Heat, Shares])
def test_a_link_is_in_the_drawing_and_in_the_table_but_not_on_nothing(kind: type[Chart]) -> None:
    page = html(kind("Title", ["a", "b", "c"], [Series("Zombie", [3, 0, None], hrefs=["/three", "/zero", "/none"])]))
    assert page.count('href="/three"') == 2
    assert "/zero" not in page
    assert "/none" not in page


def test_the_legend_is_a_pattern_a_shape_and_a_word() -> None:
    chart = Columns("Title", ["a"], [Series("Zombie", [1], "zombie"), Series("Late", [1], "late")])
    page = flat(html(chart))
    assert re.search(
        r'<li class="zombie"> <svg.*?fill="url\(#chart-title-0\)".*?<i aria-hidden="true">◌</i> Zombie', page
    )
    assert re.search(r'<li class="late"> <svg.*?fill="url\(#chart-title-1\)".*?<i aria-hidden="true">◐</i> Late', page)
