"""What the frames of a streamed chat completion mean: its text, calls, usage and end, made safe to store."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from convo.errors import Truncated, UpstreamProtocolError
from convo.llm.ask import CallPart, Finish, Piece, Text, Usage
from convo.llm.failures import told_by

# PostgreSQL refuses both in text, and half of a surrogate pair can't be written as UTF-8 at all.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
REPLACEMENT = "\ufffd"
DONE = b"[DONE]"
# What a delta calls its words; servers differ about reasoning.
_WORDS = {
    "reasoning": ("reasoning_content", "reasoning"),
    "message": ("content",),
    "refusal": ("refusal",),
}


class Strand:
    """A text that arrives in parts, made storable; a surrogate pair cut between two parts is joined again."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, part: str) -> str:
        part, self._half = self._half + part, ""
        if not UNSTORABLE.search(part):
            return part
        if "\ud800" <= part[-1] <= "\udbff":
            part, self._half = part[:-1], part[-1]
        return storable(part)

    def end(self) -> str:
        """What stands for a half whose other half never came."""
        return REPLACEMENT if self._half else ""


def storable(text: str) -> str:
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\0", REPLACEMENT)


class Reading:
    """One reply while it is read: frame by frame in, piece by piece out, and `end()` tells how it ended."""

    def __init__(self, *, max_bytes: int) -> None:
        self.done = False
        self._max_bytes = max_bytes
        self._bytes = 0
        self._texts: defaultdict[str, Strand] = defaultdict(Strand)
        self._arguments: defaultdict[int, Strand] = defaultdict(Strand)
        self._usage: Usage | None = None
        self._finish: Finish | None = None

    def pieces(self, data: bytes) -> Iterator[Piece]:
        """What this frame adds to the reply; the usage and the finish are kept for the end."""
        if data == DONE:
            self.done = True
            return
        frame = _parsed(data)
        if usage := frame.get("usage"):
            self._usage = _usage(usage)
        for choice in frame.get("choices") or ():
            delta = choice.get("delta") or {}
            for kind, names in _WORDS.items():
                if text := next((delta[name] for name in names if delta.get(name)), None):
                    yield from self._say(text, kind)
            for position, call in enumerate(delta.get("tool_calls") or ()):
                yield self._call(call, call.get("index", position))
            if reason := choice.get("finish_reason"):
                self._finish = Finish(storable(reason))

    def end(self) -> Iterator[Piece]:
        """The last pieces of a reply that came to its end; one that did not is Truncated, `[DONE]` or not."""
        for kind, text in self._texts.items():
            if rest := text.end():
                yield Text(rest, kind)
        if self._finish is None:
            raise Truncated
        if self._usage:
            yield self._usage
        yield self._finish

    def _say(self, text: str, kind: str) -> Iterator[Text]:
        if text := self._texts[kind].add(text):
            self._weigh(text)
            yield Text(text, kind)

    def _call(self, call: dict[str, Any], index: int) -> CallPart:
        function = call.get("function") or {}
        arguments = self._arguments[index].add(function.get("arguments") or "")
        self._weigh(arguments)
        call_id, name = call.get("id") or "", function.get("name") or ""
        return CallPart(index, storable(call_id), storable(name), arguments)

    def _weigh(self, text: str) -> None:
        self._bytes += len(text.encode())
        if self._bytes > self._max_bytes:
            raise Truncated(
                "The model's answer grew longer than CONVO_MAX_REPLY_BYTES. What arrived is kept."
            )


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        frame = json.loads(data)
    except ValueError as error:
        raise UpstreamProtocolError("The model server sent a frame that is not JSON.") from error
    if not isinstance(frame, dict):
        raise UpstreamProtocolError("The model server sent a frame that is not a JSON object.")
    if failure := frame.get("error"):
        raise UpstreamProtocolError(f"The model server broke off its answer. {told_by(failure)}".strip())
    return frame


def _usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
    )
