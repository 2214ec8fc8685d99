"""Count and cut text by tokens: exactly where the model's tokenizer is installed, else never too few."""

import re
import unicodedata

from convo.tokens.estimate import at_most

try:
    from rs_bpe import openai as exact
except ImportError:  # optional: without it every model is estimated
    exact = None

# The chat format's fixed costs, as OpenAI publishes them: each message is wrapped in 3 tokens and its role
# takes one more; every prompt ends with the 3 tokens that open the reply.
MESSAGE_OVERHEAD = 4
REPLY_OVERHEAD = 3

# The longest token, 128 spaces: what has `limit` tokens has no more code points than that many times `limit`.
_LONGEST_TOKEN = 128
# How far a cut looks back, so that what follows is counted together with the word that it continues.
_LOOK_BACK = 512
# The longest cluster of joined characters that a cut keeps whole.
_CLUSTER = 64

_O200K = re.compile(r"(ft:)?(gpt-4o|gpt-4\.1|gpt-5|chatgpt-|o[134](?!\w))")
_CL100K = re.compile(r"(ft:)?(gpt-4(?![\w.])|gpt-3\.5|text-embedding-3)")


def count(text: str, model: str = "") -> int:
    """How many tokens `text` has; never less than the model's own tokenizer would count."""
    encoding = counter(model)
    if encoding == "estimate":
        return at_most(text)
    tokenizer = exact.o200k_base() if encoding == "o200k_base" else exact.cl100k_base()
    try:
        return int(tokenizer.count(text))
    except UnicodeEncodeError:  # a lone surrogate, which no tokenizer can read: counted as the sign for that
        return int(tokenizer.count(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))


def counter(model: str) -> str:
    """What counts for this model: the name of its vocabulary, or `estimate`."""
    if exact and _O200K.match(model):
        return "o200k_base"
    if exact and _CL100K.match(model):
        return "cl100k_base"
    return "estimate"


def cut(text: str, limit: int, model: str = "") -> str:
    """The longest beginning of `text`, to a token, that counts at most `limit`, joined characters whole."""
    if len(text) <= limit * _LONGEST_TOKEN and count(text, model) <= limit:
        return text
    end, reached = 0, _reach(text, 0, limit, model)
    while reached > end:
        end, reached = reached, _reach(text, reached, limit - count(text[:reached], model), model)
    end = _whole(text, end)
    while end and (excess := count(text[:end], model) - limit) > 0:
        end = _whole(text, max(0, end - excess))
    return text[:end]


def _reach(text: str, end: int, spare: int, model: str) -> int:
    """How far `text[:end]` can grow by about `spare` tokens: halves what is left, and counts only that."""
    beyond = min(len(text), end + max(0, spare) * _LONGEST_TOKEN)
    while end < beyond:
        middle = (end + beyond + 1) // 2
        behind = max(0, end - _LOOK_BACK)
        more = count(text[behind:middle], model) - count(text[behind:end], model)
        if more <= spare:
            end, spare = middle, spare - more
        else:
            beyond = middle - 1
    return end


def _whole(text: str, end: int) -> int:
    """The nearest place at or before `end` that tears no joined characters, such as a family emoji, apart."""
    nearest = end
    while 0 < nearest < len(text) and (_joins(text[nearest]) or text[nearest - 1] == "\u200d"):
        nearest -= 1
        if end - nearest > _CLUSTER:
            return end
    return nearest


def _joins(character: str) -> bool:
    """Does this character belong to the one before it: a mark, a joiner, a flag's tag, a skin tone?"""
    kind = unicodedata.category(character)
    return kind[0] == "M" or kind == "Cf" or "\U0001f3fb" <= character <= "\U0001f3ff"
