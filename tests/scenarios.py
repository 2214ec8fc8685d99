"""What the suite's OpenAI server can do, good and bad: one scenario per model name.

The scenario is the request's `model`; a trailing number, where shown, sets N. Any other model is an `echo`.

| model              | what the server does                                                              |
|--------------------|-----------------------------------------------------------------------------------|
| `echo`             | streams the prompt back, one line `role: content` per message                     |
| `parrot`           | streams the last message back, five characters at a time                          |
| `words`, `words-N` | streams N words (5), "word1 word2 …"                                              |
| `slow`, `slow-N`   | streams five words with N ms (50) before each                                     |
| `steady`, `steady-N` | the same of two hundred words, with N ms (20)                                   |
| `hold`             | "first second ", then, once `release()` was called, "last"                        |
| `held`             | "at last", once `release()` was called, and not a byte before                     |
| `first-byte-never` | takes the request and never answers                                               |
| `stall`            | two words, then nothing for ever                                                  |
| `429`, `429-N`     | status 429 with `Retry-After: 7`, or with `Retry-After-Ms: N` beside it           |
| `400` `401` `404` `500` `503` | that status, OpenAI's error body; 401 repeats the key, whole and masked  |
| `drop`             | two words, then resets the connection (RST)                                       |
| `silent-end`       | two words, then ends cleanly: no finish_reason, no [DONE]                         |
| `done-only`        | two words and [DONE], without finish_reason                                       |
| `html`             | status 200 with a web page                                                        |
| `malformed`        | two words, then a frame that is not JSON                                          |
| `error-in-stream`  | two words, then an `error` object                                                 |
| `endless`, `endless-N` | words until the reader leaves, with N ms (1) after each                       |
| `huge-chunk`       | 10 MB of text in one frame                                                        |
| `tool-call`        | two parallel calls, their arguments in pieces that alternate                      |
| `empty-choices`    | `choices: []` before and after two words                                          |
| `null-content`     | role only, null content, a change of role, then two words                         |
| `surrogates`       | NUL, a lone surrogate, a pair split over two frames, an emoji cut inside its bytes |
| `length`           | two words, finish_reason `length`                                                 |
| `content-filter`   | two words, finish_reason `content_filter`                                         |
| `reasoning`        | `reasoning_content` in two pieces, then two words                                 |
| `tool-cut`         | two words, a whole call, half the arguments of another, then a clean end          |
| `refusal`          | a refusal in place of content                                                     |
| `weather`          | calls `weather` for the cities in the last question, all at once or, over "then", one |
|                    | round after the other; then, and without cities at once, "Heard: LAST MESSAGE"    |
| `weather-same-id`  | the same, and names every call `call_0`                                          |
| `learner`          | what is asked of it in the background: notes on a turn, with a fact for each      |
|                    | "[fact SLOT: TEXT]" in it, or a summary; "[reply: …]" in the data: just that      |
| `learner-held`     | the same once `release()` was called                                              |
| `as-asked`         | what the last message, a JSON object, says: the text of a `stream`, byte for byte, |
|                    | or a `status`, `headers` and `body`                                               |
| `no-stream-options` | status 400 for a request with `stream_options`, else `words`                      |
| `summariser`       | another name for `learner`; `summariser-N` replies N words, `summariser-held`     |

Usage counts words: of all messages, and of the reply; half of the prompt's words, rounded down, are "cached".
"""

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

DONE = "data: [DONE]\n\n"


class Heard(dict[str, Any]):
    """One request's JSON body, with the path and the headers it came with, and the client's port."""

    path: str
    port: int
    headers: dict[str, str]


class Reply:
    """The words in which scenarios are told: one HTTP answer, mostly a streamed chat completion."""

    def __init__(self, heard: Heard, transport: asyncio.Transport, released: asyncio.Event) -> None:
        self.heard, self.transport, self.released = heard, transport, released
        self.name, self.number = str(heard.get("model", "")), 0
        base, _, number = self.name.rpartition("-")
        if base in SCENARIOS and number.isdigit():
            self.name, self.number = base, int(number)
        self.streaming, self.written = False, 0

    def head(self, status: int, content_type: str, **headers: str) -> None:
        lines = {"Content-Type": content_type, "Transfer-Encoding": "chunked", **headers}
        told = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.transport.write(f"HTTP/1.1 {status} -\r\n{told}\r\n".encode())

    def chunk(self, data: bytes) -> None:
        """One HTTP chunk; the empty one ends the answer."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def whole(self, body: Any, status: int = 200, **headers: str) -> None:
        self.head(status, "application/json", **headers)
        self.chunk(json.dumps(body).encode())

    def reset(self) -> None:
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def raw(self, data: bytes) -> None:
        if not self.streaming:
            self.head(200, "text/event-stream")
            self.streaming = True
        self.chunk(data)

    def frame(self, **fields: Any) -> None:
        whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.name}
        self.raw(b"data: %b\n\n" % json.dumps({**whole, **fields}, ensure_ascii=False).encode())

    def delta(self, finish_reason: str | None = None, **delta: Any) -> None:
        self.frame(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    def say(self, *texts: str) -> None:
        for text in texts:
            self.written += len(text.split())
            self.delta(content=text)

    def end(self, reason: str = "stop") -> None:
        self.delta(finish_reason=reason)
        if (self.heard.get("stream_options") or {}).get("include_usage"):
            self.frame(choices=[], usage=usage(self.heard, self.written))
        self.raw(b"data: [DONE]\n\n")


def prompt_lines(heard: Heard) -> list[str]:
    return [f"{message['role']}: {text_of(message)}" for message in heard.get("messages", [])]


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or message.get("tool_calls") or ""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def some_words(count: int) -> list[str]:
    return [f"word{number} " for number in range(1, (count or 5) + 1)]


def usage(heard: Heard, written: int) -> dict[str, Any]:
    asked = sum(len(text_of(message).split()) for message in heard.get("messages", []))
    counts = {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}
    return {**counts, "prompt_tokens_details": {"cached_tokens": asked // 2}}


async def unstreamed(reply: Reply) -> None:
    """Without `stream: true`: the whole text at once, the words of `words-N` or else the echo."""
    words_wanted = some_words(reply.number) if reply.name == "words" else None
    text = "".join(words_wanted or [line + "\n" for line in prompt_lines(reply.heard)])
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    fields = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": reply.name}
    spent = usage(reply.heard, len(text.split()))
    reply.whole({**fields, "choices": [choice], "usage": spent})


async def echo(reply: Reply) -> None:
    reply.say(*(line + "\n" for line in prompt_lines(reply.heard)))
    reply.end()


async def parrot(reply: Reply) -> None:
    text = text_of(reply.heard["messages"][-1])
    reply.say(*(text[start : start + 5] for start in range(0, len(text), 5)))
    reply.end()


async def words(reply: Reply) -> None:
    reply.delta(role="assistant", content="")
    reply.say(*some_words(reply.number))
    reply.end()


async def slow(reply: Reply) -> None:
    for word in some_words(5):
        await asyncio.sleep((reply.number or 50) / 1000)
        reply.say(word)
    reply.end()


async def steady(reply: Reply) -> None:
    for word in some_words(200):
        await asyncio.sleep((reply.number or 20) / 1000)
        reply.say(word)
    reply.end()


async def hold(reply: Reply) -> None:
    reply.say("first ", "second ")
    await reply.released.wait()
    reply.say("last")
    reply.end()


async def held(reply: Reply) -> None:
    await reply.released.wait()
    reply.say("at last")
    reply.end()


async def first_byte_never(reply: Reply) -> None:
    await asyncio.Event().wait()


async def stall(reply: Reply) -> None:
    reply.say("one ", "two ")
    await asyncio.Event().wait()


async def refuse(reply: Reply) -> None:
    key = reply.heard.headers.get("authorization", "").removeprefix("Bearer ")
    told = f"Incorrect API key provided: {key}, or sk-al***ey." if reply.name == "401" else "No."
    error = {"message": f"Scenario {reply.name}: {told}", "type": "test_error", "param": None, "code": None}
    headers = {"Retry-After": "7"} if reply.name == "429" else {}
    if reply.number:
        headers["Retry-After-Ms"] = str(reply.number)
    reply.whole({"error": error}, status=int(reply.name), **headers)


async def drop(reply: Reply) -> None:
    reply.say("one ", "two ")
    await asyncio.sleep(0.05)  # an RST overtakes what the reader has not read yet
    reply.reset()


async def break_off(reply: Reply) -> None:
    reply.say("one ", "two ")
    if last := LAST_FRAMES[reply.name]:
        reply.raw(last)


async def html(reply: Reply) -> None:
    reply.head(200, "text/html; charset=utf-8")
    reply.chunk(b"<!doctype html><title>Welcome</title>")


async def endless(reply: Reply) -> None:
    while True:
        reply.say("again ")
        await asyncio.sleep((reply.number or 1) / 1000)


async def endless_error(reply: Reply) -> None:
    reply.head(500, "application/json")
    while True:
        reply.chunk(b"again " * 2000)
        await asyncio.sleep(0.01)


async def huge_chunk(reply: Reply) -> None:
    reply.say("x" * 10_000_000)
    reply.end()


async def tool_call(reply: Reply) -> None:
    for index, call_id in enumerate(["call_paris", "call_rome"]):
        first = {"index": index, "id": call_id, "type": "function"}
        reply.delta(tool_calls=[{**first, "function": {"name": "weather", "arguments": ""}}])
    for pair in (['{"ci', '{"ci'], ['ty": "Par', 'ty": "Ro'], ['is"}', 'me"}']):
        for index, piece in enumerate(pair):
            reply.delta(tool_calls=[{"index": index, "function": {"arguments": piece}}])
    reply.end("tool_calls")


async def weather(reply: Reply) -> None:
    messages = reply.heard["messages"]
    asked = max(at for at, message in enumerate(messages) if message["role"] == "user")
    rounds = [re.findall("Paris|Rome|Oslo", part) for part in text_of(messages[asked]).split("then")]
    cities = next(islice(filter(None, rounds), sum("tool_calls" in m for m in messages[asked:]), None), [])
    before = sum(message["role"] == "tool" for message in messages)
    for index, city in enumerate(cities):
        call_id = "call_0" if reply.name == "weather-same-id" else f"call_{before + index}_{city}"
        call = {"index": index, "id": call_id, "type": "function"}
        reply.delta(tool_calls=[{**call, "function": {"name": "weather", "arguments": '{"city": "'}}])
        reply.delta(tool_calls=[{"index": index, "function": {"arguments": f'{city}"}}'}}])
    if not cities:
        reply.say("Heard: ", text_of(messages[-1]))
    reply.end("tool_calls" if cities else "stop")


async def empty_choices(reply: Reply) -> None:
    reply.frame(choices=[])
    reply.say("one ", "two ")
    reply.frame(choices=[])
    reply.end()


async def null_content(reply: Reply) -> None:
    reply.delta(role="assistant")
    reply.delta(content=None, tool_calls=None)
    reply.delta(role="tool", content="")
    reply.say("one ", "two ")
    reply.end()


async def surrogates(reply: Reply) -> None:
    shell = b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}, "finish_reason": null}]}\r\n\r\n'
    for escaped in (rb"nul\u0000", rb"lone\ud83d", rb"!", rb"pair\ud83d", rb"\ude00", rb"low\ude00"):
        reply.raw(shell % escaped)
    family = shell % "👩‍👩‍👧 家".encode()
    for start in range(0, len(family), 3):
        reply.raw(family[start : start + 3])
        await asyncio.sleep(0.001)
    reply.end()


async def length(reply: Reply) -> None:
    reply.say("one ", "two ")
    reply.end("length")


async def content_filter(reply: Reply) -> None:
    reply.say("one ", "two ")
    reply.end("content_filter")


async def reasoning(reply: Reply) -> None:
    reply.delta(role="assistant", content=None, reasoning_content="They say ")
    reply.delta(reasoning_content="hello.")
    reply.say("one ", "two ")
    reply.end()


async def tool_cut(reply: Reply) -> None:
    reply.say("one ", "two ")
    for index, arguments in enumerate(['{"city": "Paris"}', '{"ci']):
        call = {"index": index, "id": f"call_{index}", "type": "function"}
        reply.delta(tool_calls=[{**call, "function": {"name": "weather", "arguments": arguments}}])


async def refusal(reply: Reply) -> None:
    reply.delta(refusal="I can't ")
    reply.delta(refusal="help with that.")
    reply.end()


async def as_asked(reply: Reply) -> None:
    order = json.loads(text_of(reply.heard["messages"][-1]))
    if "stream" in order:
        return reply.raw(order["stream"].encode())
    return reply.whole(order["body"], status=order["status"], **order.get("headers", {}))


async def no_stream_options(reply: Reply) -> None:
    if "stream_options" not in reply.heard:
        return await words(reply)
    error = {"message": "Extra inputs are not permitted, field: 'stream_options'", "code": None}
    return reply.whole({"error": error}, status=400)


def frame_of(**fields: Any) -> str:
    """A frame for the `stream` of `as-asked`, with one choice of these fields."""
    return f"data: {json.dumps({'choices': [fields]})}\n\n"


def ending_in(word: str) -> str:
    """An order for `as-asked`: two words, and this finish word."""
    said = [frame_of(delta={"content": text}) for text in ("one ", "two ")]
    return sending(*said, frame_of(delta={}, finish_reason=word), DONE)


def sending(*parts: str) -> str:
    """An order for `as-asked`: these parts, one after the other, as the whole stream."""
    return json.dumps({"stream": "".join(parts)})


def refusing(status: int, body: Any, **headers: str) -> str:
    """An order for `as-asked`: this answer in place of a reply."""
    return json.dumps({"status": status, "body": body, "headers": headers})


def data_of(reply: Reply) -> list[dict[str, Any]]:
    """The objects that stand, a line each, in the last message."""
    return [json.loads(line) for line in text_of(reply.heard["messages"][-1]).splitlines()]


def as_told(data: list[dict[str, Any]]) -> str | None:
    """What a message wants the whole reply to be: `[reply: …]`."""
    told = (re.search(r"\[reply: (.*?)\]$", row.get("text", ""), re.DOTALL) for row in data)
    return next((match[1] for match in told if match), None)


async def background(reply: Reply) -> None:
    data = data_of(reply)
    text = as_told(data)
    if text is None:
        text = notes(data) if "id" in data[0] else summary(data)
    if reply.name.endswith("-held"):
        await reply.released.wait()
    reply.say("word " * reply.number or text or "\n")
    reply.end()


def notes(data: list[dict[str, Any]]) -> str:
    facts = [
        {
            "kind": "identity",
            "slot": match[1] or None,
            "text": match[2],
            "evidence": [row["id"]],
            "confidence": 0.9,
        }
        for row in data
        for match in re.finditer(r"\[fact ?(\w*): (.*?)\]", row["text"])
    ]
    first = data[0]["text"].partition("[")[0].strip()
    return json.dumps({"gist": f"Says: {first}", "title": f"About {first}", "facts": facts})


def summary(data: list[dict[str, Any]]) -> str:
    earlier = "".join(row["earlier_summary"] + " " for row in data if "earlier_summary" in row)
    places = [row["position"] for row in data if "position" in row]
    return f"{earlier}They spoke from {places[0]} to {places[-1]}."


LAST_FRAMES = {
    "silent-end": b"",
    "done-only": b"data: [DONE]\n\n",
    "malformed": b'data: {"choices": [{"delta": \n\n',
    "error-in-stream": b'data: {"error": {"message": "The engine overheated.", "type": "server_error"}}\n\n',
}
NAMED = [echo, words, slow, steady, hold, first_byte_never, stall, drop, html, endless, huge_chunk, tool_call]
NAMED += [endless_error]
NAMED += [empty_choices, null_content, surrogates, length, refusal, content_filter, reasoning, tool_cut]
NAMED += [weather, held, parrot, as_asked, no_stream_options]
SCENARIOS: dict[str, Callable[[Reply], Awaitable[None]]] = {
    **{scenario.__name__.replace("_", "-"): scenario for scenario in NAMED},
    **dict.fromkeys(LAST_FRAMES, break_off),
    "weather-same-id": weather,
    **dict.fromkeys(["learner", "learner-held", "summariser", "summariser-held"], background),
    **dict.fromkeys(["400", "401", "404", "429", "500", "503"], refuse),
}


async def answer(reply: Reply) -> None:
    streamed = reply.heard.get("stream") or reply.name.isdigit()
    await (SCENARIOS.get(reply.name, echo) if streamed else unstreamed)(reply)
