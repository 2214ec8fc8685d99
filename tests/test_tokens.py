"""Tokens are counted exactly where the tokenizer is installed, and elsewhere never too few."""

import string
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rs_bpe import openai

from convo import tokens
from convo.tokens.estimate import VOCABULARY
from tests.corpus import CORPUS

pytestmark = [pytest.mark.once, pytest.mark.slow]

MODELS = ("gpt-4o", "gpt-4", "llama3")
ENGLISH = CORPUS["English prose"]

# The estimate over o200k_base, at most; the scripts not named here have few tokens in cl100k_base, for which
# the estimate has to allow, so that it is up to four times what o200k_base counts.
CLOSE = {
    "English prose": 1.3,
    "English chat": 1.25,
    "English technical": 1.65,
    "Python": 1.5,
    "Python, indented": 1.5,
    "JavaScript": 1.5,
    "JavaScript, minified": 1.5,
    "SQL": 1.5,
    "HTML": 1.5,
    "C": 1.5,
    "Rust": 1.5,
    "shell": 1.5,
    "log": 1.3,
    "JSON": 1.3,
    "base64": 1.3,
    "hex": 1.15,
    "UUIDs": 1.2,
    "numbers": 1.1,
    "Chinese": 1.6,
    "Japanese": 1.5,
    "German": 2.1,
    "Russian": 2.3,
    "random ASCII": 1.3,
    "random Unicode": 1.1,
}

anything = st.text(st.characters())
ascii_text = st.text(string.printable, max_size=60)
pieces = st.builds(
    lambda text, start, size: text[start % len(text) :][:size],
    st.sampled_from(list(CORPUS.values())),
    st.integers(0, 10_000),
    st.integers(0, 300),
)
mixed = st.builds(" ".join, st.lists(st.one_of(anything, ascii_text, pieces), max_size=4))


def truth(text: str) -> int:
    """What the greedier of the two real tokenizers counts."""
    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return max(int(openai.o200k_base().count(readable)), int(openai.cl100k_base().count(readable)))


def seconds(act: Callable[[], object]) -> float:
    """Processor seconds, which a busy machine does not stretch."""
    start = time.process_time()
    act()
    return time.process_time() - start


@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_estimate_never_counts_too_few(text: str) -> None:
    assert tokens.count(text) >= truth(text)


@pytest.mark.parametrize("name", CLOSE)
def test_estimate_is_close(name: str) -> None:
    assert tokens.count(CORPUS[name]) <= CLOSE[name] * openai.o200k_base().count(CORPUS[name])


def test_ratios_of_estimate_to_truth(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        name: (tokens.count(text) / openai.o200k_base().count(text), tokens.count(text) / truth(text))
        for name, text in CORPUS.items()
    }
    print(f"\n{'estimate over':24}{'o200k':>8}{'the greater':>13}")
    print("\n".join(f"{name:24}{modern:8.2f}{greater:13.2f}" for name, (modern, greater) in rows.items()))
    assert all(greater >= 1 for _, greater in rows.values())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(anything, ascii_text, pieces, mixed))
@example(":ือ:้อ")
def test_estimate_never_counts_too_few_of_anything(text: str) -> None:
    assert tokens.count(text) >= truth(text)


def test_every_listed_token_is_one_in_both_vocabularies() -> None:
    def listed(section: str) -> list[str]:
        return [token.replace("↵", "\n") for token in VOCABULARY[section].split()]

    four = [form for word in listed("words") for form in (word, word.capitalize())]
    bare = four + listed("loose") + listed("tight")
    spaced = [f" {token}" for token in four + listed("loose") + listed("spaced")]
    single = [*"".join(listed("characters")), *VOCABULARY["invisible"]]
    assert [token for token in bare + spaced + single if truth(token) != 1] == []


def test_listed_blocks_save_a_token_in_both_vocabularies() -> None:
    blocks = [[int(end, 16) for end in block.split("-")] for block in VOCABULARY["cheaper_ranges"].split()]
    inside = [chr(code) for first, last in blocks for code in range(first, last + 1)]
    assert [character for character in inside if truth(character) >= len(character.encode())] == []


@pytest.mark.parametrize(
    ("model", "counted_by"),
    [
        *((model, "o200k_base") for model in ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano", "gpt-5")),
        *((model, "o200k_base") for model in ("gpt-5.1", "o1", "o3-mini", "o4-mini", "chatgpt-4o-latest")),
        *((model, "cl100k_base") for model in ("gpt-4", "gpt-4-turbo", "gpt-3.5-turbo")),
        *((model, "cl100k_base") for model in ("text-embedding-3-small", "ft:gpt-3.5-turbo:acme::7p4")),
        *(
            (model, "estimate")
            for model in ("", "offline", "llama3", "o1000", "gpt-4.5-preview", "my-gpt-4o")
        ),
    ],
)
def test_counter_names_what_counts(model: str, counted_by: str) -> None:
    assert tokens.encoding_name(model) == counted_by


@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_count_is_exact_where_the_tokenizer_is_installed(text: str) -> None:
    assert tokens.count(text, "gpt-4o") == openai.o200k_base().count(text)
    assert tokens.count(text, "gpt-4") == openai.cl100k_base().count(text)


def test_without_the_tokenizer_every_model_is_estimated() -> None:
    code = (
        "import sys; sys.modules['rs_bpe'] = None; from convo import tokens;"
        "print(tokens.encoding_name('gpt-4o'), tokens.count('Hello', 'gpt-4o') == tokens.count('Hello'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["estimate", "True"]


@pytest.mark.parametrize("model", MODELS)
def test_nothing_counts_nothing(model: str) -> None:
    assert tokens.count("", model) == 0
    assert tokens.count("a", model) > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("special", ["<|endoftext|>", "<|im_start|>", "<|fim_prefix|>", "<|endofprompt|>"])
def test_special_tokens_are_plain_text(model: str, special: str) -> None:
    assert tokens.count(special, model) > 2
    assert tokens.count(f"before {special} after", model) > tokens.count("before after", model) + 2


@pytest.mark.parametrize("model", MODELS)
def test_lone_surrogates_are_counted_and_cut(model: str) -> None:
    assert tokens.count("broken \ud83d emoji", model) >= tokens.count("broken emoji", model)
    kept = tokens.truncate("\udc00" * 500, 10, model)
    assert 0 < len(kept) < 500
    assert tokens.count(kept, model) <= 10


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_cut_fits_and_is_the_beginning(text: str, model: str) -> None:
    total = tokens.count(text, model)
    for limit in (1, 7, total // 2, total - 1):
        kept = tokens.truncate(text, limit, model)
        assert text.startswith(kept)
        assert tokens.count(kept, model) <= limit
    assert tokens.truncate(text, total, model) == text


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, deadline=None)
@given(text=mixed, limit=st.integers(-3, 200))
def test_cut_of_anything_fits(model: str, text: str, limit: int) -> None:
    kept = tokens.truncate(text, limit, model)
    assert text.startswith(kept)
    assert tokens.count(kept, model) <= max(0, limit)


@pytest.mark.parametrize("model", MODELS)
def test_cut_keeps_as_much_as_fits(model: str) -> None:
    for limit in (3, 20, 100, 200):
        kept = tokens.truncate(ENGLISH, limit, model)
        assert tokens.count(kept, model) >= limit - 1
        assert tokens.count(ENGLISH[: len(kept) + 20], model) > limit


@pytest.mark.parametrize("limit", [0, -1, -(10**9)])
def test_cut_to_nothing_is_empty(limit: int) -> None:
    assert tokens.truncate(ENGLISH, limit) == ""
    assert tokens.truncate(ENGLISH, 10) != ""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cluster", ["👨‍👩‍👧‍👦", "👍🏽", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "e\u0301\u0302", "❤️"])
def test_cut_tears_no_joined_characters_apart(model: str, cluster: str) -> None:
    text = cluster * 9
    wholes = {cluster * times for times in range(10)}
    assert {tokens.truncate(text, limit, model) for limit in range(tokens.count(text, model) + 1)} <= wholes


def test_cut_of_endless_marks_still_keeps_some() -> None:
    assert len(tokens.truncate("a" + "\u0301" * 5000, 500)) > 200


# The deadlines are about five times what one shared core takes.
ADVERSARIAL = {
    "one letter": "a" * 1_000_000,
    "spaces": " " * 1_000_000,
    "lines": "\r\n" * 500_000,
    "spaces and digits": (" " * 999 + "7") * 1000,
    "marks": "\u0301" * 500_000,
    "almost words": "interna" * 143_000,
    "random ASCII": CORPUS["random ASCII"] * 333,
    "random Unicode": CORPUS["random Unicode"] * 90,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_a_megabyte_of_anything_is_counted_in_linear_time(text: str, model: str) -> None:
    assert seconds(lambda: tokens.count(text, model)) < 5


def test_prose_is_estimated_fast() -> None:
    tokens.count(ENGLISH)
    took = seconds(lambda: tokens.count(ENGLISH * 1500))
    print(f"\n{len(ENGLISH) * 1500 / 1e6 / took:.1f} MB/s")
    assert took < 2


@pytest.mark.parametrize("model", MODELS)
def test_ten_megabytes_are_cut_fast(model: str) -> None:
    text = ENGLISH * 7500
    assert seconds(lambda: tokens.truncate(text, 16_000, model)) < 3
    assert seconds(lambda: tokens.truncate("a" * len(text), 2000, model)) < 3
