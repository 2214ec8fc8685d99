"""Count and truncate text by tokens: exactly if the model's tokenizer is installed, else by upper bounds."""

import re
import unicodedata
from functools import lru_cache

from convo.tokens.estimate import upper_bound

try:
    from rs_bpe import openai as encodings
except ImportError:  # optional: without it every model is estimated
    encodings = None

# The chat format's fixed costs, as OpenAI publishes them: each message is wrapped in 3 tokens and its role
# takes one more; every prompt ends with the 3 tokens that open the reply.
MESSAGE_OVERHEAD = 4
REPLY_OVERHEAD = 3

# The longest token is 128 spaces, so a text of `limit` tokens has at most 128 * `limit` code points.
_LONGEST_TOKEN = 128
# Text is counted together with this many characters before it, because it may continue a word there.
_LOOK_BACK = 512
# The longest sequence of joined characters that is never split.
_CLUSTER = 64

_O200K = re.compile(r"(ft:)?(gpt-4o|gpt-4\.1|gpt-5|chatgpt-|o[134](?!\w))")
_CL100K = re.compile(r"(ft:)?(gpt-4(?![\w.])|gpt-3\.5|text-embedding-3)")


def count(text: str, model: str = "") -> int:
    """Return the number of tokens in `text`, never fewer than the model's own tokenizer would count."""
    encoding = encoding_name(model)
    if encoding == "estimate":
        return upper_bound(text)
    tokenizer = encodings.o200k_base() if encoding == "o200k_base" else encodings.cl100k_base()
    try:
        return int(tokenizer.count(text))
    except UnicodeEncodeError:  # no tokenizer can read a lone surrogate, so it counts as U+FFFD
        return int(tokenizer.count(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))


@lru_cache(maxsize=256)
def encoding_name(model: str) -> str:
    """Return the name of the encoding that counts this model's tokens, or `estimate`."""
    if encodings and _O200K.match(model):
        return "o200k_base"
    if encodings and _CL100K.match(model):
        return "cl100k_base"
    return "estimate"


def truncate(text: str, limit: int, model: str = "") -> str:
    """Truncate `text` to at most `limit` tokens, to the exact token, without splitting joined characters."""
    if len(text) <= limit * _LONGEST_TOKEN and count(text, model) <= limit:
        return text
    end, next_end = 0, _extend(text, 0, limit, model)
    while next_end > end:
        end, next_end = next_end, _extend(text, next_end, limit - count(text[:next_end], model), model)
    end = _cluster_boundary(text, end)
    while end and (excess := count(text[:end], model) - limit) > 0:
        end = _cluster_boundary(text, max(0, end - excess))
    return text[:end]


def _extend(text: str, end: int, token_budget: int, model: str) -> int:
    """Return how far `text[:end]` can grow by about `spare` tokens, by bisection of the rest of the text."""
    upper = min(len(text), end + max(0, token_budget) * _LONGEST_TOKEN)
    while end < upper:
        middle = (end + upper + 1) // 2
        context_start = max(0, end - _LOOK_BACK)
        added_tokens = count(text[context_start:middle], model) - count(text[context_start:end], model)
        if added_tokens <= token_budget:
            end, token_budget = middle, token_budget - added_tokens
        else:
            upper = middle - 1
    return end


def _cluster_boundary(text: str, end: int) -> int:
    """Return the nearest position up to `end` that splits no joined characters, such as a family emoji."""
    nearest = end
    while 0 < nearest < len(text) and (_joins(text[nearest]) or text[nearest - 1] == "\u200d"):
        nearest -= 1
        if end - nearest > _CLUSTER:
            return end
    return nearest


def _joins(character: str) -> bool:
    # A mark, a joiner, a flag's tag or a skin tone belongs to the character before it.
    category = unicodedata.category(character)
    return category[0] == "M" or category == "Cf" or "\U0001f3fb" <= character <= "\U0001f3ff"
