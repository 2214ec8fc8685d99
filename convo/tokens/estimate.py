"""Estimate the tokens for models whose tokenizer is not installed. The estimate is an upper bound."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from convo.tokens.vocabulary import LOOSE, SPACED, TIGHT, WORDS

# Characters that are one token in both encodings. INVISIBLE holds those that are invisible on their own.
CHARACTERS = r"""
¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¹º»¼½¾¿ÀÁÂÃÄÇÉÍÎÐÑÓÖ×ÚÜßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýāăąćčĐđēęěğīİıłńōőœřśşšţťūůűźżžơư
șțəɵάέήίαβγδεηθικλμνοπρςστυφχωόЂАБВГДЕЗИКЛМНОПРСТУФЦЧЭЯабвгдежзийклмнопрстуфхцчшщъыьэюяёіאבדהוחילמנערשת،أإاب
ةتثجحخدذرزسشصضطظعغفقكلمنهوىيپکگیंकतनपमरलसहािीुेोনরািেிுกขคงจชณดตถทนบปผพมยรลวสหอะัาำิีืเแใไ็์ាạảấầẩậắặếềểệỉịọ
ỏốồổỗộớờởợụủứửữự‐‑–—―‘’‚“”„†•…‰′″›※₂€™←↑→↓−─━│═║╗╝█░■►●★☆☴♀♥♪✔⠀、。《》「」『』【】〜あいうえおかがきくけこ
ごさざしじすせそただちっつてでとどなにのはばまみめもやよらりるれろわをんアィイウェエオカキクグコサシジスズセ
タダチッテデトドナニバパビピフブプペポマムメャュョラリルレロン・ー一万三上下不与专业东两个中串为主么义之也书
了事二于五些交产享京人亿今介从他付代以们件价任份企优会传但位体何余作你使例供価保信修倍值停像元先入全公共关其
具内円册再写出击分列则初利别到制前力功加务动動包化北区十午华单南即历原去县参及友反发取变口只可台右号司合同名
后向否含听启告员周命和品哈商問器四回因国图土在地场址型城基報場填增声处备复外多大天失头女好如始子字存学安宋完
定实审客家容密对导将小少尔就局展山岁州工左已市布常平年并广序库应店度建开异式引张当录形影径待後得微心必志态思
性总息您情意感成我或户所手打找技投报拉持指按换据排接推提播支收改放政效数整文料断新方族无日时明易星是時景更最
月有服期木未本机权束条来板构析果查标样核格案检模次款止正此步歳段每比民気水求江汽没治法注活流海消清游源火点無
然片版物特率环现球理生用由电男画界番登的监目直相省看県真知码确示社票私种科秒称移程稍税稿空立站章端笑符第等签
简算管箱米类系素索约级线组经结给络统编网置美老考者而联能自至色节英藏行表装西要見见规视角解言計記話読计认议记
论设证评试话询该详语误说请读调象责败账货购费资起超路身车转软载辑输达过运近还这进连述退送选通速造連道邮部都配
释里重量金钟钮链销错键长開間関门闭问间队阳陆限院除雅集雷需非面音页项预频题额首验高黑가간값개거게결경고공과구
그글기나내는능니다당대도동되된드든들디라래러력로록료류른를름리만메면명목문미버번보복부분비사산상색생서성세션
소수스습시식신아야어에여열오와요용우운원위으은을음의이인일임입자작장재적전정제져조주지진째체출치크태터턴트튼
하한할함해호화환회️！（），－．／０１２３４５６７８９：；＞？＾～･￥
"""
INVISIBLE = (
    "\u0080\u0092\u00a0\u00ad\u0300\u0301\u064e\u064f\u0650\u0651\u0652\u094d\u09cd\u0bcd\u0d4d\u0e38\u0e39"
    "\u0e48\u0e49\u200b\u200c\u200e\u3000\ufeff"
)

# Ranges of code points that take at least one token less than their UTF-8 bytes.
CHEAPER_RANGES = """
900-aff b80-ebf f00-f7f 1000-103f 10c0-10ff 1780-17ff 1e80-1eff 2000-20bf 2100-21bf 2200-227f 2440-247f
2500-267f 2700-27bf 3000-30ff 3140-317f 4e00-507f 50c0-50ff 5140-547f 54c0-55bf 56c0-577f 57c0-597f
59c0-59ff 5b40-5cbf 5dc0-607f 60c0-613f 6200-63ff 6440-64bf 6500-687f 68c0-68ff 6940-697f 6b00-6f3f
7040-707f 7100-713f 7200-727f 7380-743f 7500-757f 7640-777f 7840-78bf 7900-7bff 7c40-7cbf 7d00-7d7f
7e80-7fbf 8000-80ff 81c0-837f 83c0-843f 8640-867f 8840-88ff 8980-8abf 8b40-8dff 8f40-90ff 91c0-91ff
9300-933f 9480-977f 9800-98ff 9980-99bf 9a40-9a7f 9ec0-9eff 9f80-9fbf ac00-acff ad40-ad7f adc0-ae7f
b080-b0bf b100-b17f b280-b2ff b340-b37f b3c0-b43f b4c0-b53f b780-b87f b8c0-b8ff b940-b9ff ba40-babf
bbc0-bc3f bc80-bcff bd80-bdbf be00-be3f c080-c1bf c280-c2ff c540-c7bf c800-c83f c900-c93f c980-c9ff
cc00-cc3f cc80-ccbf cd80-cdbf ce40-ce7f d040-d07f d0c0-d13f d280-d2bf d300-d33f d540-d57f d600-d67f
f080-f0bf fe00-fe3f ff00-ffff 11400-1143f 11700-1173f 15300-1533f 19080-190bf 1a300-1a33f 1b100-1b13f
1d000-1dfff 1e2c0-1e2ff 1f000-1ffff
"""


# A text is covered with tiles, from left to right, each the longest that fits. A tile is a token of both
# o200k_base and cl100k_base, so this counts like a byte-pair tokenizer with a smaller vocabulary: no fewer.
# A run of any length up to the given one is a token of its own in both.
_RUNS = (
    r"'(?:[sdmtSDMT]|ll|ve|re)"  # cl100k_base splits these off, whatever follows: 's|omething
    r"| {1,78}(?= \S)| {2,79}|\t{1,20}|(?:\r?\n){1,2}|\n{1,10}"
    r"|={2,16}|-{2,16}| ?(?:={2,5}|-{2,8}|\*{2,5}|\.{2,6}|_{2,5}|\#{2,5}|/{2,4})"
)
# A word is a tile only at its end, or before a common ending: amid other letters, merging often splits it.
_WORD_ENDS = r"(?:(?<=[a-zß-ÿ])(?=(?:s|es|d|ed|ing|ly|er|ers)?(?![a-zß-ÿ]))|(?<=[A-Z])(?![A-Za-z]))"
# After ASCII, no tile begins with a combining mark: the mark's bytes merge with the character before it.
_NOT_AFTER_ASCII = r"(?<![\x00-\x7f])"
_ASCII = r"[0-9]{1,3}| ?[!-/:-@\[-`{-~]| [A-Za-z]|[\x00-\x7f]"

# Merging by rank sometimes gives more tokens than tiling: one or two in a short text, and less than 1 % in a
# long one (measured on random letters, characters and pieces of the tests' corpus).
_MARGIN = 100


def upper_bound(text: str) -> int:
    """Return an upper bound of the tokens in `text`, valid for both vocabularies."""
    if not text:
        return 0
    rare_characters = _tile_pattern().findall(text)
    # The pattern's only group matches a character that no tile covers.
    tiles = len(rare_characters) + _extra_cost("".join(rare_characters))
    return tiles + tiles // _MARGIN + 1


def _extra_cost(characters: str) -> int:
    # Each of these characters is already counted once. A byte-level tokenizer needs at most a token for each
    # of its UTF-8 bytes, and one less if it knows a pair of these bytes.
    return (
        len(characters.encode("utf-8", "surrogatepass"))
        - len(characters)
        - len(_cheaper_characters().findall(characters))
    )


@cache
def _tile_pattern() -> re.Pattern[str]:
    words = WORDS.split()
    loose = words + [word.capitalize() for word in words] + _parse_tokens(LOOSE)
    sections = ((" ?", loose), (" ", _parse_tokens(SPACED)), ("", _parse_tokens(TIGHT)))
    word_patterns = [start + _any_of(filter(_is_word, tokens)) + _WORD_ENDS for start, tokens in sections]
    part_patterns = [
        after + start + _any_of(parts)
        for start, tokens in sections
        for after, is_mark in (("", False), (_NOT_AFTER_ASCII, True))
        if (parts := [part for part in tokens if not _is_word(part) and _is_mark(part[0]) == is_mark])
    ]
    single_character = "[" + re.escape("".join(CHARACTERS.split()) + INVISIBLE) + "]"
    return re.compile(
        "|".join((_RUNS, *word_patterns, *part_patterns, _ASCII, single_character, "(.)")), re.DOTALL
    )


@cache
def _cheaper_characters() -> re.Pattern[str]:
    numbers = re.sub(r"[0-9a-f]+", lambda number: chr(int(number[0], 16)), CHEAPER_RANGES)
    return re.compile("[" + "".join(numbers.split()) + "]")


def _parse_tokens(section: str) -> list[str]:
    return [token.replace("↵", "\n") for token in section.split()]


def _is_word(token: str) -> bool:
    return len(token) > 3 and token.isalpha() and token < "\u0250"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _any_of(tokens: Iterable[str]) -> str:
    # The tree writes shared beginnings once, and makes the pattern match the longest token.
    tree: dict[str, list[str]] = {}
    for token in tokens:
        tree.setdefault(token[:1], []).append(token[1:])
    is_optional = tree.pop("", None) is not None
    branches = [re.escape(first) + _any_of(rest) for first, rest in tree.items() if any(rest)]
    leaves = re.escape("".join(first for first, rest in tree.items() if not any(rest)))
    if leaves:
        branches.append(f"[{leaves}]")
    if not branches:
        return ""
    # A lookahead at one character avoids trying many branches in vain.
    lookahead = f"(?=[{re.escape(''.join(tree))}])" if len(branches) > 8 else ""
    return f"(?:{lookahead}(?:{'|'.join(branches)}))" + ("?" if is_optional else "")
