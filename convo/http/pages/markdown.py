"""Replies as they are meant: Markdown in, clean HTML out. Nothing in it runs, and nothing is fetched."""

import re
from collections.abc import Sequence

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

# A page has headings of its own above these.
_DEEPER = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6"}
_TAGS = {
    *("p", "br", "hr", "blockquote", "pre", "code", "em", "strong", "s", "a", "ul", "ol", "li"),
    *("h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}}
_LANGUAGE = re.compile(r"language-[a-z0-9+#.-]{1,30}\Z", re.IGNORECASE)


def html(text: str) -> SafeString:
    """This Markdown as HTML that is safe on a page; markup in the text itself is shown as text."""
    # Two fences: the renderer lets no markup through, and what it made is cleaned all the same.
    return mark_safe(
        nh3.clean(
            _renderer.render(text),
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            attribute_filter=_kept,
            url_schemes={"http", "https", "mailto"},
            link_rel="noopener noreferrer nofollow",
        )
    )


def _kept(tag: str, name: str, value: str) -> str | None:
    """Of classes only the one that names the language of code: no other name of the page's can be taken."""
    return value if name != "class" or _LANGUAGE.match(value) else None


def _link_to_image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """An image as a link: who looks at a page is told to nobody by it."""
    token = tokens[index]
    alone = Token("text", "", 0, content=token.content or "image")
    link = Token("link_open", "a", 1, attrs={"href": str(token.attrGet("src") or "")})
    return renderer.render([link, alone, Token("link_close", "a", -1)], options, env)


def _made() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    made.add_render_rule("image", _link_to_image)
    made.core.ruler.push("headings", lambda state: _lower(state.tokens))
    return made


def _lower(tokens: Sequence[Token]) -> None:
    for token in tokens:
        token.tag = _DEEPER.get(token.tag, token.tag)


_renderer = _made()
