"""The ASGI application: `uvicorn project.asgi:application`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup(set_prefix=False)

from convo.http.asgi import ConvoASGI  # noqa: E402  needs the settings and the models that the line above loads
from convo.http.one_thread import django_application  # noqa: E402

application = ConvoASGI(django_application())
