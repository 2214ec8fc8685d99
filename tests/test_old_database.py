"""A database from before the first release is recognised before anything is migrated, and stays as it is."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import connection

from convo import database
from tests.nursery import begin
from tests.servers import ROOT

pytestmark = pytest.mark.slow

# Made with the last commit that has convo/migrations/0001_initial.py: one user, one question, one reply.
OLD = ROOT / "tests/data/before_0001_convo.sqlite3.gz"


def run(command: list[str], path: Path, folder: Path) -> tuple[int, str]:
    """The exit status of this `manage.py` command on this database, and all that it wrote."""
    log = folder / "log"
    env = {"DATABASE_URL": f"sqlite:///{path}"}
    status = begin(["manage.py", *command], stdout=log, stderr=log, env=env).wait(60)
    return status, log.read_text()


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    with closing(sqlite3.connect(path)) as old:
        names = [name for (name,) in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: old.execute(f'SELECT * FROM "{name}"').fetchall() for name in names if "terms" not in name
        }


@pytest.mark.once
@pytest.mark.parametrize("command", [["migrate", "--verbosity", "0"], ["serve", "--port", "0"]])
def test_the_commands_stop_with_one_sentence_and_change_nothing(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    before = contents(path)
    status, output = run(command, path, tmp_path)
    assert status == 1
    (sentence,) = output.splitlines()
    assert sentence.startswith(f"CommandError: The database {path} is from before Convo's first release")
    assert "set DATABASE_URL to a new database" in sentence
    assert contents(path) == before
    assert "I live in Oslo." in str(before["convo_message"])


@pytest.mark.once
def test_a_new_database_is_migrated(tmp_path: Path) -> None:
    """The positive control."""
    assert run(["migrate", "--verbosity", "0"], tmp_path / "new.sqlite3", tmp_path) == (0, "")


@pytest.mark.django_db
def test_an_old_table_is_seen_in_any_database() -> None:
    database.refuse_old_tables()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE convo_asked (turn_id integer)")
    with pytest.raises(CommandError):
        database.refuse_old_tables()
