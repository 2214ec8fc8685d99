"""Read the frames of a streamed chat completion: its text, tool calls, usage and end, safe to store."""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from convo.errors import ReplyTruncated, UpstreamProtocolError
from convo.llm.failures import error_for_frame, error_object
from convo.llm.types import Finish, StreamEvent, TextDelta, ToolCallDelta, Usage

STOP, LENGTH, CONTENT_FILTER, TOOL_CALLS = "stop", "length", "content_filter", "tool_calls"
# The server itself stopped in the middle of the reply.
INTERRUPTED = "broken_off"

# These are the words of OpenAI, Ollama, vLLM and SGLang, TGI, Mistral, Gemini, Anthropic, Cohere, Bedrock,
# DeepSeek and OpenRouter.
_WORDS = {
    STOP: "stop eos eos_token stop_sequence end_turn complete completed load unload",
    LENGTH: """
        length max_tokens max_length max_output_tokens model_length model_context_window_exceeded error_limit
    """,
    CONTENT_FILTER: """
        content_filter content_filtered safety recitation language blocklist prohibited_content spii
        image_safety image_prohibited_content image_recitation model_armor refusal error_toxic
        guardrail_intervened
    """,
    TOOL_CALLS: "tool_calls tool_call tool_use function_call",
    INTERRUPTED: """
        error abort aborted cancelled user_cancel timeout time_limit repetition insufficient_system_resource
        function_call_filter malformed_function_call malformed_response malformed_tool_use
        malformed_model_output unexpected_tool_call too_many_tool_calls missing_thought_signature
    """,
}
_REASONS = {word: reason for reason, words in _WORDS.items() for word in words.split()}


logger = logging.getLogger(__name__)

MAX_FINISH_WORD_LENGTH = 50
MAX_TOKENS = 2**31 - 1
# PostgreSQL refuses NUL and half surrogate pairs in text, and the latter can't even be encoded as UTF-8.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
REPLACEMENT = "\ufffd"
DONE = b"[DONE]"
EMPTY_REPLY = (
    "The model server's reply has no text and no tool call that can be read. Ask again; if it happens again, "
    "check OPENAI_BASE_URL and the model's name."
)
# These fields of a delta hold text; servers differ about reasoning.
_TEXT_FIELDS = {
    "reasoning": ("reasoning_content", "reasoning"),
    "message": ("content",),
    "refusal": ("refusal",),
}


def reason_of(word: str) -> str | None:
    """Return the reason behind a server's finish word, or None for a word that is not in the table.

    Gemini's OpenAI-compatible endpoint adds its own word, as in "content_filter: RECITATION".
    """
    name = word.partition(":")[0].strip().casefold().replace("-", "_").removeprefix("finish_reason_")
    return _REASONS.get(name)


class StorableText:
    """A text that arrives in parts, made storable; a surrogate pair cut between two parts is joined again."""

    def __init__(self) -> None:
        self._pending_half = ""

    def add(self, part: str) -> str:
        part, self._pending_half = self._pending_half + part, ""
        if not UNSTORABLE.search(part):
            return part
        if "\ud800" <= part[-1] <= "\udbff":
            part, self._pending_half = part[:-1], part[-1]
        return storable(part)

    def end(self) -> str:
        """Return the replacement for a half surrogate pair whose other half never came."""
        return REPLACEMENT if self._pending_half else ""


def storable(text: str) -> str:
    valid_text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return valid_text.replace("\0", REPLACEMENT)


class ReplyParser:
    """One reply while it is read: frames go in, stream events come out, and `finish` yields its end."""

    def __init__(self, *, max_bytes: int) -> None:
        self.is_done = False
        self._max_bytes = max_bytes
        self._size = 0
        self._texts: defaultdict[str, StorableText] = defaultdict(StorableText)
        self._arguments: defaultdict[int, StorableText] = defaultdict(StorableText)
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._has_choices = False
        self._is_in_deltas = False
        self._is_empty = True

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Return what this frame adds to the reply; the usage and the finish are held back for `finish`."""
        if data == DONE:
            self.is_done = True
            return []
        frame, events = _parse(data), list[StreamEvent]()
        if usage := frame.get("usage"):
            self._usage = _read_usage(usage)
        for choice in frame.get("choices") or ():
            self._has_choices = True
            choice_events = self._read_choice(choice)
            if choice_events and choice.get("delta"):
                self._is_in_deltas = True
            if self._is_empty:
                self._is_empty = all(map(_is_reasoning, choice_events))
            events += choice_events
            if word := choice.get("finish_reason"):
                self._finish = _read_finish(storable(word))
        return events

    def feed_last(self, data: bytes) -> list[StreamEvent]:
        """Return what the last, unterminated frame adds; one that was cut in its middle adds nothing."""
        if self.is_done or not (data == DONE or is_json(data)):
            return []
        return self.feed(data)

    def finish(self) -> Iterator[StreamEvent]:
        """Yield the last events of a complete reply.

        A reply that broke off raises ReplyTruncated. One without text and tool calls raises
        UpstreamProtocolError, as nobody could tell it from an answer. `[DONE]` without a finish word ends a
        complete reply.
        """
        for kind, text in self._texts.items():
            if replacement := text.end():
                yield TextDelta(replacement, kind)
        if self._usage:
            yield self._usage
        finish = self._finish or Finish(STOP if self.is_done else INTERRUPTED)
        if self._is_empty and (finish.reason in (STOP, TOOL_CALLS) or not self._has_choices):
            raise UpstreamProtocolError(EMPTY_REPLY)
        if finish.reason == INTERRUPTED:
            raise ReplyTruncated
        yield finish

    def _read_choice(self, choice: dict[str, Any]) -> list[TextDelta | ToolCallDelta]:
        delta = choice.get("delta") or {}
        if not (delta or self._is_in_deltas):
            # Some servers stream the whole message at once, or speak the older completions API. After deltas
            # the message would only repeat them.
            delta = choice.get("message") or {"content": choice.get("text")}
        if (function_call := delta.get("function_call")) and any(function_call.values()):
            raise UpstreamProtocolError(
                "The model server answered with `function_call`, which OpenAI has replaced by `tool_calls`. "
                "Use a model server that sends `tool_calls`."
            )
        events: list[TextDelta | ToolCallDelta] = []
        for kind, names in _TEXT_FIELDS.items():
            for name in names:
                if content := delta.get(name):
                    events += self._read_content(content, kind)
                    break
        for position, call in enumerate(delta.get("tool_calls") or ()):
            index = call.get("index")
            events.append(self._read_call(call, position if index is None else index))
        return events

    def _read_content(self, content: object, kind: str) -> Iterator[TextDelta]:
        # Almost every frame has one plain text.
        texts = ((content, kind),) if isinstance(content, str) else _texts(content, kind)
        for text, kind_of_text in texts:
            if storable_text := self._texts[kind_of_text].add(text):
                self._count_bytes(storable_text)
                yield TextDelta(storable_text, kind_of_text)

    def _read_call(self, call: dict[str, Any], index: int) -> ToolCallDelta:
        function = call.get("function") or {}
        raw = function.get("arguments") or ""
        # Mistral and Ollama may send the arguments as an object.
        json_text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
        arguments = self._arguments[index].add(json_text)
        self._count_bytes(arguments)
        call_id, name = call.get("id") or "", function.get("name") or ""
        return ToolCallDelta(index, storable(call_id), storable(name), arguments)

    def _count_bytes(self, text: str) -> None:
        self._size += len(text.encode())
        if self._size > self._max_bytes:
            raise ReplyTruncated(
                "The model's answer grew longer than CONVO_MAX_REPLY_BYTES. What arrived is kept."
            )


def _is_reasoning(event: StreamEvent) -> bool:
    return isinstance(event, TextDelta) and event.kind == "reasoning"


def _parse(data: bytes) -> dict[str, Any]:
    try:
        # Left to find the encoding by itself, `json` takes a fifth longer.
        frame = json.loads(data.decode(errors="surrogatepass"))
    except ValueError as error:
        raise UpstreamProtocolError("The model server sent a frame that is not JSON.") from error
    if isinstance(frame, list) or (isinstance(frame, dict) and frame.get("error")):
        raise error_for_frame(error_object(frame))
    if not isinstance(frame, dict):
        raise UpstreamProtocolError("The model server sent a frame that is not a JSON object.")
    return frame


def is_json(text: str | bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _texts(content: object, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a message's content, each with its kind; Mistral may send a list of parts."""
    match content:
        case str():
            yield content, kind
        case list():
            for part in content:
                yield from _texts(part, kind)
        case {"type": "text", "text": str(text)}:
            yield text, kind
        case {"type": "thinking", "thinking": thinking}:
            yield from _texts(thinking, "reasoning")
        case {"type": "reference"}:
            pass  # the numbers of Mistral's sources, between two texts
        case _:
            raise UpstreamProtocolError("The model server's reply has a part that cannot be read.")


def _read_finish(word: str) -> Finish:
    if reason := reason_of(word):
        return Finish(reason)
    # If this reply counted as broken, background work would pay for it again and again.
    logger.warning(
        "a reply ended with the unknown finish word %r and counts as complete", word[:MAX_FINISH_WORD_LENGTH]
    )
    return Finish(STOP, unknown_word=word[:MAX_FINISH_WORD_LENGTH])


def _read_usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=_token_count(usage.get("prompt_tokens")),
        output_tokens=_token_count(usage.get("completion_tokens")),
        cached_tokens=_token_count(details.get("cached_tokens")),
    )


def _token_count(tokens: object) -> int:
    """Return a number of tokens that fits its column; anything but a positive number counts as zero."""
    return min(tokens, MAX_TOKENS) if isinstance(tokens, int) and tokens > 0 else 0
