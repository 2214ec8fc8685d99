"""The app in somebody else's project: another user model, other settings, no surface of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

SETTINGS = """
SECRET_KEY = "bare"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "people", "convo"]
AUTH_USER_MODEL = "people.Customer"
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": "bare.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE"},
}}
USE_TZ = True
CONVO = {"OFFLINE_WORD_SECONDS": 0}
"""

MODELS = """
import uuid
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models

class Customer(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    objects = BaseUserManager()
    USERNAME_FIELD = "email"
"""

CONVERSATION = """
import django
django.setup()
import convo
from people.models import Customer
ada = Customer.objects.create(email="ada@example.org")
convo.ask(ada, "ticket-7", "My parcel number is 4711.")
print(convo.ask(ada, "ticket-7", "What is my parcel number?"))
"""


@pytest.mark.once
def test_a_bare_project_with_its_own_user_model_has_a_conversation(tmp_path: Path) -> None:
    (tmp_path / "people" / "migrations").mkdir(parents=True)
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "migrations" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(MODELS)
    (tmp_path / "bare.py").write_text(SETTINGS)
    (tmp_path / "talk.py").write_text(CONVERSATION)
    _run(tmp_path, "-m", "django", "makemigrations", "people")
    _run(tmp_path, "-m", "django", "migrate")
    assert "4711" in _run(tmp_path, "talk.py")


def _run(folder: Path, *command: str) -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{folder}", "DJANGO_SETTINGS_MODULE": "bare"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
