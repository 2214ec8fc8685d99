"""agents.yaml: what it may say, and how it is told what it says wrong."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from convo import agents
from convo.errors import UnknownAgent

pytestmark = pytest.mark.once

GOOD = """
default: writer
defaults: {window_pairs: 4}
agents:
  writer: {instructions: Write., model: gpt-5-mini}
  editor: {instructions: Edit., window_pairs: 2, display_name: The editor}
"""


def test_an_agent_says_only_what_is_its_own() -> None:
    found = agents.read(GOOD)
    assert found.default == "writer"
    assert (found.agents["writer"].window_pairs, found.agents["editor"].window_pairs) == (4, 2)
    assert found.agents["editor"].title == "The editor"
    assert found.agents["writer"].title == "writer"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (GOOD.replace("default: writer", "default: nobody"), "'nobody' is none of the agents"),
        (GOOD.replace("window_pairs: 2", "window_pairs: many"), "agents.editor.window_pairs"),
        (GOOD.replace("window_pairs: 2", "window_pears: 2"), "agents.editor.window_pears"),
        (GOOD.replace("window_pairs: 2", "temperature: 9"), "agents.editor.temperature"),
        (GOOD.replace("writer: {inst", "wri ter: {inst"), "agents.wri ter.name"),
        (
            GOOD.replace("window_pairs: 2", "context_tokens: 50, window_pairs: 2").replace(
                "Edit.", "Edit. " * 60
            ),
            "room",
        ),
        ("agents: [", "not valid YAML"),
        ("just words", "mapping"),
        ("a: &x 1\nb: *x", "aliases"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(wrong: str, told: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=told):
        agents.read(wrong)


def test_a_file_that_is_not_there_is_told_by_its_setting(settings: Settings) -> None:
    assert agents.check() == []
    settings.CONVO = {**settings.CONVO, "AGENTS_FILE": "/nowhere/agents.yaml"}
    (error,) = agents.check()
    assert "CONVO_AGENTS_FILE=/nowhere/agents.yaml" in error.msg


def test_without_a_file_there_is_one_agent(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "AGENTS_FILE": ""}
    assert list(agents.everyone()) == ["assistant"] == [agents.default_name()]


def test_an_unknown_agent_is_told_with_those_that_exist() -> None:
    assert agents.get(agents.default_name()).name == "assistant"
    with pytest.raises(UnknownAgent, match=r"'nobody'.*assistant"):
        agents.get("nobody")


def test_the_version_changes_with_the_instructions() -> None:
    before, after = agents.read(GOOD), agents.read(GOOD.replace("Edit.", "Edit well."))
    assert before.agents["editor"].version != after.agents["editor"].version
    assert before.agents["writer"].version == after.agents["writer"].version
