"""Images and text files in messages: kept once, sent as models read them, told as they came."""

import base64
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from hypothesis import given
from hypothesis import settings as dice
from hypothesis import strategies as st
from openai import BadRequestError, OpenAI
from pytest_django import Settings

from convo import context, guests, history, search, tokens, turns, verify
from convo.agents import Agent
from convo.errors import InvalidRequest, MessageTooLong
from convo.history import NewMessage, TranscriptMessage
from convo.history.files import Upload, decode_base64, files_of, upload_parts
from convo.history.files.images import image_of
from convo.history.messages import costs
from convo.models import ME, ApiKey, Attachment, AttachmentUse, IndexedMessage, Message, Person, Session
from convo.tokens.images import image_cost
from convo.turns import TurnResult
from tests.conftest import Serve
from tests.support.rest import Caller, ok
from tests.talk import ask, begin, delete_last, finish
from tests.upstream import Upstream

pytestmark = pytest.mark.django_db(transaction=True)


def png(width: int = 3, height: int = 2, more: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * (width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"tEXt", more) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, *, before: bytes = b"") -> bytes:
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 8, 8, height, width, 0)
    return b"\xff\xd8\xff\xe0\x00\x04ab" + before + frame + b"\xff\xd9"


def url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


PHOTO = Upload("cat.png", png())
NOTES = Upload("notes.md", "# Häuser\n```\nzwölf\n```\n".encode())
IMAGE = {"type": "input_image", "image_url": url(png()), "detail": "auto"}


@pytest.fixture
def model(settings: Settings, upstream: Upstream) -> Upstream:
    settings.CONVO = {**settings.CONVO, "OPENAI_BASE_URL": upstream.url, "MODEL": "words-2"}
    return upstream


@pytest.fixture
def session(alice: User, model: Upstream) -> Session:
    return turns.store_session(turns.new_session(alice, ME))[0]


@pytest.fixture
def caller(alice_key: str) -> Caller:
    return Caller(alice_key)


@pytest.fixture
def client(alice_key: str, share: Serve, upstream: Upstream) -> Iterator[OpenAI]:
    server = share(OPENAI_BASE_URL=upstream.url, CONVO_MODEL="words-1")
    with OpenAI(api_key=alice_key, base_url=server.url + "/v1", max_retries=0) as client:
        yield client


def with_files(text: str, uploads: Sequence[Upload]) -> NewMessage:
    return NewMessage.from_user(text, upload_parts(uploads))


def show(session: Session, *files: Upload, text: str = "What is this?", **options: Any) -> TurnResult:
    return finish(turns.begin(session, [with_files(text, files)], **options))


def answered(result: TurnResult) -> str:
    assert result.message
    return result.message.content


def kept() -> list[tuple[str, int, int]]:
    """What is kept, and how many messages show it."""
    rows = Attachment.objects.order_by("pk")
    return [(row.mime, row.size, row.uses.count()) for row in rows]


def problems() -> list[str]:
    return [f"{one.location}: {one.problem}" for checked in verify.check_all() for one in checked.findings]


# What the model sees.


def test_an_image_reaches_the_model_beside_the_words(session: Session, model: Upstream) -> None:
    show(session, PHOTO)
    assert model.last["messages"][-1]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url(PHOTO.data), "detail": "auto"}},
    ]


def test_it_is_seen_in_the_next_turn_too(session: Session, model: Upstream) -> None:
    show(session, PHOTO)
    ask(session, "Sure?")
    assert model.last["messages"][-3]["content"][1]["image_url"]["url"] == url(PHOTO.data)


def test_a_text_file_reaches_the_model_as_text_under_its_name(session: Session, model: Upstream) -> None:
    show(session, NOTES)
    told = model.last["messages"][-1]["content"][1]
    assert told == {"type": "text", "text": 'File "notes.md":\n````\n# Häuser\n```\nzwölf\n```\n````'}


def test_an_image_without_words_is_a_question(session: Session, model: Upstream) -> None:
    show(session, PHOTO, text="")
    assert [part["type"] for part in model.last["messages"][-1]["content"]] == ["image_url"]
    show(session, Upload("dog.png", png(9, 9)), text="")
    assert [message["role"] for message in model.last["messages"] if message["role"] == "user"] == [
        "user"
    ] * 2


def test_two_images_without_words_are_two_questions(session: Session, model: Upstream) -> None:
    lines = [with_files("", [Upload("a", png(1, at))]).preview_at(at) for at in (1, 2)]
    prompt = context.choose(plain(), "m", lines[:1], lines[1:])
    assert len(prompt.messages) == 2
    again = context.choose(plain(), "m", lines[:1], [with_files("", [Upload("a", png(1, 1))]).preview_at(2)])
    assert len(again.messages) == 1


def test_a_prompt_as_one_text_has_the_files_text(session: Session) -> None:
    show(session, NOTES, PHOTO)
    session.refresh_from_db()
    for form in turns.FORMS:
        text, prompt = turns.preview_text(session, "And now?", form)
        assert "zwölf" in text
        assert "[image]" in text
        assert tokens.count(text) <= prompt.manifest["total"] + context.HEADING_TOKENS


def test_the_responder_without_a_model_says_that_it_sees_nothing(alice: User, settings: Settings) -> None:
    settings.CONVO = {
        **settings.CONVO,
        "OPENAI_BASE_URL": "",
        "OPENAI_API_KEY": "",
        "OFFLINE_WORD_SECONDS": 0,
    }
    session = turns.store_session(turns.new_session(alice, ME))[0]
    answer = answered(show(session, PHOTO, text="My cat is called Miso."))
    assert "can’t look at images" in answer
    answer = answered(show(session, NOTES, text="What is my cat called?"))
    assert "“My cat is called Miso.”" in answer
    assert "zwölf" not in answer
    assert "can’t look at images" not in answered(ask(session, "What is my cat called?"))


# What is kept.


def test_what_is_shown_twice_is_kept_once(session: Session) -> None:
    show(session, PHOTO, NOTES)
    show(session, PHOTO, Upload("again.png", PHOTO.data))
    assert kept() == [("image/png", len(PHOTO.data), 2), ("text/plain", len(NOTES.data), 1)]
    assert not Message.objects.filter(item__icontains="base64,iVBOR").exists()
    assert problems() == []


def test_each_person_has_their_own(session: Session, bob: User) -> None:
    show(session, PHOTO)
    show(turns.new_session(bob, ME), PHOTO)
    assert len(kept()) == 2


def test_what_waits_in_the_queue_is_kept_when_it_is_asked(session: Session, model: Upstream) -> None:
    running = begin(session)
    place = turns.begin(session, [with_files("And this?", [PHOTO])], on_busy="queue")
    assert kept() == []
    finish(running)
    finish(place)
    assert kept() == [("image/png", len(PHOTO.data), 1)]
    assert model.last["messages"][-1]["content"][1]["image_url"]["url"] == url(PHOTO.data)


@pytest.mark.parametrize("way", ["message", "turn", "clear", "session", "one by one"])
def test_what_no_message_shows_any_more_is_gone_at_once(session: Session, way: str) -> None:
    show(session, NOTES)
    other = turns.store_session(turns.new_session(session.owner, ME))[0]
    ask(other, "hello")
    turns.record(other, [with_files("Mine", [PHOTO])])
    turns.record(session, [with_files("The same", [PHOTO])])
    ways: dict[str, Callable[[], Any]] = {
        "message": lambda: history.delete_message(session.pk, 1),
        "turn": lambda: history.delete_turn(session.pk, 1),
        "clear": lambda: history.clear(session.pk),
        "session": lambda: history.remove(session.pk),
        "one by one": lambda: list(map(delete_last, [session] * 3)),
    }
    ways[way]()
    shown = 2 if way in {"message", "turn"} else 1
    assert kept() == [("image/png", len(PHOTO.data), shown)]
    assert problems() == []


def test_a_fork_shows_what_its_origin_shows_and_keeps_it(session: Session, model: Upstream) -> None:
    show(session, PHOTO)
    fork = history.fork(session, 2)
    assert kept() == [("image/png", len(PHOTO.data), 2)]
    assert problems() == []
    history.remove(session.pk)
    assert kept() == [("image/png", len(PHOTO.data), 1)]
    ask(fork, "Sure?")
    assert model.last["messages"][-3]["content"][1]["image_url"]["url"] == url(PHOTO.data)


def test_another_answer_sees_the_same_image(session: Session, model: Upstream) -> None:
    show(session, PHOTO)
    finish(turns.regenerate(session, 1))
    assert model.last["messages"][-1]["content"][1]["image_url"]["url"] == url(PHOTO.data)
    assert kept() == [("image/png", len(PHOTO.data), 1)]


def test_an_edited_question_shows_what_it_showed(session: Session, model: Upstream) -> None:
    show(session, PHOTO, NOTES)
    question = history.edited_question(history.get_turn(session, 1), "What was this?")
    finish(turns.regenerate(session, 1, question))
    said = model.last["messages"][-1]["content"]
    assert said[0]["text"] == "What was this?"
    assert [part["type"] for part in said] == ["text", "image_url", "text"]
    assert problems() == []


@pytest.mark.parametrize(("failing", "is_sent"), [("400", False), ("500", True)])
def test_an_image_that_the_model_server_refused_is_not_sent_again(
    session: Session, model: Upstream, settings: Settings, failing: str, is_sent: bool
) -> None:
    settings.CONVO = {**settings.CONVO, "MODEL": failing}
    show(session, PHOTO)
    ask(session, "And in words?")
    settings.CONVO = {**settings.CONVO, "MODEL": "words-2"}
    ended = ask(session, "Never mind.")
    said = json.dumps(model.last["messages"])
    assert "And in words?" in said
    assert ("image_url" in said) is is_sent
    assert ended.turn.manifest
    why = [row["why"] for row in ended.turn.manifest["left_out"]]
    assert why == ([] if is_sent else ["a question whose image the model server refused"])


def test_what_a_guest_showed_is_shown_by_the_account_that_has_it_already(
    session: Session, model: Upstream, client_of_alice: Client
) -> None:
    show(session, PHOTO)
    guest = guests.create_guest()
    theirs = turns.store_session(turns.new_session(guest, ME))[0]
    show(theirs, PHOTO, NOTES)
    guests.merge_into_account(guest, session.owner)
    assert kept() == [("image/png", len(PHOTO.data), 2), ("text/plain", len(NOTES.data), 1)]
    assert problems() == []
    joined = Session.objects.get(pk=theirs.pk)
    for file in files_of(history.message_at(joined, 1).item):
        assert client_of_alice.get(f"/files/{file.attachment_id}/").status_code == 200
    ask(joined, "Sure?")
    assert model.last["messages"][-3]["content"][1]["image_url"]["url"] == url(PHOTO.data)


def test_nothing_is_kept_where_nothing_is_to_be_stored(alice: User, model: Upstream) -> None:
    chain = turns.new_chain(alice, ME, storage=Session.Storage.NONE)
    show(chain, PHOTO)
    assert model.last["messages"][-1]["content"][1]["image_url"]["url"] == url(PHOTO.data)
    assert kept() == []


def test_of_what_was_deleted_meanwhile_the_model_hears_that_it_is_gone(session: Session) -> None:
    show(session, PHOTO)
    session.refresh_from_db()
    lines = history.look_up_newest(session.pk, session.version)[0]
    AttachmentUse.objects.all().delete()
    Attachment.objects.all().delete()
    item = history.with_inline_data(lines)[0].item
    assert item
    assert item["content"][1] == {"type": "input_text", "text": "[a file that was deleted]"}


def test_only_rows_refer_to_what_is_kept(session: Session, alice: User) -> None:
    show(session, PHOTO)
    row = Message.objects.get(session=session, position=1)
    forged = NewMessage(role="user", item=row.item)
    with pytest.raises(InvalidRequest):
        turns.record(session, [forged])
    for storage in (Session.Storage.EPHEMERAL, Session.Storage.NONE):
        other = turns.store_session(turns.new_session(alice, ME, storage=storage))[0]
        with pytest.raises(InvalidRequest):
            turns.record(other, [forged])
        turns.record(other, [NewMessage(role="user", content="See?")])
    assert IMAGE["image_url"] in json.dumps(history.with_inline_data([row])[0].item)
    item: Any = row.item
    item["content"][1]["image_url"]["sha256"] = "0" * 64
    assert IMAGE["image_url"] not in json.dumps(history.with_inline_data([row])[0].item)


def test_nothing_of_a_temporary_chat_is_kept_and_its_model_sees_it(alice: User, model: Upstream) -> None:
    ephemeral = turns.store_session(turns.new_session(alice, ME, storage=Session.Storage.EPHEMERAL))[0]
    show(ephemeral, PHOTO)
    ask(ephemeral, "Sure?")
    assert model.last["messages"][-3]["content"][1]["image_url"]["url"] == url(PHOTO.data)
    assert kept() == []
    [shown] = files_of(history.message_at(ephemeral, 1).item)
    assert (shown.name, shown.attachment_id, shown.width) == ("cat.png", None, 3)
    assert problems() == []


# What is taken.


@pytest.mark.parametrize("text", ["QUJ=", "QUI", "QU I=", "QUI=\n", "QUI=QUI=", "QU_-"])
def test_base64_has_one_way_to_be_written(text: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_base64(text)
    assert decode_base64("QUI=") == b"AB"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(640, 480), ("image/png", 640, 480)),
        (b"GIF89a" + struct.pack("<HH", 7, 5), ("image/gif", 7, 5)),
        (jpeg(1200, 800), ("image/jpeg", 1200, 800)),
        (jpeg(1200, 800, before=b"\xff\xff\xe1\x00\x06\xff\xc0ab"), ("image/jpeg", 1200, 800)),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x0f\0\0\x1f\0\0", ("image/webp", 16, 32)),
        (
            b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 99 | 49 << 14),
            ("image/webp", 100, 50),
        ),
        (
            b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 320, 200),
            ("image/webp", 320, 200),
        ),
    ],
)
def test_an_image_is_known_by_its_bytes(data: bytes, found: tuple[str, int, int]) -> None:
    image = image_of(data)
    assert image
    assert (image.mime, image.width, image.height) == found
    for end in range(len(data)):
        image_of(data[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        png(0, 5),
        b"GIF87",
        b"GIF80a1234",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\0" * 9,
        b"RIFF1234WAVEfmt 1234567890123456",
        b"BM123456789012345678901234",
        b"<svg xmlns='x'/>",
    ],
)
def test_what_is_no_image_is_none(data: bytes) -> None:
    assert image_of(data) is None


@dice(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF8", b"RIFF1234WEBP"]))
def test_no_bytes_are_too_strange_to_be_looked_at(data: bytes, begin: bytes) -> None:
    image = image_of(begin + data)
    assert image is None or (image.width > 0 and image.height > 0)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (Upload("cat.png", b"\x89PNG no more"), "neither an image"),
        (Upload("page.pdf", b"%PDF-1.4 text"), "neither an image"),
        (Upload("a.txt", b"one\0two"), "neither an image"),
        (Upload("a.txt", "grün".encode("latin-1")), "neither an image"),
        (Upload("a.txt", "grün".encode("utf-16")), "neither an image"),
        (Upload("a.txt", b"a" * 200_001), "200000"),
        (Upload("a.txt", b""), "empty"),
    ],
)
def test_what_is_neither_an_image_nor_a_text_is_refused(file: Upload, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as raised:
        with_files("See?", [PHOTO, file])
    assert raised.value.param == "files[1]"
    with_files("See?", [PHOTO, Upload("a.txt", b"a" * 200_000)])


def test_eleven_files_are_too_many() -> None:
    with_files("See?", [PHOTO] * 10)
    with pytest.raises(InvalidRequest, match="at most 10") as raised:
        with_files("See?", [PHOTO] * 11)
    assert raised.value.param == "files"


def test_a_name_says_nothing_that_could_pass_for_the_frame(session: Session, model: Upstream) -> None:
    show(session, Upload('C:\\x/a"b\n.txt', b"text"))
    assert model.last["messages"][-1]["content"][1]["text"].startswith('File "ab.txt":\n```\ntext')


# What it costs.


def plain(**fields: Any) -> Agent:
    return Agent(**{"name": "test", "instructions": "", "context_tokens": 4000, **fields})


@pytest.mark.parametrize(
    ("width", "height", "detail", "cost"),
    [
        (1, 1, "auto", 255),
        (512, 512, "high", 415),
        (1024, 1024, "auto", 1659),
        (4000, 3000, "low", 415),
        (100_000, 100_000, "auto", 2489),
    ],
)
def test_an_image_costs_by_its_size(width: int, height: int, detail: str, cost: int) -> None:
    assert image_cost(width, height, detail) == cost


def test_data_counts_as_what_it_is_and_the_same_once_it_is_kept(session: Session) -> None:
    big = Upload("big.png", png(1000, 1000, more=b"x" * 100_000))
    draft = with_files("What is this?", [big, NOTES])
    spent = image_cost(1000, 1000)
    assert spent < draft.tokens < spent + 150
    turns.record(session, [draft])
    row = Message.objects.get(session=session)
    line = TranscriptMessage.of(row)
    for model in ("gpt-4o", "gpt-4", "some-local-model"):
        assert list(costs([line], model)) == list(costs([draft], model))
    inline = TranscriptMessage.of(history.with_inline_data([row])[0])
    assert list(costs([inline], "gpt-4")) == list(costs([draft], "gpt-4"))


def test_an_image_elsewhere_counts_as_the_largest() -> None:
    part = {"type": "input_image", "image_url": "https://example.org/cat.png", "detail": "low"}
    item = {"type": "message", "role": "user", "content": [part]}
    assert NewMessage(role="user", item=item).tokens > 415


def weight_of(message: Any, model: str) -> int:
    """A message's tokens as its model counts them, by the sizes of the images that it really got."""
    content = message["content"]
    if isinstance(content, str):
        return tokens.count(content, model)
    spent = 0
    for part in content:
        if part["type"] == "text":
            spent += tokens.count(part["text"], model)
            continue
        found = image_of(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
        assert found
        spent += image_cost(found.width, found.height, part["image_url"]["detail"])
    return spent


FILES = st.one_of(
    st.builds(lambda w, h: Upload("i.png", png(w, h)), st.integers(1, 900), st.integers(1, 900)),
    st.builds(
        lambda text: Upload("t.txt", text.encode()), st.text(min_size=1, max_size=400).filter(str.isprintable)
    ),
)


@dice(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=60), st.lists(FILES, max_size=3)), max_size=8),
    st.lists(FILES, min_size=1, max_size=2),
    st.integers(300, 9000),
    st.sampled_from(["gpt-4o", "gpt-4", "some-local-model"]),
)
def test_no_prompt_with_files_is_longer_than_its_budget(
    said: list[tuple[str, list[Upload]]], asked: list[Upload], budget: int, model: str
) -> None:
    lines = []
    for at, (text, files) in enumerate(said):
        lines.append(with_files(text, files).preview_at(2 * at + 1))
        lines.append(NewMessage(role="assistant", content="ok").preview_at(2 * at + 2))
    question = [with_files("And?", asked).preview_at(99)]
    try:
        prompt = context.choose(plain(context_tokens=budget), model, lines, question)
    except MessageTooLong:
        assert sum(costs(question, model)) + tokens.REPLY_OVERHEAD > budget
        return
    spent = sum(weight_of(message, model) + tokens.MESSAGE_OVERHEAD for message in prompt.messages)
    assert spent + tokens.REPLY_OVERHEAD <= prompt.manifest["total"] <= budget


def test_a_prompt_of_the_callers_own_is_counted_without_its_data() -> None:
    messages = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": url(png(8, 8, b"x" * 9999))}}],
        }
    ]
    prompt = context.caller_prompt("m", messages, budget=1000)
    assert 255 <= prompt.manifest["total"] < 400
    assert prompt.messages == messages


# Over REST.


def sent(*files: Upload) -> list[dict[str, str]]:
    return [{"name": file.name, "data": base64.b64encode(file.data).decode()} for file in files]


def test_files_come_in_with_a_question_and_are_told_with_it(caller: Caller, model: Upstream) -> None:
    body = {"message": "See?", "files": sent(PHOTO, NOTES)}
    answered = ok(caller.send("/api/v1/query/", body))
    assert model.last["messages"][-1]["content"][1]["image_url"]["url"] == url(PHOTO.data)
    asked = caller.history(f"/api/v1/sessions/{answered['session']}/")[0]
    assert asked["content"] == "See?"
    photo, notes = asked["files"]
    assert (photo["name"], photo["mime"], photo["size"]) == ("cat.png", "image/png", len(PHOTO.data))
    assert (photo["is_image"], photo["width"], photo["height"]) == (True, 3, 2)
    assert (notes["name"], notes["mime"], notes["is_image"], notes["width"]) == (
        "notes.md",
        "text/plain",
        False,
        None,
    )
    assert asked["item"]["content"][1]["image_url"] == url(PHOTO.data)
    for shown, file in ((photo, PHOTO), (notes, NOTES)):
        assert caller.get(shown["url"]).content == file.data


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"files": [{"name": "a", "data": "no base64"}]}, "files[0].data"),
        ({"files": [{"name": "a"}]}, "files[0].data"),
        ({"files": [{"name": "a", "data": "AAAA"}]}, "files[0]"),
        ({"files": sent(PHOTO) * 11}, "files"),
        ({"files": [], "message": " "}, "message"),
        ({"message": ""}, "message"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(
    caller: Caller, model: Upstream, change: Any, param: str
) -> None:
    refused = caller.send("/api/v1/query/", {"message": "See?", **change})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert not Session.objects.exists()
    ok(caller.send("/api/v1/query/", {"message": "", "files": sent(PHOTO)}))


def test_an_item_brings_its_data_along_and_cannot_name_what_is_kept(caller: Caller, model: Upstream) -> None:
    session = caller.make()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "This"}, IMAGE]}
    stored = caller.append(session, {"role": "user", "item": item})[0]
    assert stored["item"] == item
    assert len(kept()) == 1
    [content] = Message.objects.values_list("item__content", flat=True)
    reference = content[1]["image_url"]
    for stolen in (reference, url(b"no image"), "data:text/plain,hello"):
        forged = {**item, "content": [{**IMAGE, "image_url": stolen}]}
        refused = caller.send(session + "messages/", {"messages": [{"role": "user", "item": forged}]})
        assert refused.status_code == 400
    assert kept() == [("image/png", len(PHOTO.data), 1)]


# Their own address.


def address(session: Session, *files: Upload) -> str:
    show(session, *files)
    return f"/files/{Attachment.objects.get().pk}/"


def test_an_image_is_shown_in_place_and_can_do_nothing(session: Session, client_of_alice: Client) -> None:
    got = client_of_alice.get(address(session, PHOTO), headers={"Accept": "image/*"})
    assert (got.status_code, got.content) == (200, PHOTO.data)
    assert got["Content-Type"] == "image/png"
    assert got["Content-Disposition"] == 'inline; filename="cat.png"'
    assert got["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in got["Content-Security-Policy"]
    assert got["Cache-Control"] == "private, no-store"


def test_a_text_is_there_to_be_saved(session: Session, client_of_alice: Client) -> None:
    got = client_of_alice.get(address(session, Upload("x.html", b"<script>alert(1)</script>")))
    assert got["Content-Type"] == "text/plain; charset=utf-8"
    assert got["Content-Disposition"] == 'attachment; filename="x.html"'


@pytest.fixture
def client_of_alice(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def test_a_file_is_its_owners_alone(
    session: Session, bob: User, alice_key: str, client_of_alice: Client
) -> None:
    there = address(session, PHOTO)
    bobs = Client()
    bobs.force_login(bob)
    assert bobs.get(there).status_code == 404
    assert Client().get(there).status_code in {401, 403}
    assert Caller(alice_key).get(there).status_code == 200
    writes = ApiKey.objects.issue(session.owner, scopes=["write"])[1]
    assert Caller(writes).get(there).status_code == 403
    assert client_of_alice.get("/files/999999/").status_code == 404
    assert client_of_alice.get(there).status_code == 200


def test_a_file_is_its_persons_where_one_is_named(alice: User, alice_key: str, model: Upstream) -> None:
    there = address(turns.new_session(alice, "ada"), PHOTO)
    caller = Caller(alice_key)
    assert caller.get(there + "?user=ada").status_code == 200
    assert caller.get(there + "?user=eve").status_code == 404


def test_the_file_of_a_session_on_its_way_out_is_not_found(session: Session, client_of_alice: Client) -> None:
    there = address(session, PHOTO)
    turns.discard(session)
    assert client_of_alice.get(there).status_code == 404
    turns.restore(session.pk, session.owner)
    assert client_of_alice.get(there).status_code == 200


def test_the_file_of_a_deleted_session_is_not_found(session: Session, client_of_alice: Client) -> None:
    there = address(session, PHOTO)
    assert client_of_alice.get(there).status_code == 200
    history.remove(session.pk)
    assert client_of_alice.get(there).status_code == 404


# Over /v1.


def test_over_v1_what_goes_out_is_what_came_in(client: OpenAI, upstream: Upstream) -> None:
    odd = url(jpeg(20, 10), "image/PNG;charset=x")
    parts: Any = [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": odd, "detail": "low"},
        {"type": "input_file", "filename": "n.txt", "file_data": base64.b64encode(b"plain").decode()},
        {"type": "input_file", "filename": "p.pdf", "file_data": url(b"%PDF-1.4 x", "application/pdf")},
    ]
    conversation = client.conversations.create()
    made = client.responses.create(
        model="words-1", input=[{"role": "user", "content": parts}], conversation=conversation.id
    )
    for listed in (
        client.conversations.items.list(conversation.id, order="asc"),
        client.responses.input_items.list(made.id),
    ):
        content = listed.data[0].to_dict()["content"]
        assert content == parts
    assert sorted(mime for mime, _, _ in kept()) == ["application/pdf", "image/jpeg", "text/plain"]
    said = upstream.last["messages"][-1]["content"]
    assert said[1] == {"type": "image_url", "image_url": {"url": odd, "detail": "low"}}
    assert said[2] == {"type": "text", "text": 'File "n.txt":\n```\nplain\n```'}
    assert said[3] == {"type": "file", "file": {"filename": "p.pdf", "file_data": parts[3]["file_data"]}}


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}, "image_url"),
        ({"type": "input_image", "image_url": url(png()) + "\n"}, "image_url"),
        ({"type": "input_image", "image_url": url(png())[:-1] + "!"}, "image_url"),
        ({"type": "input_image", "image_url": {"attachment": 1}}, "image_url"),
        ({"type": "input_file", "file_data": url(b"a" * 200_001, "text/plain")}, "file_data"),
        ({"type": "input_file", "file_data": "???"}, "file_data"),
    ],
)
def test_over_v1_data_that_is_not_what_it_should_be_is_refused(client: OpenAI, part: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        client.responses.create(model="words-1", input=[{"role": "user", "content": [part]}])
    assert raised.value.param == f"input[0].content[0].{param}"
    assert not Attachment.objects.exists()
    good: Any = {"type": "input_image", "image_url": url(png())}
    client.responses.create(model="words-1", input=[{"role": "user", "content": [good]}])


def test_an_item_named_by_its_id_is_shown_by_the_other_person_too(client: OpenAI, upstream: Upstream) -> None:
    item: Any = {"type": "message", "role": "user", "content": [{**IMAGE}]}
    first = client.conversations.create(items=[item])
    [named] = client.conversations.items.list(first.id).data
    again: Any = [{"type": "item_reference", "id": named.id}]
    # A name that clients send anyway goes on with what nobody began.
    second = client.responses.create(model="words-1", input=again, user="ada")
    assert sorted(Attachment.objects.values_list("person__ref", flat=True)) == ["", "ada"]
    client.conversations.delete(first.id)
    assert client.responses.input_items.list(second.id).data[0].to_dict()["content"] == [IMAGE]
    assert problems() == []


def test_a_chat_that_repeats_its_image_has_it_once(client: OpenAI, upstream: Upstream) -> None:
    shown: Any = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": url(png()), "detail": "auto"}}],
    }
    first = client.chat.completions.with_raw_response.create(
        model="words-1", messages=[shown], extra_headers={"X-Convo-Session": "new"}
    )
    session = first.headers["x-convo-session"]
    told: Any = [shown, {"role": "assistant", "content": "word1 "}, {"role": "user", "content": "Sure?"}]
    client.chat.completions.create(model="words-1", messages=told, extra_headers={"X-Convo-Session": session})
    assert upstream.last["messages"] == told
    assert kept() == [("image/png", len(png()), 1)]
    other: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url(png(5, 5))}}]}]
    client.chat.completions.create(
        model="words-1", messages=told + other, extra_headers={"X-Convo-Session": session}
    )
    assert len(kept()) == 2


def test_an_old_image_that_a_chat_repeats_is_not_read_again(client: OpenAI, upstream: Upstream) -> None:
    def image(address: str) -> Any:
        return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}

    new = {"X-Convo-Session": "new"}
    first = client.chat.completions.with_raw_response.create(
        model="words-1", messages=[image(url(png()))], extra_headers=new
    )
    # The session has the image, so it doesn't matter that this client can't repeat it.
    dropped = image("data:image/png;base64,AAAA")
    client.chat.completions.create(
        model="words-1",
        messages=[dropped, {"role": "assistant", "content": "word1 "}, {"role": "user", "content": "Sure?"}],
        extra_headers={"X-Convo-Session": first.headers["x-convo-session"]},
    )
    assert url(png()) in str(upstream.last["messages"][0])
    with pytest.raises(BadRequestError):
        client.chat.completions.create(model="words-1", messages=[dropped], extra_headers=new)


def test_an_input_that_repeats_its_image_has_it_once(client: OpenAI, upstream: Upstream) -> None:
    conversation = client.conversations.create().id
    asked: Any = {"role": "user", "content": [{"type": "input_text", "text": "Weather in Rome?"}, IMAGE]}
    made = client.responses.create(model="weather", input=[asked], conversation=conversation, tools=[WEATHER])
    call = made.output[0]
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}  # type: ignore[union-attr]
    client.responses.create(
        model="weather", input=[asked, output], conversation=conversation, tools=[WEATHER]
    )
    assert kept() == [("image/png", len(png()), 1)]


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


# Searching, checking, many at once.


def test_a_message_is_found_by_the_name_of_its_file(session: Session) -> None:
    show(session, Upload("invoice-zephyr.txt", b"secret words"), text="")
    show(session, PHOTO, text="My tabby")
    search.index_turns()
    words = dict(IndexedMessage.objects.values_list("position", "statement_terms"))
    assert "zephyr" in words[1]
    assert "secret" not in words[1]
    assert "tabbi" in words[3]
    best = search.find(session.person, session.owner, "zephyr")[0]
    assert (best.position, best.content) == (1, "")


def test_verify_tells_of_a_use_without_its_item_and_of_an_item_without_its_use(session: Session) -> None:
    show(session, PHOTO)
    ask(session, "hello")
    assert problems() == []
    attachment = Attachment.objects.get()
    use = AttachmentUse.objects.create(
        message=Message.objects.get(session=session, position=3), attachment=attachment
    )
    assert problems() == [
        f"position 3: a row links attachment {attachment.pk}, but its item does not show it"
    ]
    use.delete()
    AttachmentUse.objects.all().delete()
    assert problems() == [
        f"position 1: its item shows attachment {attachment.pk}, but no row links them",
        f"attachments: attachment {attachment.pk} is shown by no message",
    ]


def test_verify_tells_of_somebody_elses_attachment(session: Session, bob: User) -> None:
    show(session, PHOTO)
    Attachment.objects.update(person=Person.objects.get_or_create_by_ref(bob, ME))
    attachment = Attachment.objects.get().pk
    assert problems() == [f"position 1: shows attachment {attachment}, which is another person's"]


def test_what_is_let_go_waits_for_those_who_begin_to_show_it(session: Session) -> None:
    show(session, PHOTO)
    other = turns.store_session(turns.new_session(session.owner, ME))[0]
    errors: list[BaseException] = []

    def let_go() -> None:
        try:
            history.clear(session.pk)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=let_go)
    with transaction.atomic():
        turns.record(other, [with_files("See?", [PHOTO])])
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert errors == []
    assert kept() == [("image/png", len(PHOTO.data), 1)]
    assert problems() == []


def test_showing_and_deleting_at_once_loses_nothing(session: Session) -> None:
    sessions = [session, *(turns.store_session(turns.new_session(session.owner, ME))[0] for _ in range(3))]
    errors: list[BaseException] = []

    def work(mine: Session) -> None:
        try:
            for _ in range(8):
                turns.record(mine, [with_files("See?", [PHOTO, NOTES])])
                delete_last(mine)
            turns.record(mine, [with_files("See?", [PHOTO])])
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[mine]) for mine in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert kept() == [("image/png", len(PHOTO.data), 4)]
    assert problems() == []
    shown = history.with_inline_data(list(Message.objects.filter(erased_at=None)))
    assert [json.dumps(row.item).count("base64") for row in shown] == [1] * 4
