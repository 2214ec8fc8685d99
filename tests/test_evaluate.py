"""The evaluation: it measures what the API would answer, and leaves nothing behind."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from convo import search
from convo.evaluation import locomo, report
from convo.models import ApiKey, IndexedMessage, Message, Person, Session, Turn

pytestmark = [pytest.mark.django_db, pytest.mark.once]


def line(speaker: str, id: str, text: str, **fields: str) -> dict[str, str]:
    return {"speaker": speaker, "dia_id": id, "text": text, **fields}


CONVERSATION = {
    "sample_id": "made-1",
    "conversation": {
        "speaker_a": "Ada",
        "speaker_b": "Ben",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            line("Ada", "D1:1", "Hello Ben! How was the weekend?"),
            line("Ben", "D1:2", "We sailed to the island yesterday.", blip_caption="a boat with red sails"),
            line("Ada", "D1:3", "Lovely. I stayed at home and baked bread."),
        ],
        "session_2_date_time": "10:00 am on 12 June, 2023",
        "session_2": [
            line("Ben", "D2:1", "Did you find a name for the dog?"),
            line("Ada", "D2:2", "Yes: Biscuit."),
        ],
    },
    "qa": [
        {
            "question": "When did Ben sail to the island?",
            "answer": "7 May 2023",
            "evidence": ["D1:2"],
            "category": 2,
        },
        {"question": "What is Ada's dog called?", "answer": "Biscuit", "evidence": ["D:2:02"], "category": 4},
        {
            "question": "Who sailed and who baked?",
            "answer": "much",
            "evidence": ["D1:2; D1:3"],
            "category": 1,
        },
        {"question": "Who is Zed?", "answer": "nobody", "evidence": [], "category": 5},
        {"question": "Where is it?", "answer": "nowhere", "evidence": ["D9:9"], "category": 5},
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "set.json"
    path.write_text(json.dumps([CONVERSATION]))
    return path


def evaluate(*arguments: str) -> str:
    told = StringIO()
    call_command("evaluate", *arguments, stdout=told, stderr=StringIO())
    return told.getvalue()


def test_it_tells_recall_by_category_beside_the_published_figures(file: Path) -> None:
    told = evaluate("locomo", str(file))
    for wanted in (
        "R@5",
        "R@50",
        "DRAGON",
        "82.7",
        "temporal (1)",
        "single-hop (1)",
        "3 questions over 5 messages",
    ):
        assert wanted in told
    found = json.loads(evaluate("locomo", str(file), "--json", "--ablation"))
    assert found["overall"]["recall"] == {"5": 100.0, "10": 100.0, "25": 100.0, "50": 100.0}
    assert found["categories"].keys() == {"multi-hop", "temporal", "single-hop"}
    assert found["ablation"].keys() == set(search.PARTS)
    assert found["latency_ms"]["p50"] > 0


def test_it_tells_what_is_found_where_little_was_said(file: Path) -> None:
    """Review 4: also how often a question about something else finds something."""
    other = {**CONVERSATION, "sample_id": "made-2"}
    file.write_text(json.dumps([CONVERSATION, other]))
    told = evaluate("small", str(file))
    assert "answered" in told
    assert "unrelated" in told
    found = json.loads(evaluate("small", str(file), "--json", "--questions", "4"))
    assert list(found) == ["1", "3", "10", "30"]
    assert found["1"]["questions"] == 4
    assert all(0 <= row["unrelated_by_meaning"] <= row["unrelated"] <= 100 for row in found.values())
    assert found["3"]["answered"] == 100.0
    assert not Session.objects.exists()


def test_it_leaves_nothing_behind_and_touches_nothing_else(file: Path, alice: Any) -> None:
    mine = Session.objects.create(
        owner=alice, person=Person.objects.get_or_create_by_ref(alice, "me"), agent="assistant"
    )
    evaluate("locomo", str(file), "--distractors", "300")
    assert list(Session.objects.all()) == [mine]
    assert list(get_user_model().objects.all()) == [alice]
    for rows in (Message, Turn, IndexedMessage):
        assert not rows.objects.exists()
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM convo_terms WHERE convo_terms MATCH 'p* OR o*'")
            assert cursor.fetchone() == (0,)


def test_it_ranks_as_the_api_does(file: Path, client: Client) -> None:
    with locomo.load(file) as data:
        _, key = ApiKey.objects.issue(data.owner)
        for question in data.questions:
            hits = search.find(question.person, data.owner, question.text, limit=50, neighbours=0)
            answer = client.get(
                "/api/v1/search/",
                {"q": question.text, "user": question.person.ref, "page_size": "50"},
                headers={"Authorization": f"Bearer {key}"},
            )
            assert [hit["id"] for hit in answer.json()["results"]] == [hit.item_id for hit in hits] != []
            assert locomo.ask(question, data.owner).recall[5] == 1.0


def test_the_days_and_captions_of_the_set_are_those_of_its_messages(file: Path) -> None:
    with locomo.load(file) as data:
        row = Message.objects.get(content__contains="island")
        assert (row.name, row.created_at.date().isoformat()) == ("Ben", "2023-05-08")
        assert row.content == "We sailed to the island yesterday. [a boat with red sails]"
        assert [len(question.evidence) for question in data.questions] == [1, 1, 2]
        assert report.summary(data, [locomo.ask(one, data.owner) for one in data.questions])["messages"] == 5


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"conversation": {}}]'])
def test_a_file_that_is_something_else_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(CommandError, match="is not a LoCoMo file"):
        evaluate("locomo", str(path))
    with pytest.raises(CommandError, match="is not a LoCoMo file"):
        evaluate("locomo", str(tmp_path / "missing.json"))
