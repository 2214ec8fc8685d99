"""A wrong setting is refused at the start, by a sentence that names the variable."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

pytestmark = [pytest.mark.once, pytest.mark.slow]

GOOD = {"SECRET_KEY": "long enough for a test", "DEBUG": "0", "CONVO_DOTENV": "0"}


def check(env: dict[str, str], *, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """`manage.py check` with this environment alone."""
    return subprocess.run(
        [sys.executable, str(cwd / "manage.py"), "check"],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"DEBUG": "yes", "CONVO_GUESTS": "on", "PORT": "65535"},
        {"CONVO_LEASE_SECONDS": "2.5", "DATABASE_URL": "postgresql://me:secret@db.example:5432/convo"},
        {"REDIS_URL": "redis://cache.example/0", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
    ],
)
def test_right_values_are_taken(env: dict[str, str]) -> None:
    ran = check(GOOD | env)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("env", "redis_only"),
    [
        ({"REDIS_URL": "redis://store.example"}, True),
        ({"CELERY_BROKER_URL": "rediss://store.example/3"}, True),
        ({"CELERY_BROKER_URL": "amqp://me:secret@rabbit.example//"}, False),
        ({"CELERY_BROKER_URL": "amqps://rabbit.example//", "REDIS_URL": "redis://store.example"}, False),
        ({"CELERY_BROKER_URL": "", "REDIS_URL": "redis://store.example"}, None),
        ({}, None),
    ],
)
def test_each_kind_of_broker_gets_its_own_options(env: dict[str, str], redis_only: bool | None) -> None:
    """RabbitMQ needs no Redis beside it; None: there is no broker, and nothing is handed to one."""
    program = (
        "import json; from project import settings; from project.celery import app; "
        "app.connection_for_write().transport; "
        "print(json.dumps([settings.CONVO['DELIVER'], app.conf.broker_url or '', "
        "'visibility_timeout' in app.conf.broker_transport_options]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **GOOD, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    deliver, url, options = json.loads(ran.stdout)
    assert deliver == ("" if redis_only is None else "convo.tasks.send")
    assert url == (env.get("CELERY_BROKER_URL") or ("redis://store.example/1" if redis_only else ""))
    assert options is bool(redis_only)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "maybe"),
        ("PORT", "abc"),
        ("PORT", "0"),
        ("PORT", "80.5"),
        ("PORT", "65536"),
        ("DATABASE_URL", "mysql://localhost/convo"),
        ("DATABASE_URL", "postgresql://localhost"),
        ("DATABASE_URL", "postgresql://localhost:port/convo"),
        ("DATABASE_URL", "sqlite://"),
        ("REDIS_URL", "http://localhost"),
        ("OPENAI_BASE_URL", "localhost:8080"),
        ("CONVO_LEASE_SECONDS", "-1"),
        ("CONVO_LEASE_SECONDS", "nan"),
        ("CONVO_LEASE_SECONDS", "1"),
        ("CONVO_MAX_BODY", "10 MB"),
        ("CONVO_GUESTS", "1"),
        ("CONVO_BROWSABLE_API", "some"),
        ("SECRET_KEY", ""),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: str) -> None:
    ran = check(GOOD | {name: value})
    assert ran.returncode != 0
    assert name in ran.stderr.strip().splitlines()[-1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of this project, with a `.env` file of its own."""
    shutil.copy(ROOT / "manage.py", tmp_path)
    for folder in ("convo", "project", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".env").write_text("# written by hand\n\nSECRET_KEY='from the file'\nPORT=abc\n")
    return tmp_path


def test_the_dotenv_file_is_read(copy: Path) -> None:
    assert "PORT='abc'" in check({}, cwd=copy).stderr


def test_the_environment_goes_before_the_dotenv_file(copy: Path) -> None:
    ran = check({"PORT": "8001"}, cwd=copy)
    assert ran.returncode == 0, ran.stderr


def test_the_dotenv_file_can_be_left_out(copy: Path) -> None:
    assert "SECRET_KEY is not set" in check({"CONVO_DOTENV": "0"}, cwd=copy).stderr
