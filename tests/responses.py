"""What the tests of /v1/responses share: the client that checks every answer, and short words for items."""

from collections.abc import Iterable
from typing import Any

from openai import OpenAI

from tests.servers import ROOT, Server
from tests.upstream import Upstream

AGENTS = {"CONVO_AGENTS_FILE": str(ROOT / "tests" / "agents.yaml")}
NOTHING = "resp_" + "0" * 32
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
ENDINGS = {"response.completed", "response.incomplete", "response.failed"}


def env_of(upstream: Upstream, **more: str) -> dict[str, str]:
    """The environment of a server whose models are this upstream's scenarios."""
    return {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "words-2", **AGENTS, **more}


def client(server: Server, key: str, **options: Any) -> OpenAI:
    """The client of this key; it refuses answers that are not what its types say, and tries nothing twice."""
    return OpenAI(
        base_url=f"{server.url}/v1",
        api_key=key,
        max_retries=0,
        timeout=30,
        _strict_response_validation=True,
        **options,
    )


def message(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


def output(call_id: str, told: Any) -> Any:
    return {"type": "function_call_output", "call_id": call_id, "output": told}


def named(item: str) -> Any:
    return {"type": "item_reference", "id": item}


def ask(openai: OpenAI, input: Any, *, model: str = "words-2", **fields: Any) -> Any:
    """A whole response."""
    return openai.responses.create(model=model, input=input, **fields)


def streaming(openai: OpenAI, input: Any, *, model: str = "hold", **fields: Any) -> Any:
    """A streamed one, to be read event by event."""
    return openai.responses.create(model=model, input=input, stream=True, **fields)


def events(openai: OpenAI, input: Any, *, model: str = "words-2", **fields: Any) -> list[Any]:
    """All events of a streamed one."""
    with streaming(openai, input, model=model, **fields) as stream:
        return list(stream)


def prompt(upstream: Upstream) -> list[str]:
    """What the model heard last, a line a message."""
    return [f"{row['role']}: {row['content']}" for row in upstream.last["messages"]]


def texts(items: Iterable[Any]) -> list[str]:
    """What these items say: a message its words, any other its type."""
    return [item.content[0].text if item.type == "message" else item.type for item in items]


def ids(items: Iterable[Any]) -> list[str]:
    return [item.id for item in items]


def inputs(openai: OpenAI, response: str) -> list[Any]:
    """The input of a response, oldest first."""
    return list(openai.responses.input_items.list(response, order="asc"))


def items_of(openai: OpenAI, conversation: str) -> list[Any]:
    """All that a conversation holds, oldest first."""
    return list(openai.conversations.items.list(conversation, order="asc"))
