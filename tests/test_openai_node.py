"""Node's clients on Convo: `openai`, and the AI SDK with its steps and its references to stored items."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.prompts import told
from tests.servers import ROOT, client_of
from tests.upstream import Upstream

# With one database is enough: they are about what other people's clients make of the answers.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

TOOLS_USED = [
    "user: Weather in Paris, then Rome?",
    'calls: call_0_Paris{"city": "Paris"}',
    "tool call_0_Paris: sunny in Paris",
    'calls: call_1_Rome{"city": "Rome"}',
    "tool call_1_Rome: sunny in Rome",
    "assistant: Heard: sunny in Rome",
]

Run = Callable[..., Any]
Case = Callable[..., Any]


@pytest.fixture
def run(node: str, node_clients: Path, share: Serve, upstream: Upstream, alice_key: str) -> Run:
    """Runs a case of a script in tests/node, and answers what came of it."""
    server = share(OPENAI_BASE_URL=upstream.url)

    def done(script: str, *case: str) -> Any:
        ran = subprocess.run(
            [node, "--input-type=module", "-", *case],
            input=(ROOT / "tests/node" / script).read_text(encoding="utf-8"),
            cwd=node_clients,
            env={"BASE_URL": f"{server.url}/v1", "KEY": alice_key},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    return done


@pytest.fixture
def openai(run: Run) -> Case:
    return partial(run, "openai.mjs")


@pytest.fixture
def ai(run: Run) -> Case:
    return partial(run, "ai.mjs")


def test_a_response_is_made_found_again_and_deleted(openai: Case, upstream: Upstream) -> None:
    assert openai("text") == {
        "text": "Heard: Hello.",
        "same": True,
        "asked": ["Hello."],
        "gone": ["NotFoundError", 404, "invalid_request_error", True],
    }
    assert told(upstream.last) == ["system: Be brief.", "user: Hello."]


def test_a_response_comes_as_the_events_of_the_grammar(openai: Case) -> None:
    assert openai("stream") == {
        "types": [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ],
        "text": "Heard: Hello.",
        "status": "completed",
        "tokens": 5,
    }


def test_calls_of_tools_arrive_in_pieces_and_whole(openai: Case) -> None:
    given = ['{"city": "Paris"}', '{"city": "Rome"}']
    assert openai("calls") == {"names": ["weather", "weather"], "pieces": given, "given": given}


def test_a_stream_goes_on_where_it_was_left(openai: Case) -> None:
    heard = openai("resume")
    numbers = heard["all"]["numbers"]
    assert numbers == list(range(len(numbers)))
    assert heard["all"]["text"] == "word1 word2 word3 word4 word5 "
    assert heard["live"] == heard["ended"]
    assert heard["live"]["numbers"] == numbers[heard["last"] + 1 :]


def test_a_background_response_can_be_cancelled(openai: Case) -> None:
    assert openai("cancel") == {"status": "cancelled", "after": "cancelled"}


def test_a_conversation_holds_all_that_was_said(openai: Case, upstream: Upstream) -> None:
    assert openai("conversation") == {
        "text": "Heard: Thanks.",
        "conversation": True,
        "items": ["message"] * 3 + ["function_call", "function_call_output"] * 2 + ["message"] * 3,
    }
    before = ["user: Before.", "assistant: Yes."]
    assert told(upstream.last) == [*before, *TOOLS_USED, "user: Thanks."]


def test_a_response_goes_on_from_another_and_branches(openai: Case, upstream: Upstream) -> None:
    assert openai("previous") == {
        "text": "Heard: Thanks.",
        "other": "Heard: Another end.",
        "conversation": None,
    }
    assert [told(heard) for heard in upstream.heard[-2:]] == [
        [*TOOLS_USED, "user: Thanks."],
        [*TOOLS_USED, "user: Another end."],
    ]


def test_what_was_answered_can_be_sent_again(openai: Case, upstream: Upstream) -> None:
    assert openai("replay") == {"text": "Heard: Thanks."}
    assert told(upstream.last) == [*TOOLS_USED, "user: Thanks."]


def test_chat_completions_are_answered_whole_and_streamed(openai: Case) -> None:
    assert openai("completions") == {"whole": "Heard: Hello.", "text": "Heard: Hello."}


def test_models_and_embeddings_are_there(openai: Case) -> None:
    found = openai("others")
    assert "agent/assistant" in found["models"]
    assert len(set(found["lengths"])) == 1
    assert found["lengths"][0] > 8


def test_a_refusal_is_the_error_that_the_client_knows(openai: Case) -> None:
    assert openai("refused") == [
        ["BadRequestError", 400, "previous_response_not_found", "previous_response_id"],
        ["NotFoundError", 404, None, "conversation"],
        ["BadRequestError", 400, "invalid_value", "input[0].role"],
        ["AuthenticationError", 401, "invalid_api_key", None],
    ]


@pytest.mark.parametrize("streamed", ["whole", "streamed"])
@pytest.mark.parametrize(
    ("way", "sent"),
    [
        ("references", ["user", *["function_call", "function_call_output"] * 2, "item_reference", "user"]),
        ("unstored", ["user", *["function_call", "function_call_output"] * 2, "assistant", "user"]),
        ("conversation", ["user"]),
        ("previous", ["user"]),
        ("completions", None),
    ],
)
def test_the_ai_sdk_has_the_model_told_everything_once_and_in_order(
    ai: Case, upstream: Upstream, way: str, sent: list[str] | None, streamed: str
) -> None:
    found = ai(way, streamed)
    assert found["texts"] == ["Heard: sunny in Rome", "Heard: Thanks."]
    assert found.get("kinds") == sent
    assert told(upstream.last) == [*TOOLS_USED, "user: Thanks."]


def test_only_what_is_there_already_counts_as_said_again(
    share: Serve, upstream: Upstream, alice_key: str
) -> None:
    question, more = ({"role": "user", "content": text} for text in ("Weather in Rome?", "And?"))
    output = {"type": "function_call_output", "call_id": "call_0_Rome", "output": "sunny"}
    with client_of(share(OPENAI_BASE_URL=upstream.url), alice_key) as client:

        def ask(conversation: str, *items: Any) -> int:
            body = {"model": "weather", "conversation": conversation, "input": items}
            return client.post("/v1/responses", json=body).status_code

        for said, kept in [([question], []), ([more], ["user: And?"]), ([question, more], [])]:
            conversation = client.post("/v1/conversations").json()["id"]
            assert ask(conversation, question) == 200
            assert ask(conversation, *said, output) == 200
            whole = [
                "user: Weather in Rome?",
                'calls: call_0_Rome{"city": "Rome"}',
                "tool call_0_Rome: sunny",
            ]
            extra = kept if len(said) == 1 else [f"user: {item['content']}" for item in said]
            assert told(upstream.last) == [*whole, *extra]
        assert ask(conversation, question, output) == 400


def test_the_ai_sdk_knows_a_refusal_and_a_reply_that_broke_off(ai: Case) -> None:
    assert ai("refused") == [404, False, "model_not_found"]
    assert ai("broken") == {"text": "one two ", "finishReason": "error", "failed": True}
