"""The memory page: what is known about the visitor and where it comes from, and what they do about it."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.text import Truncator
from django.views.decorators.http import require_http_methods

from convo import memory
from convo.errors import ConvoError, InvalidRequest, NeverStored, NotFound
from convo.http.pages import remembered
from convo.http.pages.door import me, page, refused, show, visitor, written
from convo.models import ME, Person, UserMemory

OF_NO_KIND = "fact"
# What is told after an act stands in a cookie until then: a few words of it, and none of them on the server.
SHORT = 80


@page
@require_http_methods(["GET", "HEAD", "POST"])
def known(request: HttpRequest) -> HttpResponseBase:
    """What Convo knows about the visitor. A POST does what its `act` says."""
    if request.method != "POST":
        return _shown(request)
    try:
        told = _act(request)(request)
    except ConvoError as error:
        return _refused(request, error)
    messages.success(request, told, fail_silently=True)
    return redirect(request.get_full_path())


def _refused(request: HttpRequest, error: ConvoError) -> HttpResponseBase:
    if isinstance(error, NeverStored):
        error = NeverStored("This is never remembered: it is a secret, or one of your rules forbids it.")
    return refused(request, error, lambda error: _shown(request, error))


def _shown(request: HttpRequest, error: ConvoError | None = None) -> HttpResponse:
    context = {
        **remembered.everything(me(request), request.GET),
        "news": messages.get_messages(request),
        "here": request.get_full_path(),
        "error": error,
        "tried": request.POST if error else {},
        "longest": memory.LONGEST_TEXT,
        "longest_rule": memory.LONGEST_RULE,
    }
    return show(request, "convo/memory.html", context, place="memory", status=error.status if error else 200)


def _remember(request: HttpRequest) -> str:
    kind = request.POST.get("kind", "")
    text = _typed(request, "text", memory.LONGEST_TEXT)
    kind = kind if kind in remembered.KINDS else OF_NO_KIND
    row, new = memory.remember(_person(request), text, kind=kind)
    return _told(row, "Remembered" if new else "Known already")


def _correct(request: HttpRequest) -> str:
    text = _typed(request, "text", memory.LONGEST_TEXT)
    return _told(memory.change(_named(request), text=text), "Now it says")


def _pin(request: HttpRequest) -> str:
    return _told(memory.change(_named(request), pinned=True), "Pinned")


def _unpin(request: HttpRequest) -> str:
    return _told(memory.change(_named(request), pinned=False), "No longer pinned")


def _approve(request: HttpRequest) -> str:
    return _told(memory.change(_named(request), approve=True), "Used from now on")


def _forget(request: HttpRequest) -> str:
    row = _named(request)
    memory.forget(row)
    return f"Forgotten: {_short(row.text)}"


def _forget_found(request: HttpRequest) -> str:
    """Forget what the search has found, by the words that it was found by."""
    words = _typed(request, "words", remembered.LONGEST_SEARCH)
    count = memory.forget_matching(_known_person(request), words)
    return f"Forgotten: everything that says {_short(words)} ({count})."


def _forget_all(request: HttpRequest) -> str:
    if request.POST.get("sure") != "yes":
        raise InvalidRequest("Tick the box to say that you are sure: there is no way back.", param="sure")
    return f"Everything is forgotten ({memory.forget_all(_known_person(request))})."


def _rule_out(request: HttpRequest) -> str:
    """Add a rule; from a fact, that fact is forgotten as well."""
    rule = request.POST.get("kind_rule") or _typed(request, "rule", memory.LONGEST_RULE)
    row = _named(request) if "memory" in request.POST else None
    memory.add_rule(_person(request), rule)
    if row is None:
        return f"Never remembered from now on: {remembered.rule_in_words(rule)}."
    memory.forget(row)
    return f"Forgotten, and never remembered from now on: {remembered.rule_in_words(rule)}."


def _allow(request: HttpRequest) -> str:
    rule = request.POST.get("rule", "")
    memory.drop_rule(_known_person(request), rule)
    return f"May be remembered again: {remembered.rule_in_words(rule)}."


ACTS: dict[str, Callable[[HttpRequest], str]] = {
    "remember": _remember,
    "correct": _correct,
    "pin": _pin,
    "unpin": _unpin,
    "approve": _approve,
    "forget": _forget,
    "forget-found": _forget_found,
    "forget-all": _forget_all,
    "rule-out": _rule_out,
    "allow": _allow,
}


def _act(request: HttpRequest) -> Callable[[HttpRequest], str]:
    act = ACTS.get(request.POST.get("act", ""))
    if act is None:
        raise InvalidRequest(f"`act` is one of: {', '.join(ACTS)}.", param="act")
    return act


def _person(request: HttpRequest) -> Person:
    """The visitor; one of whom nothing is known yet is stored with the first thing that is."""
    return me(request) or Person(owner=visitor(request), ref=ME)


def _known_person(request: HttpRequest) -> Person:
    person = me(request)
    if person is None:
        raise NotFound("Nothing is known about you.")
    return person


def _named(request: HttpRequest) -> UserMemory:
    """The visitor's own fact that the form names."""
    row = remembered.one(me(request), request.POST.get("memory", ""))
    if row is None:
        raise NotFound("That one is not known any more.", param="memory")
    return row


def _typed(request: HttpRequest, name: str, most: int) -> str:
    text = written(request, name)
    if not text:
        raise InvalidRequest("Write something first.", param=name)
    if len(text) > most or "\0" in text:
        raise InvalidRequest(f"This takes up to {most} characters of text.", param=name)
    return text


def _told(row: UserMemory, done: str) -> str:
    if row.status == UserMemory.Status.NEEDS_REVIEW:
        return (
            "This reads like an instruction to the model. It is not used until you say so, under “Held back”."
        )
    return f"{done}: {_short(row.text)}"


def _short(text: str) -> str:
    return f"“{Truncator(text).chars(SHORT)}”"
