"""The dashboard: its numbers are those of the turns, each leads to them, and nobody's words are on it."""

import re
from datetime import date, timedelta
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from convo.admin import charts
from convo.admin.charts import Chart, ChartOptions, Series
from convo.models import Work
from tests.staff import staff
from tests.support.dashboard import PAGE
from tests.support.usage import Status, ago, failed, many, noon, session_of, settle, turn

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SECRET = "walnuts"


@pytest.fixture
def looking(db: None) -> Client:
    """Somebody of the staff who may look at turns."""
    return staff()


def page(client: Client, **asked: Any) -> Any:
    answer = client.get(PAGE, asked)
    assert answer.status_code == 200
    return answer


def chart(answer: Any, title: str) -> Chart:
    charts: list[Chart] = answer.context["charts"]
    return next(chart for chart in charts if chart.title.startswith(title))


def behind(client: Client, href: str) -> int:
    """How many turns the list has to which this leads."""
    answer = client.get(href)
    assert answer.status_code == 200, href
    return int(answer.context["cl"].result_count)


def told(title: str) -> int:
    """The number at the end of what a mark tells."""
    return int(title.rsplit(" ", 1)[1].replace(",", ""))


# Who may look.


def test_it_is_for_staff_that_may_look_at_turns(client: Client, alice: User) -> None:
    assert client.get(PAGE).status_code == 302
    client.force_login(alice)
    assert client.get(PAGE).status_code == 302
    alice.is_staff = True
    alice.save()
    assert client.get(PAGE).status_code == 403
    assert staff().get(PAGE).status_code == 200


def test_the_index_of_the_admin_leads_to_it(client: Client, alice: User, looking: Client) -> None:
    alice.is_staff = True
    alice.save()
    client.force_login(alice)
    index = reverse("admin:index")
    assert PAGE in looking.get(index).content.decode()
    assert PAGE not in client.get(index).content.decode()


def test_nothing_that_anybody_said_is_on_it(alice: User, looking: Client) -> None:
    session = session_of(alice)
    session.title = SECRET
    session.save()
    words: dict[str, Any] = {"draft": SECRET, "gist": SECRET, "input": [SECRET], "route_reason": SECRET}
    error = {"code": "upstream_rejected", "message": f"It said: {SECRET}"}
    turn(session, noon(1), status=Status.FAILED, error=error, **words)
    Work.objects.create(kind="learn", target="1", state=Work.State.DEAD, error=SECRET)
    shown = page(looking).content.decode()
    assert "upstream_rejected" in shown
    assert SECRET not in shown


def test_a_name_is_shown_as_it_is_written(alice: User, looking: Client) -> None:
    turn(session_of(alice), noon(1), agent="<script>alert(1)</script>", model='"><img src=x>')
    shown = page(looking).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<script>alert" not in shown
    assert "<img src=x" not in shown


# What it shows.


def test_each_mark_leads_to_the_turns_that_it_tells_of(alice: User, looking: Client) -> None:
    many(session_of(alice), 4)
    bars = chart(page(looking, days=7), "Turns a day").bars
    assert len(bars) >= 4
    for bar in bars:
        assert behind(looking, bar.href) == told(bar.title), bar.title
    assert sum(told(bar.title) for bar in bars) == 400


def test_a_mark_leads_to_ended_turns_alone(alice: User, looking: Client) -> None:
    session = session_of(alice)
    turn(session, noon(1))
    turn(session, noon(1), status=Status.RUNNING, lease_until=noon(-1), finished_at=None)
    [bar] = chart(page(looking), "Turns a day").bars
    assert (told(bar.title), behind(looking, bar.href)) == (1, 1)


def test_all_other_agents_together_lead_to_theirs(alice: User, looking: Client) -> None:
    session = session_of(alice)
    for number, agent in enumerate("abcdef", 1):
        for _ in range(10 - number):
            turn(session, noon(2), agent=agent)
    drawn = chart(page(looking), "Turns a day")
    assert [series.name for series in drawn.series] == ["a", "b", "c", "d", "others"]
    assert [told(bar.title) for bar in drawn.bars] == [9, 8, 7, 6, 9]
    assert [behind(looking, bar.href) for bar in drawn.bars] == [9, 8, 7, 6, 9]


def test_each_number_of_the_tables_leads_to_the_turns_that_it_counts(alice: User, looking: Client) -> None:
    many(session_of(alice), 4)
    answer = page(looking, days=7)
    tables = answer.context["tables"]
    assert [table.title for table in tables] == ["By agent", "By model", "By error"]
    for table in tables:
        assert table.entries
        for entry in table.entries:
            value, href = entry.cells[0]
            assert behind(looking, href) == int(value), entry
    for series in ("Time to first token", "Time to the whole reply", "Failed turns", "Transcript in cache"):
        for _, cells in chart(answer, series).rows:
            for value, href in cells:
                assert (behind(looking, href) > 0) if href else value in {"–", "0%"}


def test_a_mark_of_failures_leads_to_those_of_its_code(alice: User, looking: Client) -> None:
    session = session_of(alice)
    for code, times in (("upstream_timeout", 2), ("server_error", 1), ("turn_cancelled", 1)):
        for _ in range(times):
            status = Status.CANCELLED if code == "turn_cancelled" else Status.FAILED
            failed(session, noon(1), code, status=status)
    bars = chart(page(looking), "Failed turns").bars
    assert [bar.title.split(": ")[1] for bar in bars] == ["upstream_timeout 50%", "server_error 25%"]
    assert [behind(looking, bar.href) for bar in bars] == [2, 1]


def test_the_page_narrows_to_an_agent_or_a_model_and_widens_again(alice: User, looking: Client) -> None:
    session = session_of(alice)
    for agent, model in (("a", "small"), ("a", "large"), ("b", "small")):
        turn(session, noon(1), agent=agent, model=model)
    whole = page(looking, days=7)
    by_agent = whole.context["tables"][0].entries[0]
    narrowed = looking.get(PAGE + by_agent.narrowed_url)
    assert (by_agent.name, narrowed.context["wanted"].days) == ("a", 7)
    assert [entry.name for entry in narrowed.context["tables"][0].entries] == ["a"]
    assert [behind(looking, bar.href) for bar in chart(narrowed, "Turns a day").bars] == [2]
    more = looking.get(PAGE + narrowed.context["tables"][1].entries[0].narrowed_url)
    assert more.context["wanted"].filters == {"agent": "a", "model": "large"}
    [_, (name, _, without)] = more.context["wanted"].active_filters
    assert name == "model"
    assert looking.get(PAGE + without).context["wanted"].filters == {"agent": "a"}


@pytest.mark.parametrize(
    ("asked", "shown"), [("7", 7), ("30", 30), ("90", 90), ("", 30), ("8", 30), ("x", 30)]
)
def test_the_range_is_one_of_three(looking: Client, asked: str, shown: int) -> None:
    answer = page(looking, days=asked)
    assert {len(chart.columns) for chart in answer.context["charts"]} == {shown}


def test_a_page_of_nothing_says_so(looking: Client) -> None:
    shown = page(looking).content.decode()
    assert "No turn ended in these days" in shown
    assert shown.count("nothing to show") == 6


def test_a_day_that_was_settled_looks_the_same(alice: User, looking: Client) -> None:
    many(session_of(alice), 5)
    before = page(looking, days=7).context["charts"]
    settle()
    assert page(looking, days=7).context["charts"] == before


def test_it_tells_how_far_the_background_is_behind(alice: User, looking: Client) -> None:
    assert page(looking).context["background"]["lag"] == ""
    now = timezone.now()
    soon, long_ago = now + timedelta(hours=1), now - timedelta(minutes=2)
    rows: list[dict[str, Any]] = [
        {"next_at": long_ago},
        {"next_at": long_ago, "lease_until": soon},
        {"next_at": soon},
        {"state": Work.State.DEAD},
        {"state": Work.State.DEAD},
    ]
    for target, fields in enumerate(rows):
        Work.objects.create(kind="learn", target=str(target), **fields)
    answer = page(looking)
    found = answer.context["background"]
    [pile] = found["work_counts"]
    assert pile == {"kind": "learn", "running": 1, "due": 1, "waiting": 1, "dead": 2}
    assert re.fullmatch(r"12\d s", found["lag"])
    links = re.findall(r'href="(/admin/convo/work/[^"]*)', answer.content.decode())
    assert [behind(looking, unescape(link)) for link in links] == [3, 3, 3, 2]


def test_it_asks_as_few_questions_of_many_turns_as_of_few(alice: User, looking: Client) -> None:
    session = session_of(alice)
    asked = []
    for turns in (3, 30):
        for number in range(turns):
            turn(session, noon(number % 5 + 1), agent=f"agent {number}", model=f"model {number}")
        with CaptureQueriesContext(connection) as queries:
            page(looking)
        asked.append(len(queries))
    assert asked[0] == asked[1] <= 20


# How it is drawn.


def test_the_drawings_are_well_formed_and_have_a_table_beside_them(alice: User, looking: Client) -> None:
    many(session_of(alice), 4)
    shown = page(looking).content.decode()
    drawings = re.findall(r'<svg class="plot".*?</svg>', shown, re.DOTALL)
    assert len(drawings) == shown.count("As a table") == 6
    for drawing in drawings:
        svg = ElementTree.fromstring(drawing)
        # Who goes by keyboard, or reads by ear, has the same links in the table.
        assert svg.get("aria-hidden") == "true"
        assert {link.get("tabindex") for link in svg.iter("a")} == {"-1"}
        for kind in ("rect", "circle"):
            assert all(mark.find("title") is not None for mark in svg.iter(kind))


def test_numbers_are_drawn_with_points_whatever_the_language(
    alice: User, looking: Client, settings: Any
) -> None:
    settings.LANGUAGE_CODE = "de"
    many(session_of(alice), 4)
    drawing = re.findall(r'<svg class="plot".*?</svg>', page(looking).content.decode(), re.DOTALL)[0]
    rects = list(ElementTree.fromstring(drawing).iter("rect"))
    assert rects
    for rect in rects:
        assert all(
            re.fullmatch(r"\d+(\.\d+)?%?", rect.get(side, "")) for side in ("x", "y", "width", "height")
        )


DAYS = [ago(days) for days in (2, 1, 0)]


def frame(**fields: Any) -> ChartOptions:
    return ChartOptions(
        **{
            "title": "T",
            "days": DAYS,
            "format_value": charts.format_exact,
            "link": lambda day, key: "",
            **fields,
        }
    )


def test_a_stack_is_as_high_as_its_values() -> None:
    drawn = charts.bar_chart(
        frame(),
        [Series(name="a", colour=1, values=[10, 0, 5]), Series(name="b", colour=2, values=[30, 0, None])],
    )
    assert [tick.label for tick in drawn.y_ticks] == ["0", "10", "20", "30", "40"]
    # 40 is the top of the scale: the whole height.
    assert [(bar.colour, bar.y, bar.height) for bar in drawn.bars] == [
        (1, "120.0", "40.0"),
        (2, "0.0", "120.0"),
        (1, "140.0", "20.0"),
    ]
    assert [day.title.split(": ")[1] for day in drawn.columns] == ["a 10, b 30", "nothing", "a 5"]


def test_a_line_has_a_gap_where_there_is_nothing() -> None:
    days = [ago(days) for days in range(4, -1, -1)]
    drawn = charts.line_chart(frame(days=days), [Series(name="a", colour=1, values=[4, 2, None, 1, 0])])
    assert [(point.x, point.y) for point in drawn.points] == [
        ("10.000%", "0.0"),
        ("30.000%", "80.0"),
        ("70.000%", "120.0"),
        ("90.000%", "160.0"),
    ]
    assert [(start.x, end.x) for start, end in drawn.lines] == [
        ("10.000%", "30.000%"),
        ("70.000%", "90.000%"),
    ]


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (4, [0, 1, 2, 3, 4]),
        (5, [0, 2, 4, 6]),
        (9, [0, 5, 10]),
        (100, [0, 50, 100]),
        (1700, [0, 500, 1000, 1500, 2000]),
        (0.3, [0, 1]),
    ],
)
def test_the_scale_goes_in_round_steps_to_the_most_or_beyond(most: float, ticks: list[int]) -> None:
    assert charts.round_ticks(most) == ticks


def test_days_are_named_one_by_one_or_by_their_mondays() -> None:
    last = date(2026, 11, 21)

    def named(days: int) -> list[str]:
        return [
            tick.label for tick in charts.day_ticks([last - timedelta(days=n) for n in range(days)][::-1])
        ]

    assert named(7) == ["15 Nov", "16 Nov", "17 Nov", "18 Nov", "19 Nov", "20 Nov", "21 Nov"]
    assert named(30) == ["26 Oct", "2 Nov", "9 Nov", "16 Nov"]
    assert named(90) == ["24 Aug", "7 Sep", "21 Sep", "5 Oct", "19 Oct", "2 Nov", "16 Nov"]


@pytest.mark.parametrize(
    ("say", "value", "said"),
    [
        (charts.format_short, 950, "950"),
        (charts.format_short, 9_500, "9,500"),
        (charts.format_short, 12_300, "12.3k"),
        (charts.format_short, 250_000, "250k"),
        (charts.format_short, 4_000_000, "4M"),
        (charts.format_duration, 0, "0"),
        (charts.format_duration, 840, "840 ms"),
        (charts.format_duration, 1_200, "1.2 s"),
        (charts.format_duration, 130_000, "130 s"),
        (charts.format_percentage, 0.42, "0.4%"),
        (charts.format_percentage, 12, "12%"),
    ],
)
def test_numbers_are_told_as_people_read_them(say: Any, value: float, said: str) -> None:
    assert say(value) == said
