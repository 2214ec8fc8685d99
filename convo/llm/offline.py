"""The responder without a model: it answers only from what the user said, and says so."""

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

from convo.conf import conf
from convo.llm.types import ChatMessage, Finish, ModelRequest, StreamEvent, TextDelta, Usage
from convo.llm.word_overlap import best_matches, is_question, lists_things, shorten
from convo.tokens import count

MODEL = "offline"

NO_MODEL = (
    "No model is configured yet (set OPENAI_API_KEY or OPENAI_BASE_URL), "
    "so I can only look up what you told me."
)
STILL_NO_MODEL = "Still no model is configured, so this comes from what you told me alone."
NOTHING_YET = "I will remember this. Tell me more, or ask me about it in your next message."
# This line answers a message with an image or a file.
CANNOT_READ_FILES = "Without a model I can’t look at images or read files, so I go by your words alone."
NOTED = "I will remember this too. Ask me about anything you have told me."
MATCHES_FOUND = "Here is what you told me that fits:"
PERHAPS = "If you mean what you told me before, that was:"


# Prompts quote memory in such blocks, before the user's own words.
_BLOCK_BEGINS = re.compile(r"^\[([^\]\n]+)\] [^\n]*\n", re.MULTILINE)
_BLOCK_ENDS = re.compile(r"^\[end of: ([^\]\n]+)\]\n*", re.MULTILINE)
# Prompts quote the text of a file like this.
_FILE = re.compile(r'File "[^"\n]*":\n(`{3,})\n.*\n\1', re.DOTALL)
_QUOTED_LINE = re.compile(r"^(?:- |user: )(.+?)(?: \(since [\d-]+\))?$", re.MULTILINE)


async def reply(ask: ModelRequest, opened: Callable[[], None]) -> AsyncGenerator[StreamEvent, None]:
    opened()
    text = answer(ask.messages)
    for word in re.findall(r"\S+\s*", text):
        yield TextDelta(word)
        await asyncio.sleep(conf().offline_word_seconds)
    input_tokens = sum(count(_text(message)) for message in ask.messages)
    yield Usage(input_tokens=input_tokens, output_tokens=count(text), cached_tokens=0)
    yield Finish("stop")


def answer(messages: Sequence[ChatMessage]) -> str:
    """Return an honest answer without a model: earlier words of the user that fit the last message."""
    user_texts = [
        _without_blocks(_text(message)).strip() for message in messages if message["role"] == "user"
    ]
    has_answered = any(message["role"] == "assistant" for message in messages)
    question = user_texts[-1] if user_texts else ""
    earlier = [
        text for text in dict.fromkeys([*_quoted_texts(messages), *user_texts]) if text and text != question
    ]
    have_files = [_has_file(message) for message in messages if message["role"] == "user"]
    notices = [CANNOT_READ_FILES] if have_files and have_files[-1] else []
    return "\n".join(
        [STILL_NO_MODEL if has_answered else NO_MODEL, *notices, *_quote_matches(question, earlier)]
    )


def _quoted_texts(messages: Sequence[ChatMessage]) -> Iterator[str]:
    """Yield the facts and the messages of other conversations that memory put into the prompt."""
    for message in messages:
        if message["role"] in {"system", "user"}:
            text = _text(message)
            for begin, end in _blocks(text):
                yield from _QUOTED_LINE.findall(text[begin.end() : end.start()])


def _without_blocks(text: str) -> str:
    pieces, position = [], 0
    for begin, end in _blocks(text):
        pieces.append(text[position : begin.start()])
        position = end.end()
    return "".join([*pieces, text[position:]])


def _blocks(text: str) -> Iterator[tuple[re.Match[str], re.Match[str]]]:
    """Find the beginning and the end of each block, in time linear in the length of the text."""
    ends: dict[str, deque[re.Match[str]]] = defaultdict(deque)
    for match in _BLOCK_ENDS.finditer(text):
        ends[match[1]].append(match)
    position = 0
    for begin in _BLOCK_BEGINS.finditer(text):
        candidates = ends[begin[1]]
        while candidates and candidates[0].start() < begin.end():
            candidates.popleft()
        if candidates and begin.start() >= position:
            position = candidates[0].end()
            yield begin, candidates[0]


def _quote_matches(question: str, earlier: list[str]) -> list[str]:
    if not earlier:
        return [NOTHING_YET]
    if matches := best_matches(question, earlier):
        return [MATCHES_FOUND, *_quote(matches, question)]
    if not is_question(question):
        return [NOTED]
    listing = [text for text in earlier if lists_things(text)]
    return [PERHAPS, *_quote((listing or earlier)[-2:], question)]


def _quote(texts: Sequence[str], question: str) -> list[str]:
    return [f"“{shorten(text, question)}”" for text in texts]


def _text(message: ChatMessage) -> str:
    content = message.get("content") or ""
    if not isinstance(content, list):
        return str(content)
    return " ".join(
        part["text"] for part in content if isinstance(part.get("text"), str) and not _is_file(part)
    )


def _has_file(message: ChatMessage) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any("text" not in part or _is_file(part) for part in content)


def _is_file(part: Mapping[str, object]) -> bool:
    return _FILE.fullmatch(str(part.get("text"))) is not None
