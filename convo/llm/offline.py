"""The responder that answers when no model is configured: out of what was said alone, and it says so."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any

from convo.conf import conf
from convo.llm.ask import Ask, Finish, Piece, Text, Usage
from convo.llm.fitting import asks, fitting, lists_things, shortened
from convo.tokens import count

MODEL = "offline"

NO_MODEL = (
    "No model is configured yet (set OPENAI_API_KEY or OPENAI_BASE_URL), "
    "so I can only look up what you told me."
)
STILL_NO_MODEL = "Still no model is configured, so this comes from what you told me alone."
NOTHING_YET = "I will remember this. Tell me more, or ask me about it in your next message."
# Said where a message shows something.
NO_EYES = "Without a model I can’t look at images or read files, so I go by your words alone."
NOTED = "I will remember this too. Ask me about anything you have told me."
THAT_FITS = "Here is what you told me that fits:"
PERHAPS = "If you mean what you told me before, that was:"


# What memory tells a model, quoted before the user's own words.
_BLOCK = re.compile(r"^\[([^\]\n]+)\] [^\n]*\n(.*?)^\[end of: \1\]\n*", re.MULTILINE | re.DOTALL)
# The text of a file, as memory tells it to models.
_FILE = re.compile(r'File "[^"\n]*":\n(`{3,})\n.*\n\1', re.DOTALL)
_REMEMBERED = re.compile(r"^(?:- |user: )(.+?)(?: \(since [\d-]+\))?$", re.MULTILINE)


async def reply(ask: Ask, opened: Callable[[], None]) -> AsyncGenerator[Piece, None]:
    """The answer word by word, at a pace at which it can be read along."""
    opened()
    text = answer(ask.messages)
    for word in re.findall(r"\S+\s*", text):
        yield Text(word)
        await asyncio.sleep(conf().offline_word_seconds)
    asked = sum(count(_text(message)) for message in ask.messages)
    yield Usage(input_tokens=asked, output_tokens=count(text), cached_tokens=0)
    yield Finish("stop")


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """What can honestly be said without a model: what the user said before that fits the last message."""
    said = [_BLOCK.sub("", _text(message)).strip() for message in messages if message["role"] == "user"]
    explained = any(message["role"] == "assistant" for message in messages)
    question = said[-1] if said else ""
    earlier = [text for text in dict.fromkeys([*_remembered(messages), *said]) if text and text != question]
    shows = [_shows(message) for message in messages if message["role"] == "user"]
    blind = [NO_EYES] if shows and shows[-1] else []
    return "\n".join([STILL_NO_MODEL if explained else NO_MODEL, *blind, *_found(question, earlier)])


def _remembered(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the user said in other conversations, or is known for, as far as memory tells it."""
    for message in messages:
        if message["role"] in {"system", "user"}:
            for block in _BLOCK.finditer(_text(message)):
                yield from _REMEMBERED.findall(block[2])


def _found(question: str, earlier: list[str]) -> list[str]:
    if not earlier:
        return [NOTHING_YET]
    if found := fitting(question, earlier):
        return [THAT_FITS, *_quoted(found, question)]
    if not asks(question):
        return [NOTED]
    listing = [text for text in earlier if lists_things(text)]
    return [PERHAPS, *_quoted((listing or earlier)[-2:], question)]


def _quoted(texts: Sequence[str], question: str) -> list[str]:
    return [f"“{shortened(text, question)}”" for text in texts]


def _text(message: Mapping[str, Any]) -> str:
    """The words of a message, whose content is a text or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(
        part["text"] for part in content if isinstance(part.get("text"), str) and not _is_file(part)
    )


def _shows(message: Mapping[str, Any]) -> bool:
    """Does this message show an image or a file?"""
    content = message.get("content")
    return isinstance(content, list) and any("text" not in part or _is_file(part) for part in content)


def _is_file(part: Mapping[str, Any]) -> bool:
    return _FILE.fullmatch(str(part.get("text"))) is not None
