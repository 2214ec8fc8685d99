"""The addresses of the pages."""

from django.urls import path

from convo.http.pages import acts, chat, conversations, door, memory, search, sign

urlpatterns = [
    path("", chat.chat, name="chat"),
    path("c/<uuid:id>/", chat.chat, name="conversation"),
    path("c/<uuid:id>/clear/", acts.clear, name="clear"),
    path("c/<uuid:id>/fork/<int:position>/", acts.fork, name="fork"),
    path("c/<uuid:id>/turns/<int:number>/stop/", acts.stop, name="stop"),
    path("c/<uuid:id>/turns/<int:number>/again/", acts.again, name="again"),
    path("c/<uuid:id>/turns/<int:number>/edit/", acts.edit, name="edit"),
    path("c/<uuid:id>/turns/<int:number>/choose/", acts.choose, name="choose"),
    path("c/<uuid:id>/turns/<int:number>/feedback/", acts.feedback, name="feedback"),
    path("c/<uuid:id>/turns/<int:number>/context/", chat.inspect, name="inspect"),
    path("c/<uuid:id>/rename/", conversations.rename, name="rename"),
    path("c/<uuid:id>/archive/", conversations.archive, name="archive"),
    path("c/<uuid:id>/delete/", conversations.delete, name="delete"),
    path("c/<uuid:id>/undo/", conversations.undo, name="undo"),
    path("c/<path:rest>", door.missing),
    path("conversations/", conversations.conversations, name="conversations"),
    path("search/", search.search, name="search-page"),
    path("memory/", memory.known, name="memory"),
    path("sign-in/", sign.sign_in, name="sign-in"),
    path("sign-up/", sign.sign_up, name="sign-up"),
    path("sign-out/", sign.sign_out, name="sign-out"),
]
