"""A response's events and its final object, by the judges that clients bring along: the strict models of the
installed `openai` package, and the state machine behind its `responses.stream()`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai._streaming import SSEDecoder
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

from convo.errors import class_by_code
from convo.events import Delta
from convo.events.follow import deltas_of
from convo.history import NewMessage
from convo.models import Message, ReplyItem, Turn, TurnRequest, rebuild_items, reply_item_id
from convo.openai_api.responses.serialize import response_json
from convo.openai_api.responses.stream_events import Event, ResponseEvents, encode_event, events_after

pytestmark = pytest.mark.once

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
KEY = UUID("0123456789abcdef0123456789abcdef")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PARAMS: dict[str, Any] = {"model": "qwen/qwen3-8b", "metadata": {"topic": "tea", "a": "b"}}

Reply = list[ReplyItem]


def said(*parts: str, kind: str = ReplyItem.MESSAGE) -> ReplyItem:
    return ReplyItem(kind, chunks=list(parts))


def called(name: str, *parts: str) -> ReplyItem:
    return ReplyItem(ReplyItem.CALL, f"call_{name}", name, list(parts))


def turn_of(status: str = "complete", code: str = "") -> Turn:
    error = {"code": code, "message": "It broke."} if code else None
    begun = Turn(key=KEY, status=status, model="qwen/qwen3-8b", created_at=NOON, error=error)
    if begun.has_ended:
        begun.finished_at = NOON.replace(second=2)
        begun.input_tokens, begun.output_tokens, begun.cached_tokens = 24, 5, 4
    return begun


def rows_of(turn: Turn, kept: Reply) -> list[Message]:
    """The rows that history writes of this reply."""
    return [NewMessage.from_reply(turn, strand).row(turn=turn) for strand in placed(kept)]


def placed(reply: Iterable[ReplyItem]) -> Reply:
    """These items, each with the number that it has in its reply."""
    return [replace(strand, index=index) for index, strand in enumerate(reply)]


def asked_of(params: dict[str, Any] = PARAMS, *, background: bool = False) -> TurnRequest:
    return TurnRequest(params=params, metadata=params.get("metadata", {}), background=background)


def final(
    status: str = "complete", code: str = "", kept: Sequence[ReplyItem] = (), asked: TurnRequest | None = None
) -> dict[str, Any]:
    turn = turn_of(status, code)
    return response_json(turn, asked or asked_of(), rows_of(turn, list(kept)), conversation=None)


def stream(
    reply: Reply,
    status: str = "complete",
    code: str = "",
    *,
    kept: Reply | None = None,
    background: bool = False,
    params: dict[str, Any] = PARAMS,
) -> list[Event]:
    """The events of this reply, from the turn's begin to its end."""
    asked = asked_of(params, background=background)
    grammar = ResponseEvents(KEY, response_json(turn_of("running"), asked, [], conversation=None))
    events = grammar.begin()
    for delta in deltas_of(placed(reply)):
        events += grammar.add_delta(delta)
    return events + grammar.end(final(status, code, reply if kept is None else kept, asked))


def types(events: Sequence[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def of_type(events: Sequence[Event], name: str) -> list[Event]:
    return [event for event in events if event["type"] == f"response.{name}"]


def judge(events: Sequence[Event]) -> ResponseStreamState[Any]:
    """Let the strict models and the helper's state machine read the stream: each raises at what it minds."""
    state: ResponseStreamState[Any] = ResponseStreamState(text_format=omit, input_tools=omit)
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        read = EVENT.validate_python(event, strict=True)
        assert not read.model_extra, "a field that the event doesn't have"
        state.handle_event(read)
    return state


WORDS = said("Tea", " for ", "two.")
CALLS = [called("tea", "", '{"cups"', ":2}"), called("milk", "{}"), called("sugar", '{"n": "zwölf 🍬"}')]
THOUGHT = said("They want", " tea.", kind=ReplyItem.REASONING)
NO = said("I can't", " help with that.", kind=ReplyItem.REFUSAL)

BEGIN = ["created", "in_progress"]
TEXT = ["output_item.added", "content_part.added", *["output_text.delta"] * 3]
TEXT_DONE = ["output_text.done", "content_part.done", "output_item.done"]
CALL_DONE = ["function_call_arguments.done", "output_item.done"]
CALL = ["output_item.added", "function_call_arguments.delta", *CALL_DONE]
THINKING = ["output_item.added", "content_part.added", *["reasoning_text.delta"] * 2]
THINKING += ["reasoning_text.done", "content_part.done", "output_item.done"]
REFUSING = ["output_item.added", "content_part.added", *["refusal.delta"] * 2]
REFUSING += ["refusal.done", "content_part.done", "output_item.done"]

# What happened, and what is told of it.
STORIES: dict[str, tuple[list[Event], list[str]]] = {
    "text": (stream([WORDS]), [*BEGIN, *TEXT, *TEXT_DONE, "completed"]),
    "several calls": (
        stream(CALLS),
        [*BEGIN, CALL[0], CALL[1], *CALL[1:], *CALL, *CALL, "completed"],
    ),
    "text, then calls": (
        stream([WORDS, CALLS[1], CALLS[2]]),
        [*BEGIN, *TEXT, *TEXT_DONE, *CALL, *CALL, "completed"],
    ),
    "reasoning, then text": (
        stream([THOUGHT, WORDS]),
        [*BEGIN, *THINKING, *TEXT, *TEXT_DONE, "completed"],
    ),
    "refusal": (stream([NO]), [*BEGIN, *REFUSING, "completed"]),
    "text, then refusal": (
        stream([WORDS, NO]),
        [*BEGIN, *TEXT, *TEXT_DONE, *REFUSING, "completed"],
    ),
    "nothing at all": (stream([]), [*BEGIN, "completed"]),
    "empty words": (stream([said("")]), [*BEGIN, *TEXT[:2], *TEXT_DONE, "completed"]),
    "a call without arguments": (stream([called("now", "")]), [*BEGIN, CALL[0], *CALL_DONE, "completed"]),
    "limit of tokens": (
        stream([WORDS], "partial", "max_output_tokens"),
        [*BEGIN, *TEXT, *TEXT_DONE, "incomplete"],
    ),
    "limit of tokens in a call": (
        stream([WORDS, called("tea", '{"cu')], "partial", "max_output_tokens"),
        [*BEGIN, *TEXT, *TEXT_DONE, *CALL, "incomplete"],
    ),
    "content filter": (
        stream([WORDS], "partial", "content_filter"),
        [*BEGIN, *TEXT, *TEXT_DONE, "incomplete"],
    ),
    "limit before the first word": (stream([], "failed", "max_output_tokens"), [*BEGIN, "incomplete"]),
    "failed before the first delta": (
        stream([], "failed", "upstream_unavailable"),
        [*BEGIN, "failed"],
    ),
    "failed in the middle": (stream([WORDS], "partial", "truncated"), [*BEGIN, *TEXT, *TEXT_DONE, "failed"]),
    "failed in a call": (
        stream([WORDS, CALLS[0]], "partial", "truncated", kept=[WORDS]),
        [*BEGIN, *TEXT, *TEXT_DONE, CALL[0], CALL[1], CALL[1], "failed"],
    ),
    "cancelled in the middle": (
        stream([WORDS], "cancelled", "turn_cancelled"),
        [*BEGIN, *TEXT, *TEXT_DONE, "failed"],
    ),
    "cancelled before the first delta": (stream([], "cancelled", "turn_cancelled"), [*BEGIN, "failed"]),
    "in the background": (
        stream([WORDS], background=True),
        ["created", "queued", "in_progress", *TEXT, *TEXT_DONE, "completed"],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_each_ending_is_told_in_the_order_that_clients_know(story: str) -> None:
    events, expected = STORIES[story]
    assert types(events) == expected


@pytest.mark.parametrize("story", STORIES)
def test_strict_models_and_the_stream_helper_accept_each_story(story: str) -> None:
    events, _ = STORIES[story]
    state = judge(events)
    completed = state._completed_response
    assert (completed is not None) == (events[-1]["type"] == "response.completed")
    if completed is not None:
        # The helper's own fields (`parsed`, `parsed_arguments`) are null.
        assert as_told([item.to_dict() for item in completed.output]) == events[-1]["response"]["output"]


def as_told(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: as_told(v) for k, v in value.items() if k not in {"parsed", "parsed_arguments"}}
    return [as_told(entry) for entry in value] if isinstance(value, list) else value


def test_a_text_is_told_field_by_field() -> None:
    item_id = reply_item_id(KEY, 0, "message")
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    whole = {**empty, "text": "Tea for two."}
    item = {"id": item_id, "type": "message", "role": "assistant"}
    begun = {**final(), "status": "in_progress", "completed_at": None, "usage": None, "output": []}
    ended = final("complete", "", [WORDS])
    told: list[dict[str, Any]] = [
        {"type": "created", "response": begun},
        {"type": "in_progress", "response": begun},
        {
            "type": "output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "content_part.added", **place, "part": empty},
        {"type": "output_text.delta", **place, "delta": "Tea", "logprobs": []},
        {"type": "output_text.delta", **place, "delta": " for ", "logprobs": []},
        {"type": "output_text.delta", **place, "delta": "two.", "logprobs": []},
        {"type": "output_text.done", **place, "text": "Tea for two.", "logprobs": []},
        {"type": "content_part.done", **place, "part": whole},
        {
            "type": "output_item.done",
            "output_index": 0,
            "item": {**item, "status": "completed", "content": [whole]},
        },
        {"type": "completed", "response": ended},
    ]
    expected = [{**event, "type": f"response.{event['type']}"} for event in told]
    assert stream([WORDS]) == [{**event, "sequence_number": i} for i, event in enumerate(expected)]


def test_a_call_is_known_by_its_name_from_the_first() -> None:
    events = stream(CALLS)
    added = [event["item"] for event in of_type(events, "output_item.added")]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in added] == [
        ("call_tea", "tea", ""),
        ("call_milk", "milk", ""),
        ("call_sugar", "sugar", ""),
    ]
    done = of_type(events, "function_call_arguments.done")
    assert [event["arguments"] for event in done] == [call.text for call in CALLS]
    assert all("content_index" not in event and "logprobs" not in event for event in done)


def test_a_broken_item_is_ended_as_it_was_kept() -> None:
    events, _ = STORIES["failed in the middle"]
    assert of_type(events, "output_item.done")[-1]["item"]["status"] == "incomplete"
    last = events[-1]["response"]
    assert last["output"][-1]["status"] == "incomplete"
    assert (last["status"], last["error"]["code"]) == ("failed", "server_error")


def test_an_item_of_which_nothing_was_kept_is_not_ended() -> None:
    events, _ = STORIES["failed in a call"]
    done = of_type(events, "output_item.done")
    assert [event["item"]["type"] for event in done] == ["message"]


def test_a_cancelled_response_ends_as_one_that_failed_for_no_fault() -> None:
    last = STORIES["cancelled in the middle"][0][-1]
    assert (last["response"]["status"], last["response"]["error"]) == ("cancelled", None)


def test_an_item_that_was_not_written_word_by_word_is_told_whole() -> None:
    summary = {"id": "cmp_1", "type": "compaction", "encrypted_content": "abc"}
    grammar = ResponseEvents(KEY, final("running"))
    events = grammar.begin()
    for delta in deltas_of([WORDS]):
        events += grammar.add_delta(delta)
    whole = final("complete", "", [WORDS])
    events += grammar.end({**whole, "output": [*whole["output"], summary]})
    assert types(events)[-3:] == ["output_item.added", "output_item.done", "completed"]
    assert [(event["output_index"], event["item"]) for event in events[-3:-1]] == [(1, summary)] * 2
    judge(events)


def test_a_completed_response_ends_each_item_even_one_that_was_deleted_since() -> None:
    events = stream([WORDS], kept=[])
    assert types(events)[-4:] == [*TEXT_DONE, "completed"]
    judge(events)


def test_no_place_in_the_output_is_left_out() -> None:
    grammar = ResponseEvents(KEY, final("running"))
    grammar.begin()
    # What stood before them was deleted.
    events = grammar.add_delta(Delta(2, ReplyItem.MESSAGE, "Tea")) + grammar.add_delta(
        Delta(4, ReplyItem.MESSAGE, "Milk")
    )
    added = of_type(events, "output_item.added")
    assert [event["output_index"] for event in added] == [0, 1]
    assert [event["item"]["id"] for event in added] == [reply_item_id(KEY, n, "message") for n in (2, 4)]


# A reply item by item, cut anywhere; calls have ids of their own.
PARTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=6)
KINDS = st.sampled_from([ReplyItem.MESSAGE, ReplyItem.REFUSAL, ReplyItem.REASONING, ReplyItem.CALL])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    drawn = draw(st.lists(st.tuples(KINDS, PARTS), max_size=6))
    return [
        called(f"f{i}", *parts) if kind == ReplyItem.CALL else said(*parts, kind=kind)
        for i, (kind, parts) in enumerate(drawn)
    ]


ENDINGS = [("complete", ""), ("partial", "content_filter"), ("partial", "truncated"), ("cancelled", "")]


@given(reply=replies(), ending=st.sampled_from(ENDINGS), background=st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_is_said_is_told_without_gaps(
    reply: Reply, ending: tuple[str, str], background: bool
) -> None:
    status, code = ending
    broken = code == "truncated" or status == "cancelled"
    kept = (
        [strand for strand in reply if strand.is_usable_in_part]
        if broken and all(strand.kind != ReplyItem.CALL for strand in reply)
        else reply
    )
    events = stream(reply, status, code, kept=kept, background=background)
    judge(events)
    added, done = of_type(events, "output_item.added"), of_type(events, "output_item.done")
    assert [event["output_index"] for event in added] == list(range(len(reply)))
    assert len({event["item"]["id"] for event in added}) == len(added)
    if not broken:
        assert [(event["output_index"], event["item"]["id"]) for event in done] == [
            (event["output_index"], event["item"]["id"]) for event in added
        ]
        assert [event["item"] for event in done] == events[-1]["response"]["output"]
    for event in done:
        strand, whole = reply[event["output_index"]], pieces_of(events, event["output_index"])
        assert "".join(whole["delta"]) == strand.text == "".join(whole["done"]) == text_of(event["item"])


def pieces_of(events: Sequence[Event], index: int) -> dict[str, list[str]]:
    """The texts of the deltas of an item, and of the event that has all of them."""
    mine = [event for event in events if event.get("output_index") == index]
    return {
        "delta": [event["delta"] for event in mine if event["type"].endswith(".delta")],
        "done": [event[name] for event in mine for name in ("text", "refusal", "arguments") if name in event],
    }


def text_of(item: dict[str, Any]) -> str:
    if item["type"] == "function_call":
        return str(item["arguments"])
    return "".join(part.get("text", part.get("refusal")) for part in item["content"])


@given(reply=replies(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_replay_has_the_same_bytes_however_it_is_batched(reply: Reply, data: st.DataObject) -> None:
    live = b"".join(map(encode_event, stream(reply)))
    # As saved: every item's text and the lengths of its pieces; read later, in batches of any size.
    pieces = json.loads(json.dumps([strand.outline() for strand in placed(reply)]))
    saved = rebuild_items([strand.text for strand in reply], pieces)
    deltas = deltas_of(saved)
    cuts = data.draw(st.lists(st.integers(0, len(deltas)), max_size=4).map(sorted))
    batches = [deltas[a:b] for a, b in pairwise([0, *cuts, len(deltas)])]
    readers = [ResponseEvents(KEY, final("running")), ResponseEvents(KEY, final("complete", "", reply))]
    for grammar in readers:
        told = b"".join(map(encode_event, grammar.begin()))
        for batch in batches:
            told += b"".join(encode_event(event) for delta in batch for event in grammar.add_delta(delta))
        assert told + b"".join(map(encode_event, grammar.end(final("complete", "", reply)))) == live


def test_a_database_that_keeps_keys_in_another_order_changes_no_byte() -> None:
    tool = {"type": "function", "name": "tea", "strict": True, "parameters": {"type": "object", "b": {}}}
    params = {**PARAMS, "tools": [tool], "reasoning": {"summary": None, "effort": "low"}}
    turned = json.loads(json.dumps(params), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert list(turned) != list(params)
    before, after = (b"".join(map(encode_event, stream([WORDS], params=given))) for given in (params, turned))
    assert before == after


@given(reply=replies(), after=st.integers(-1, 60))
@settings(max_examples=50, deadline=None)
def test_a_reader_that_returns_is_told_what_it_has_not_heard(reply: Reply, after: int) -> None:
    events = stream(reply)
    after = min(after, len(events) - 1)
    assert list(events_after(events, after)) == events[after + 1 :]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_reader_that_heard_more_than_was_saved_learns_how_it_ended(status: str) -> None:
    events = stream([said("Tea")], status, "interrupted")
    (last,) = events_after(events, 40)
    assert (last["type"], last["sequence_number"]) == ("response.failed", 41)
    EVENT.validate_python(last, strict=True)


def test_a_reader_of_what_was_deleted_since_learns_how_it_ended_once() -> None:
    events = stream([])
    (last,) = events_after(events, 40)
    assert (last["type"], last["sequence_number"]) == ("response.completed", 41)
    assert not list(events_after(events, events[-1]["sequence_number"]))


def without(key: str, type: str) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [
        {name: value for name, value in event.items() if name != key or event["type"] != type}
        for event in events
    ]


def missing(type: str) -> Callable[[list[Event]], list[Event]]:
    def cut_out(events: list[Event]) -> list[Event]:
        left = [event for event in events if event["type"] != type]
        return [{**event, "sequence_number": i} for i, event in enumerate(left)]

    return cut_out


def changed(event_type: str, **fields: Any) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [{**event, **fields} if event["type"] == event_type else event for event in events]


WRONG: dict[str, tuple[Callable[[list[Event]], list[Event]], type[Exception]]] = {
    "a gap in the numbers": (changed("response.output_text.done", sequence_number=70), AssertionError),
    "no logprobs": (without("logprobs", "response.output_text.delta"), ValidationError),
    "a text for a number": (changed("response.output_text.delta", output_index="0"), ValidationError),
    "a field too many": (changed("response.output_text.delta", mood="good"), AssertionError),
    "no first event": (missing("response.created"), RuntimeError),
    "a piece before its item": (missing("response.output_item.added"), RuntimeError),
    "a piece before its part": (missing("response.content_part.added"), IndexError),
    "no such event": (changed("response.output_text.done", type="response.text.done"), ValidationError),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_judges_mind_what_breaks_clients(wrong: str) -> None:
    spoil, expected = WRONG[wrong]
    events = stream([WORDS])
    judge(events)
    with pytest.raises(expected):
        judge(spoil(events))


def test_an_event_is_one_line_for_every_reader() -> None:
    text = 'line\nline\r\u2028\u2029\x85\x0b\x1c"end" 🍵 家'
    delta = Delta(0, ReplyItem.MESSAGE, text)
    grammar = ResponseEvents(KEY, final("running"))
    grammar.begin()
    *_, event = grammar.add_delta(delta)
    wire = encode_event(event)
    assert wire.decode().splitlines() == [f"event: {event['type']}", wire.decode().split("\n")[1], ""]
    (heard,) = SSEDecoder().iter_bytes(iter([wire[:40], wire[40:]]))
    assert (heard.event, heard.json()) == ("response.output_text.delta", event)
    # Not escaped where it need not be.
    assert "🍵 家".encode() in wire


def test_a_response_has_every_field_and_every_null() -> None:
    item_id = reply_item_id(KEY, 0, "message")
    part = {"type": "output_text", "text": "Tea for two.", "annotations": [], "logprobs": []}
    assert final("complete", "", [WORDS]) == {
        "id": f"resp_{KEY.hex}",
        "object": "response",
        "created_at": int(NOON.timestamp()),
        "status": "completed",
        "background": False,
        "completed_at": int(NOON.timestamp()) + 2,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {"topic": "tea", "a": "b"},
        "model": "qwen/qwen3-8b",
        "output": [
            {
                "id": item_id,
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "moderation": None,
        "usage": {
            "input_tokens": 24,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 29,
        },
    }


def test_a_response_tells_again_what_was_asked_for() -> None:
    tool = {"type": "function", "name": "tea", "strict": None}
    form = {"type": "json_schema", "name": "cup", "schema": {"type": "object"}, "strict": True}
    params = {
        **PARAMS,
        "instructions": "Be brief.",
        "tools": [tool, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "tea"},
        "text": {"format": form, "verbosity": None},
        "reasoning": {"effort": "low"},
        "temperature": 0,
        "store": False,
        "parallel_tool_calls": False,
        "service_tier": "auto",
        "max_output_tokens": 7,
        "truncation": "auto",
        "user": None,
        "previous_response_id": "resp_1",
    }
    told = final(asked=asked_of(params))
    assert told["tools"] == [
        {"type": "function", "name": "tea", "description": None, "parameters": None, "strict": False},
        {"type": "web_search"},
    ]
    assert told["text"] == {"format": form, "verbosity": "medium"}
    assert told["reasoning"] == {"effort": "low", "summary": None}
    assert (told["temperature"], told["store"], told["parallel_tool_calls"]) == (0, False, False)
    assert (told["service_tier"], told["user"], told["max_output_tokens"]) == ("default", None, 7)
    for name in ("instructions", "tool_choice", "truncation", "previous_response_id"):
        assert told[name] == params[name]
    TypeAdapter(Response).validate_python(told, strict=True)


STATUSES = {
    ("queued", ""): ("queued", None),
    ("running", ""): ("in_progress", None),
    ("complete", ""): ("completed", None),
    ("partial", "max_output_tokens"): ("incomplete", None),
    ("failed", "content_filter"): ("incomplete", None),
    ("partial", "interrupted"): ("failed", "server_error"),
    ("failed", "upstream_rate_limited"): ("failed", "rate_limit_exceeded"),
    ("failed", "message_too_long"): ("failed", "invalid_prompt"),
    ("failed", "a code of yesterday"): ("failed", "server_error"),
    ("failed", ""): ("failed", "server_error"),
    ("cancelled", "turn_cancelled"): ("cancelled", None),
}


@pytest.mark.parametrize(("turn", "told"), STATUSES.items())
def test_each_turn_has_the_status_that_clients_know(
    turn: tuple[str, str], told: tuple[str, str | None]
) -> None:
    status, code = turn
    response = final(status, code, [WORDS])
    TypeAdapter(Response).validate_python(response, strict=True)
    assert response["status"] == told[0]
    assert (response["error"] or {}).get("code") == told[1]
    assert (response["incomplete_details"] is not None) == (told[0] == "incomplete")
    assert (response["completed_at"] is not None) == (told[0] == "completed")
    assert (response["usage"] is not None) == turn_of(status).has_ended
    if response["error"]:
        # The AI SDK wants to know of which type it is.
        assert response["error"]["type"] == class_by_code(code).type


def test_only_a_conversation_that_was_given_is_told() -> None:
    assert "conversation" not in final()
    told = response_json(turn_of(), asked_of(), [], conversation="conv_1")
    assert told["conversation"] == {"id": "conv_1"}
    TypeAdapter(Response).validate_python(told, strict=True)


def test_a_response_without_a_model_of_its_own_names_the_one_that_answered() -> None:
    assert final(asked=asked_of({}))["model"] == "qwen/qwen3-8b"
