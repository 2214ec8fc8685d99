"""The memory page: the facts known about the visitor, their sources, and the forms to change them."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.text import Truncator
from django.views.decorators.http import require_http_methods

from convo import memory
from convo.errors import ConvoError, InvalidRequest, MemoryNotAllowed, NotFound
from convo.models import ME, Person, UserMemory
from convo.pages import memory_data
from convo.pages.page import (
    form_text,
    page,
    page_error_response,
    person_of_visitor,
    render_page,
    user_or_guest,
)

DEFAULT_KIND = "fact"
# The message after an act waits in a cookie, and not on the server, so it quotes only this many characters.
MAX_QUOTE_LENGTH = 80


@page
@require_http_methods(["GET", "HEAD", "POST"])
def memory_page(request: HttpRequest) -> HttpResponseBase:
    """Show what Convo knows about the visitor. A POST does what its `act` says."""
    if request.method != "POST":
        return _show_page(request)
    try:
        message = _requested_act(request)(request)
    except ConvoError as error:
        return _show_error(request, error)
    messages.success(request, message, fail_silently=True)
    return redirect(request.get_full_path())


def _show_error(request: HttpRequest, error: ConvoError) -> HttpResponseBase:
    if isinstance(error, MemoryNotAllowed):
        error = MemoryNotAllowed("This is never remembered: it is a secret, or one of your rules forbids it.")
    return page_error_response(request, error, lambda error: _show_page(request, error))


def _show_page(request: HttpRequest, error: ConvoError | None = None) -> HttpResponse:
    context = {
        **memory_data.memory_context(person_of_visitor(request), request.GET),
        "news": messages.get_messages(request),
        "here": request.get_full_path(),
        "error": error,
        "tried": request.POST if error else {},
        "longest": memory.MAX_TEXT_LENGTH,
        "longest_rule": memory.MAX_RULE_LENGTH,
    }
    return render_page(
        request, "convo/memory.html", context, section="memory", status=error.status if error else 200
    )


def _remember(request: HttpRequest) -> str:
    kind = request.POST.get("kind", "")
    text = _required_text(request, "text", memory.MAX_TEXT_LENGTH)
    kind = kind if kind in memory_data.KINDS else DEFAULT_KIND
    fact, is_new = memory.remember(_person_or_new(request), text, kind=kind)
    return _message_about(fact, "Remembered" if is_new else "Already known")


def _correct(request: HttpRequest) -> str:
    text = _required_text(request, "text", memory.MAX_TEXT_LENGTH)
    return _message_about(memory.change(_requested_fact(request), text=text), "Now it says")


def _pin(request: HttpRequest) -> str:
    return _message_about(memory.change(_requested_fact(request), pinned=True), "Pinned")


def _unpin(request: HttpRequest) -> str:
    return _message_about(memory.change(_requested_fact(request), pinned=False), "No longer pinned")


def _approve(request: HttpRequest) -> str:
    return _message_about(memory.change(_requested_fact(request), approve=True), "Used from now on")


def _forget(request: HttpRequest) -> str:
    fact = _requested_fact(request)
    memory.forget(fact)
    return f"Forgotten: {_quote(fact.text)}"


def _forget_found(request: HttpRequest) -> str:
    words = _required_text(request, "words", memory_data.MAX_SEARCH_LENGTH)
    count = memory.forget_matching(_existing_person(request), words)
    return f"Forgotten: everything that says {_quote(words)} ({count})."


def _forget_all(request: HttpRequest) -> str:
    if request.POST.get("sure") != "yes":
        raise InvalidRequest("Tick the box to say that you are sure: this cannot be undone.", param="sure")
    return f"Everything is forgotten ({memory.forget_all(_existing_person(request))})."


def _add_rule(request: HttpRequest) -> str:
    """Add a rule; if the form belongs to a fact, forget that fact as well."""
    rule = request.POST.get("kind_rule") or _required_text(request, "rule", memory.MAX_RULE_LENGTH)
    fact = _requested_fact(request) if "memory" in request.POST else None
    memory.add_rule(_person_or_new(request), rule)
    if fact is None:
        return f"Never remembered from now on: {memory_data.rule_in_words(rule)}."
    memory.forget(fact)
    return f"Forgotten, and never remembered from now on: {memory_data.rule_in_words(rule)}."


def _drop_rule(request: HttpRequest) -> str:
    rule = request.POST.get("rule", "")
    memory.remove_rule(_existing_person(request), rule)
    return f"May be remembered again: {memory_data.rule_in_words(rule)}."


ACTIONS: dict[str, Callable[[HttpRequest], str]] = {
    "remember": _remember,
    "correct": _correct,
    "pin": _pin,
    "unpin": _unpin,
    "approve": _approve,
    "forget": _forget,
    "forget-found": _forget_found,
    "forget-all": _forget_all,
    "rule-out": _add_rule,
    "allow": _drop_rule,
}


def _requested_act(request: HttpRequest) -> Callable[[HttpRequest], str]:
    act = ACTIONS.get(request.POST.get("act", ""))
    if act is None:
        raise InvalidRequest(f"`act` is one of: {', '.join(ACTIONS)}.", param="act")
    return act


def _person_or_new(request: HttpRequest) -> Person:
    """Return the visitor's person; a new one is stored along with its first fact."""
    return person_of_visitor(request) or Person(owner=user_or_guest(request), ref=ME)


def _existing_person(request: HttpRequest) -> Person:
    person = person_of_visitor(request)
    if person is None:
        raise NotFound("Nothing is known about you.")
    return person


def _requested_fact(request: HttpRequest) -> UserMemory:
    fact = memory_data.find_fact(person_of_visitor(request), request.POST.get("memory", ""))
    if fact is None:
        raise NotFound("This fact is not known any more.", param="memory")
    return fact


def _required_text(request: HttpRequest, name: str, max_length: int) -> str:
    text = form_text(request, name)
    if not text:
        raise InvalidRequest("Write something first.", param=name)
    if len(text) > max_length or "\0" in text:
        raise InvalidRequest(f"This takes up to {max_length} characters of text.", param=name)
    return text


def _message_about(fact: UserMemory, prefix: str) -> str:
    if fact.status == UserMemory.Status.NEEDS_REVIEW:
        return (
            "This reads like an instruction to the model. "
            "It is not used until you approve it, under “Held back”."
        )
    return f"{prefix}: {_quote(fact.text)}"


def _quote(text: str) -> str:
    return f"“{Truncator(text).chars(MAX_QUOTE_LENGTH)}”"
