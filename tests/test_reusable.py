"""The app in somebody else's project: another user model, other settings, no surface of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

pytestmark = [pytest.mark.once, pytest.mark.slow]

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

SWEEP = """
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from people.models import Customer
import convo
from convo import jobs, turns
from convo.history import NewMessage
from convo.models import ME, Person, Session, Turn, UserMemory

ada = Customer.objects.create(email="ada@example.org")
convo.ask(ada, "ticket-7", "I live in Oslo.")
convo.ask(ada, "ticket-8", "This conversation expires.")
past = timezone.now() - timedelta(hours=1)
Session.objects.filter(ref="ticket-8").update(expires_at=past)
turns.begin(Session.objects.get(ref="ticket-7"), [NewMessage(role="user", content="Hello?")])
Turn.objects.filter(status="running").update(lease_until=past)

def state():
    statuses = list(Turn.objects.filter(session__ref="ticket-7").values_list("status", flat=True))
    expired = Session.objects.filter(ref="ticket-8").count()
    return statuses, expired, list(UserMemory.objects.values_list("text", flat=True))

print(state())
jobs.sweep()
print(state())
"""
# The project's own AppConfig for Convo, which forgets to call the one that it extends.
FORGETFUL = """
from bare import *
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "people", "forgetful.Config"]
"""
CONFIG = """
from convo.apps import ConvoConfig

class Config(ConvoConfig):
    def ready(self):
        pass
"""
REGISTRY = """
import django
django.setup()
from convo.jobs import registry

readers = registry.all_jobs, registry.batch_jobs, registry.quick_batch_jobs, lambda: registry.get_job("a")
for read in readers:
    try:
        print("no error:", read())
    except RuntimeError as error:
        print(error)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project that has no more than it must, with its tables."""
    (tmp_path / "people" / "migrations").mkdir(parents=True)
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "migrations" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(MODELS)
    (tmp_path / "bare.py").write_text(SETTINGS)
    _run(tmp_path, "-m", "django", "makemigrations", "people")
    _run(tmp_path, "-m", "django", "migrate")
    return tmp_path


def test_a_bare_project_with_its_own_user_model_has_a_conversation(project: Path) -> None:
    assert "4711" in _run(project, "-c", CONVERSATION)


def test_a_sweep_from_a_plain_script_of_a_bare_project_does_all_that_is_overdue(project: Path) -> None:
    before, after = _run(project, "-c", SWEEP).splitlines()
    assert before == str((["complete", "running"], 1, []))
    assert after == str((["complete", "failed"], 0, ["Lives in Oslo"]))


def test_a_registry_without_any_work_says_so(project: Path) -> None:
    """A sweep must not take that for having caught up."""
    (project / "forgetful.py").write_text(CONFIG)
    (project / "forgetful_settings.py").write_text(FORGETFUL)
    lines = _run(project, "-c", REGISTRY, settings="forgetful_settings").splitlines()
    assert len(lines) == 4
    assert all(line.startswith("No background work is registered") for line in lines)


def _run(folder: Path, *command: str, settings: str = "bare") -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{folder}", "DJANGO_SETTINGS_MODULE": settings}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
