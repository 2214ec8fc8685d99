"""Measurements, each beside a floor of the same run; no `.env` and no shell has a say in their settings."""

import os

import django
from django.apps import apps

if not apps.ready:
    os.environ.update(
        CONVO_DOTENV="0",
        SECRET_KEY="a fixed key, for measurements only, and long enough for every check",
        # With DEBUG a server remembers its statements, whose cost is no figure of production.
        DEBUG="0",
        HTTPS="0",
        ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
    )
    # A server that may not keep what it has compiled takes twice as long to start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
