"""Render replies from Markdown to safe HTML, in which nothing runs and nothing is fetched."""

import re
from collections.abc import Sequence

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

# The page has its own headings above these.
_LOWERED_HEADINGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6"}
_ALLOWED_TAGS = {
    *("p", "br", "hr", "blockquote", "pre", "code", "em", "strong", "s", "a", "ul", "ol", "li"),
    *("h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ALLOWED_ATTRIBUTES = {"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}}
# The sanitizer takes quadratic time for texts and titles with many `&` or characters such as `«`: 4 s for
# 800 kB. So it gets long texts in parts, with an empty element after each, and titles up to this length.
_MAX_SANITIZED_LENGTH = 500
_PART_END = "<wbr>"
_TAG_OR_TEXT_PART = re.compile(rf"<[^>]*>|(?:[^<&]|&[^<;]*;){{1,{_MAX_SANITIZED_LENGTH}}}")
_LANGUAGE_CLASS = re.compile(r"language-[a-z0-9+#.-]{1,30}\Z", re.IGNORECASE)


def to_html(text: str) -> SafeString:
    """Render Markdown as HTML that is safe on a page; HTML in the text itself is shown as text."""
    # There are two lines of defence: the renderer lets no HTML through, and its output is sanitized too.
    sanitized_html = nh3.clean(
        _TAG_OR_TEXT_PART.sub(_end_part, _renderer.render(text)),
        tags=_ALLOWED_TAGS | {"wbr"},
        attributes=_ALLOWED_ATTRIBUTES,
        attribute_filter=_filter_attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(sanitized_html.replace(_PART_END, ""))


def _end_part(match: re.Match[str]) -> str:
    is_long_text = match[0][0] != "<" and len(match[0]) >= _MAX_SANITIZED_LENGTH
    return match[0] + _PART_END if is_long_text else match[0]


def _filter_attribute(tag: str, name: str, value: str) -> str | None:
    if name == "title":
        return value[:_MAX_SANITIZED_LENGTH]
    # Only the class for the language of code is kept, so that a reply can't use the page's own classes.
    return value if name != "class" or _LANGUAGE_CLASS.match(value) else None


def _link_to_image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """Render an image as a link, so that viewing the page tells no other server about its reader."""
    token = tokens[index]
    text = Token("text", "", 0, content=token.content or "image")
    link = Token("link_open", "a", 1, attrs={"href": str(token.attrGet("src") or "")})
    return renderer.render([link, text, Token("link_close", "a", -1)], options, env)


def _build_renderer() -> MarkdownIt:
    renderer = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    renderer.add_render_rule("image", _link_to_image)
    renderer.core.ruler.push("headings", lambda state: _lower_headings(state.tokens))
    return renderer


def _lower_headings(tokens: Sequence[Token]) -> None:
    for token in tokens:
        token.tag = _LOWERED_HEADINGS.get(token.tag, token.tag)


_renderer = _build_renderer()
