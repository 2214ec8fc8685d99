"""The URLs of the pages."""

from django.urls import path

from convo.pages import actions, auth, chat, conversations, memory, page, search

urlpatterns = [
    path("", chat.chat, name="chat"),
    path("c/<uuid:id>/", chat.chat, name="conversation"),
    path("c/<uuid:id>/clear/", actions.clear, name="clear"),
    path("c/<uuid:id>/fork/<whole:position>/", actions.fork, name="fork"),
    path("c/<uuid:id>/turns/<whole:number>/stop/", actions.stop, name="stop"),
    path("c/<uuid:id>/turns/<whole:number>/again/", actions.regenerate, name="again"),
    path("c/<uuid:id>/turns/<whole:number>/edit/", actions.edit, name="edit"),
    path("c/<uuid:id>/turns/<whole:number>/choose/", actions.choose, name="choose"),
    path("c/<uuid:id>/turns/<whole:number>/feedback/", actions.feedback, name="feedback"),
    path("c/<uuid:id>/turns/<whole:number>/context/", chat.inspect, name="inspect"),
    path("c/<uuid:id>/rename/", conversations.rename, name="rename"),
    path("c/<uuid:id>/archive/", conversations.archive, name="archive"),
    path("c/<uuid:id>/delete/", conversations.delete, name="delete"),
    path("c/<uuid:id>/undo/", conversations.undo, name="undo"),
    path("c/<path:rest>", page.not_found),
    path("conversations/", conversations.conversations, name="conversations"),
    path("search/", search.search, name="search-page"),
    path("memory/", memory.memory_page, name="memory"),
    path("sign-in/", auth.sign_in, name="sign-in"),
    path("sign-up/", auth.sign_up, name="sign-up"),
    path("sign-out/", auth.sign_out, name="sign-out"),
    path("favicon.ico", page.favicon),
]
