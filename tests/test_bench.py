"""A small twin of `make bench`: every section measures, and its figures are written as text, JSON and SVG."""

import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import pytest
from django.db import connection
from django.test import Client

from benchmarks import charts, load, plain_drf, report, stage
from benchmarks.__main__ import SECTIONS
from benchmarks.background import add_beside
from benchmarks.endurance import add_figures
from benchmarks.plans import StatementPlan
from benchmarks.processes import Load, Result, as_file, request
from benchmarks.report import Section, Table
from tests.backends import KEPT
from tests.servers import ROOT

pytestmark = pytest.mark.once

RUN_SECONDS = 230


def run(folder: Path) -> str:
    """Measure everything, tiny, without the peers, in an environment that has nothing of the tests'."""
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "bench", "--tiny", "--folder", str(folder)],
        cwd=ROOT,
        env={**env, "CONVO_BENCH_PEERS": str(folder / "no-peers")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        # As Ctrl-C does it, so that its servers end, too.
        os.killpg(process.pid, signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, printed + errors
    return printed


def numbers(table: dict[str, Any]) -> list[float]:
    return [cell for row in table["rows"] for cell in row if isinstance(cell, int | float)]


@pytest.mark.slow
def test_each_section_yields_figures_which_are_written(tmp_path: Path) -> None:
    printed = run(tmp_path)
    document = json.loads((tmp_path / "figures.json").read_text())
    page = (tmp_path / "figures.md").read_text()
    assert document["versions"].keys() >= {"Convo", *report.OURS}
    assert list(document["sections"]) == list(SECTIONS)
    for name, section in document["sections"].items():
        assert section["tables"], name
        for table in section["tables"]:
            assert table["rows"], table["title"]
            assert any(number > 0 for number in numbers(table)), table
            assert table["title"] in printed
            assert table["title"] in page
    for name in ("http", "streams"):
        rows = [row for table in document["sections"][name]["tables"] for row in table["rows"]]
        # Each kind of request was answered: the second column says how many were, a second.
        assert [row[0] for row in rows if not row[1]] == []
    assert "not measured" in page
    assert "Index Scan" in (tmp_path / "growth-plans.txt").read_text()
    targets = {target["operation"]: target["is_met"] for target in document["sections"]["growth"]["targets"]}
    assert targets["functions of convo.history.statements without a plan"]
    pictures = list(tmp_path.glob("*.svg"))
    assert {picture.name.partition("-")[0] for picture in pictures} >= {"http", "streams", "store", "growth"}
    for picture in pictures:
        ElementTree.parse(picture)
        assert picture.name in page


def section_of(name: str, value: float) -> Section:
    table = Table(
        "Speeds", ["who", "per second"], [["Convo", value], ["a peer", "not measured"]], ["per second"]
    )
    section = Section(name, [table])
    section.at_least("as fast as a peer", value, 2)
    section.at_most("as slow as a peer", value, 2)
    section.expect("as small as a peer", "not measured", "≤ 1", None)
    return section


def test_a_target_is_marked_as_it_was_measured() -> None:
    marks = {value: [report.mark(target) for target in section_of("a", value).targets] for value in (1, 2, 3)}
    assert marks == {
        1: ["not met", "met", "not measured"],
        2: ["met", "met", "not measured"],
        3: ["met", "not met", "not measured"],
    }


def test_a_run_of_one_section_keeps_the_figures_of_the_others(tmp_path: Path) -> None:
    report.write([section_of("first", 1.5), section_of("second", 2.5)], tmp_path, {"peer": "1.0"})
    report.write([section_of("second", 3.5)], tmp_path, {})
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["versions"]["peer"] == "1.0"
    assert {name: section["tables"][0]["rows"][0][1] for name, section in document["sections"].items()} == {
        "first": 1.5,
        "second": 3.5,
    }
    page = (tmp_path / "figures.md").read_text()
    assert "| Convo | 3.50 |" in page
    assert "| Convo | 2.50 |" not in page
    assert re.search(r"\| as small as a peer \| not measured \| ≤ 1 \| not measured \|", page)


def test_the_readme_gets_the_headlines_and_keeps_the_rest(tmp_path: Path) -> None:
    path, section = tmp_path / "README.md", section_of("first", 1.5)
    path.write_text(f"before\n{report.MARK}\nold\n{report.MARK}\nafter\n")
    section.headlines = [["reads", "2 ms", "a peer 3"]]
    for _ in range(2):
        report.write_readme(path, [section])
        table = "| In one run | Convo | Others |\n| --- | --- | --- |\n| reads | 2 ms | a peer 3 |"
        assert path.read_text() == f"before\n{report.MARK}\n{table}\n{report.MARK}\nafter\n"
    assert (ROOT / "README.md").read_text().count(report.MARK) == 2


def test_many_latencies_are_told_by_a_sample_with_the_same_median() -> None:
    values = [float(number) for number in range(9_999, -1, -1)]
    assert load.sample(values[:5]) == sorted(values[:5])
    assert len(chosen := load.sample(values)) == load.SAMPLE
    assert median(chosen) == pytest.approx(median(values), abs=3)


ANSWERS = {
    "whole": b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nthe end.",
    "streamed": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nthe end.\r\n0\r\n\r\n",
    "refused": b"HTTP/1.1 503 Busy\r\nContent-Length: 8\r\n\r\nthe end.",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nthe",
    "hung up": b"",
}


class Answering(socketserver.StreamRequestHandler):
    """Answers each request with what its path names, in two packets."""

    queries: ClassVar[list[str]] = []

    def handle(self) -> None:
        while head := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            path, _, query = head.split()[1].decode().partition("?")
            self.queries.append(query)
            answer = ANSWERS[path.strip("/").replace("-", " ")]
            self.wfile.write(answer[:30])
            time.sleep(0.001)
            self.wfile.write(answer[30:])
            if not answer:
                return


def load_on(*paths: str, clients: int = 2, count: int = 4, **options: Any) -> dict[str, Any]:
    """The load generator's outcome of so many clients and requests of these paths."""
    Answering.queries.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        requests = [request("GET", path) for path in paths]
        plan = vars(Load(requests, clients, seconds=20, count=count, first="the", end="the end.", **options))
        address = {"host": "127.0.0.1", "port": server.server_address[1]}
        ran = subprocess.run(
            as_file("load.py"),
            input=json.dumps({**plan, **address}),
            capture_output=True,
            text=True,
            check=True,
        )
        server.shutdown()
    outcome: dict[str, Any] = json.loads(ran.stdout)
    return outcome


@pytest.mark.parametrize(
    ("path", "answered", "failures"),
    [
        ("/whole", 4, {}),
        ("/streamed", 4, {}),
        ("/refused", 0, {"503": 4}),
        ("/cut", 0, {"incomplete": 4}),
        ("/hung-up", 0, {"connection lost": 2}),
    ],
)
def test_a_response_that_failed_is_counted_and_is_no_figure(
    path: str, answered: int, failures: dict[str, int]
) -> None:
    outcome = load_on(path)
    assert [outcome["answered"], *(len(outcome[name]) for name in ("latencies", "firsts"))] == [answered] * 3
    assert outcome["failures"] == failures


def test_a_conversation_has_all_its_requests_in_order_in_a_session_of_its_own() -> None:
    turns = [f"/whole?{load.SESSION}-{number}" for number in (1, 2, 3)]
    outcome = load_on(*turns, clients=1, count=100, sessions=["a", "b"])
    assert Answering.queries == ["a-1", "a-2", "a-3", "b-1", "b-2", "b-3"]
    assert (outcome["answered"], outcome["failures"]) == (6, {"no session left": 1})


def test_a_load_keeps_to_its_rate() -> None:
    outcome = load_on("/whole", count=6, rate=10)
    assert outcome["answered"] == 6
    # The last of six requests is due half a second after the first.
    assert outcome["seconds"] >= 0.49


PLAN = """\
Limit (actual rows=20.00 loops=1)
  Buffers: shared hit=90 read=10
  ->  Nested Loop (actual rows=20.00 loops=1)
        Buffers: shared hit=90 read=10
        ->  Index Scan Backward using message_transcript on convo_message message (actual rows=20.00 loops=1)
              Index Cond: (session_id = 'a'::uuid)
              Filter: (thread = ''::text)
              Rows Removed by Filter: 7
              Buffers: shared hit=30
        ->  Seq Scan on convo_turn turn (actual rows=1.00 loops=20)
              Filter: (id = message.turn_id)
              Rows Removed by Filter: 4
Planning:
  Buffers: shared hit=5000
"""


def test_a_plan_tells_what_the_statement_read() -> None:
    plan = StatementPlan("a request", "a function", "SELECT 1", PLAN)
    assert (plan.indexes, plan.scans) == (["message_transcript"], {"convo_turn"})
    assert (plan.buffers, plan.rows) == (100, 27 + 20 * 5)


def test_a_worker_that_falls_behind_is_found_out() -> None:
    section, result = Section("beside"), Result(responses=3_000, seconds=100)
    for counts in ([3, 40, 5, 38], [3, 40, 200, 380]):
        add_beside(section, result, "to be indexed", counts)
    assert [target.is_met for target in section.targets] == [True, False]


def test_the_plain_project_reads_20_messages_and_appends_two(
    transactional_db: None, settings: Any, client: Client, alice: Any, bob: Any
) -> None:
    settings.ROOT_URLCONF = "benchmarks.plain_drf"
    plain_drf.create_tables()
    try:
        (session,) = stage.plain_sessions(alice, 1, 30)
        path = f"/sessions/{session}/messages/"
        hers = {"Authorization": f"Bearer {plain_drf.issue_key(alice)}"}
        his = {"Authorization": f"Bearer {plain_drf.issue_key(bob)}"}
        body = {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}
        added = client.post(path, body, content_type="application/json", headers=hers)
        assert [row["position"] for row in added.json()["results"]] == [31, 32]
        page = client.get(path, headers=hers).json()["results"]
        assert [row["position"] for row in page] == list(range(32, 12, -1))
        assert page[0]["content"] == "two"
        wrong = [client.get(path, headers=headers).status_code for headers in (his, {"Authorization": "no"})]
        assert wrong == [404, 401]
    finally:
        with connection.schema_editor() as editor:
            for model in (plain_drf.PlainMessage, plain_drf.PlainSession, plain_drf.PlainKey):
                editor.delete_model(model)


def test_a_section_is_read_back_as_it_was_saved() -> None:
    section = section_of("first", 1.5)
    assert report.read_section(asdict(section)) == section


def test_charts_show_every_value_and_escape_names() -> None:
    bars = charts.bars("Speeds & more", [("Convo <1>", 1234.0), ("nothing", 0.0)])
    assert {"Speeds & more", "Convo <1>", "1,234", "nothing", "0"} <= set(words_of(bars))
    lines = charts.lines("Over time", "minutes", [0, 1, 2], {"memory, MB": [1, 2, 4], "threads": [0, 0, 0]})
    assert "memory, MB: at most 4, at the end 4" in words_of(lines)
    assert "prefers-color-scheme:dark" in lines


def words_of(svg: str) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_what_grows_over_time_is_found_out() -> None:
    moments = [float(second) for second in range(100)]
    section = Section("endurance")
    add_figures(section, moments, {"flat": [5.0] * 100, "growing": moments})
    assert [target.is_met for target in section.targets] == [True, False]
