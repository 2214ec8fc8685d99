"""The ASGI application: `uvicorn project.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
_django = get_asgi_application()

from convo.http.asgi import ConvoASGI  # noqa: E402  needs the settings and the models that the line above loads

application = ConvoASGI(_django)
