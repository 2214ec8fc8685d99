"""agents.yaml: what it may say, and how it is told what it says wrong."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from convo import agents
from convo.errors import UnknownAgent
from tests.conftest import Serve

pytestmark = pytest.mark.once

GOOD = """
default: writer
defaults: {window_pairs: 4}
agents:
  writer: {instructions: Write., model: gpt-6-luna}
  editor: {instructions: Edit., window_pairs: 2, display_name: The editor}
"""


def test_an_agent_says_only_what_is_its_own() -> None:
    found = agents.parse(GOOD)
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
        agents.parse(wrong)


def test_a_file_that_is_not_there_is_told_by_its_setting(settings: Settings) -> None:
    assert agents.check_agents() == []
    settings.CONVO = {**settings.CONVO, "AGENTS_FILE": "/nowhere/agents.yaml"}
    (error,) = agents.check_agents()
    assert "CONVO_AGENTS_FILE=/nowhere/agents.yaml" in error.msg


def test_without_a_file_there_is_one_agent(settings: Settings) -> None:
    settings.CONVO = {**settings.CONVO, "AGENTS_FILE": ""}
    assert list(agents.all_agents()) == ["assistant"] == [agents.default_name()]


def test_an_unknown_agent_is_told_with_those_that_exist() -> None:
    assert agents.get(agents.default_name()).name == "assistant"
    with pytest.raises(UnknownAgent, match=r"'nobody'.*assistant"):
        agents.get("nobody")


def test_the_version_changes_with_the_instructions() -> None:
    before, after = agents.parse(GOOD), agents.parse(GOOD.replace("Edit.", "Edit well."))
    assert before.agents["editor"].version != after.agents["editor"].version
    assert before.agents["writer"].version == after.agents["writer"].version


def warnings(settings: Settings, **conf: str) -> list[str]:
    settings.CONVO = {**settings.CONVO, **conf}
    return [warning.msg for warning in agents.check_models()]


def test_a_model_that_openai_retires_is_warned_of_with_its_day_and_what_takes_its_place(
    settings: Settings, tmp_path: Path
) -> None:
    """Review 23"""
    openai = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "", "MODEL": "gpt-5-mini"}
    told = "CONVO_MODEL=gpt-5-mini: OpenAI removes this model from its API on 2026-12-11. Use gpt-6.1-terra."
    assert warnings(settings, **openai) == [told]
    assert warnings(settings, OPENAI_BASE_URL="https://api.openai.com/v1") == [told]
    (background,) = warnings(settings, MODEL="", BACKGROUND_MODEL="gpt-4o-2024-08-06")
    assert background.startswith("CONVO_BACKGROUND_MODEL=gpt-4o-2024-08-06: ")
    assert background.endswith("on 2027-01-14. Use gpt-6-luna.")
    file = tmp_path / "agents.yaml"
    file.write_text(GOOD.replace("model: gpt-6-luna", "model: o3"))
    (agent,) = warnings(settings, AGENTS_FILE=str(file), BACKGROUND_MODEL="offline")
    assert agent.startswith("agents.writer.model=o3: ")
    # Our default is none of them; a file that can't be read is another check's; others may keep a model.
    assert warnings(settings, AGENTS_FILE="/nowhere/agents.yaml") == []
    assert warnings(settings, MODEL="gpt-5-mini", OPENAI_BASE_URL="http://127.0.0.1:1/v1") == []
    assert warnings(settings, OPENAI_API_KEY="", OPENAI_BASE_URL="") == []


@pytest.mark.parametrize(("model", "is_told"), [("gpt-5-mini", True), ("gpt-6-luna", False)])
def test_the_start_of_the_server_says_that_a_model_is_retired(
    serve: Serve, model: str, is_told: bool
) -> None:
    log = serve(OPENAI_API_KEY="k", CONVO_MODEL=model).log()
    assert ("OpenAI removes this model from its API on 2026-12-11" in log) == is_told
