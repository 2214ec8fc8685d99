"""Measurements, each beside a floor of the same run, with settings that no `.env` has a say in."""

import os

import django
from django.apps import apps

if not apps.ready:
    os.environ.setdefault("CONVO_DOTENV", "0")
    os.environ.setdefault("SECRET_KEY", "a fixed key, for measurements only, and long enough for every check")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
