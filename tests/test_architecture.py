"""The house stays a house: imports point down, third parties live in one room each, names say something.

Each rule is a function from a file (its path and source) to complaints. It reads every file of the project,
and a bad source written for it, so that a rule that has gone blind fails too.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.support.floors import FLOORS

ROOT = Path(__file__).resolve().parent.parent


CACHE_ROOMS = {"convo.history", "convo.events", "convo.http.health", "project.settings"}
FENCES = {
    "openai": {"convo.llm"},
    # The OpenAI Agents SDK.
    "agents": set(),
    "celery": {"convo.tasks", "project.celery"},
    "yaml": {"convo.agents"},
    "wordllama": {"convo.search.embed"},
    "Stemmer": {"convo.search.words"},
    "numpy": {"convo.search"},
    "rest_framework": {"convo.http", "convo.openai_api", "convo.rest"},
    "drf_spectacular": {"convo.http", "convo.openai_api", "convo.rest"},
    "django.core.cache": CACHE_ROOMS,
    "django_redis": CACHE_ROOMS,
    "redis": CACHE_ROOMS,
}

SAYS_NOTHING = {"services", "utils", "helpers", "base", "mixins", "managers", "handlers"}
MOST_LINES = 320
# Tables more than modules: every setting, and every error, in one file.
LONGER = {"project/settings.py": 400}
# Django looks for a database backend under this name.
GIVEN_NAMES = {"project/postgres/base.py"}

Rule = Callable[[str, str], list[str]]


def module_of(path: str) -> str:
    """The dotted name of a file: `convo/rest.py` is convo.rest, a package is its own name."""
    return ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The entry of FLOORS that a module of convo belongs to: convo.rest lives in http."""
    return [*module.split("."), "__init__"][1]


def imports(source: str) -> Iterator[str]:
    """The dotted names that a source imports; both readings of `from x import y`, for y may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "JOB_PACKAGES":
            yield from ast.literal_eval(node.value)


def within(name: str, *rooms: str) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def has_a_floor(path: str, source: str) -> list[str]:
    room = room_of(module_of(path))
    known = not within(module_of(path), "convo") or room in FLOORS
    return [] if known else [f"{path}: give {room!r} a floor in FLOORS"]


def imports_point_down(path: str, source: str) -> list[str]:
    module = module_of(path)
    if not within(module, "convo"):
        return []
    here = room_of(module)
    below = {room for room, floor in FLOORS.items() if floor < FLOORS.get(here, 0)}
    wanted = {room_of(name) for name in imports(source) if within(name, "convo")}
    # `from convo import ask` reads the package itself, which is no room of its own.
    wanted = {room if room in FLOORS else "__init__" for room in wanted}
    return [f"{path}: {here} may not import {room}" for room in sorted(wanted - below - {here})]


def the_app_knows_no_project(path: str, source: str) -> list[str]:
    if not within(module_of(path), "convo"):
        return []
    return [f"{path}: imports {name}" for name in imports(source) if within(name, "project", "tests")]


def third_parties_stay_in_their_rooms(path: str, source: str) -> list[str]:
    module = module_of(path)
    return [
        f"{path}: {name} belongs in {', '.join(sorted(rooms))}"
        for name in imports(source)
        for party, rooms in FENCES.items()
        if within(name, party) and not within(module, *rooms)
    ]


def tasks_are_for_celery_alone(path: str, source: str) -> list[str]:
    if path in {"project/celery.py", "convo/tasks.py"}:
        return []
    return [f"{path}: imports {name}" for name in imports(source) if within(name, "convo.tasks")]


def imports_are_plain(path: str, source: str) -> list[str]:
    """No relative, lazy or type-only import: what a file needs stands at its top."""
    tree = ast.parse(source)
    complaints = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            complaints.append(f"{path}:{node.lineno}: relative import")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            complaints += [
                f"{path}:{inner.lineno}: import inside {node.name}()"
                for inner in ast.walk(node)
                if isinstance(inner, ast.Import | ast.ImportFrom)
            ]
        if isinstance(node, ast.alias) and node.name == "TYPE_CHECKING":
            complaints.append(f"{path}:{node.lineno}: TYPE_CHECKING")
        if isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING":
            complaints.append(f"{path}:{node.lineno}: TYPE_CHECKING")
    return complaints


def only_the_app_config_imports_by_name(path: str, source: str) -> list[str]:
    """An import by a computed name is invisible to readers and to the other rules."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func)
    ]
    computed = [call for call in calls if not isinstance(call.args[0], ast.Constant)]
    return [f"{path}:{call.lineno}: imports by name" for call in computed if path != "convo/apps.py"]


def names_say_something(path: str, source: str) -> list[str]:
    parts = () if path in GIVEN_NAMES else PurePosixPath(path).with_suffix("").parts
    return [f"{path}: {part!r} says nothing" for part in parts if part in SAYS_NOTHING]


def files_are_short(path: str, source: str) -> list[str]:
    lines = len(source.splitlines())
    if lines <= LONGER.get(path, MOST_LINES):
        return []
    return [f"{path}: {lines} lines; split it by the reader's question"]


# Each rule with sources that break it and one that keeps it.
RULES: list[tuple[Rule, list[tuple[str, str]], tuple[str, str]]] = [
    (
        has_a_floor,
        [("convo/novelty.py", ""), ("convo/novelty/part.py", "")],
        ("convo/rest.py", ""),
    ),
    (
        imports_point_down,
        [
            ("convo/llm.py", "from convo import turns"),
            ("convo/llm.py", "import convo.history"),
            ("convo/turns.py", "from convo.http.answer import answer"),
            ("convo/admin.py", "from convo import rest"),
            ("convo/models/turn.py", "from convo import ask"),
            ("convo/context.py", "def f():\n    from convo.turns import begin"),
            ("convo/llm.py", "JOB_PACKAGES = ('convo.turns',)"),
        ],
        ("convo/rest.py", "from convo import turns\nfrom convo.http.answer import answer"),
    ),
    (
        the_app_knows_no_project,
        [("convo/apps.py", "from project import settings"), ("convo/llm.py", "import tests.upstream")],
        ("convo/apps.py", "from django.conf import settings"),
    ),
    (
        third_parties_stay_in_their_rooms,
        [
            ("convo/turns.py", "import openai"),
            ("convo/openai_api.py", "from openai.types import Model"),
            ("convo/llm.py", "from agents import Agent"),
            ("convo/jobs.py", "from celery import shared_task"),
            ("convo/conf.py", "import yaml"),
            ("convo/models/turn.py", "from rest_framework import serializers"),
            ("convo/context.py", "from django.core.cache import cache"),
            ("convo/context.py", "from django.core import cache"),
            ("convo/memory.py", "from importlib import import_module\nimport_module('wordllama')"),
            ("convo/memory.py", "import numpy as np"),
            ("convo/rest.py", "import redis.asyncio"),
            ("project/urls.py", "from django_redis import get_redis_connection"),
        ],
        ("convo/http/health.py", "import redis\nfrom rest_framework import views\nfrom convo import agents"),
    ),
    (
        tasks_are_for_celery_alone,
        [("convo/jobs.py", "from convo.tasks import run"), ("project/urls.py", "from convo import tasks")],
        ("project/celery.py", "from convo import tasks"),
    ),
    (
        imports_are_plain,
        [
            ("convo/turns.py", "from . import history"),
            ("convo/turns.py", "def f():\n    if 1:\n        import os"),
            ("convo/turns.py", "async def f():\n    from os import path"),
            ("convo/turns.py", "from typing import TYPE_CHECKING"),
            ("convo/turns.py", "import typing\nif typing.TYPE_CHECKING:\n    import os"),
        ],
        ("convo/turns.py", "import os\nfrom convo import history"),
    ),
    (
        only_the_app_config_imports_by_name,
        [("convo/jobs.py", "from importlib import import_module\nimport_module(name)")],
        (
            "convo/apps.py",
            "from importlib import import_module\nfor name in JOB_PACKAGES:\n    import_module(name)",
        ),
    ),
    (
        names_say_something,
        [("convo/utils.py", ""), ("convo/helpers/text.py", ""), ("convo/models/managers.py", "")],
        ("convo/models/turn.py", ""),
    ),
    (
        files_are_short,
        [("convo/turns.py", "pass\n" * (MOST_LINES + 1))],
        ("convo/turns.py", "pass\n" * MOST_LINES),
    ),
]


def project_files() -> list[tuple[str, str]]:
    paths = [path for folder in ("convo", "project") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}
    return [(path, source) for path, source in found.items() if not path.startswith("convo/migrations/")]


@pytest.mark.once
@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.__name__) for rule, _, _ in RULES])
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert [complaint for path, source in project_files() for complaint in rule(path, source)] == []


@pytest.mark.once
@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        pytest.param(rule, *bad, id=f"{rule.__name__}-{n}")
        for rule, bads, _ in RULES
        for n, bad in enumerate(bads)
    ],
)
def test_the_rule_sees_what_breaks_it(rule: Rule, path: str, source: str) -> None:
    assert rule(path, source) != []


@pytest.mark.once
@pytest.mark.parametrize(
    ("rule", "path", "source"), [pytest.param(rule, *good, id=rule.__name__) for rule, _, good in RULES]
)
def test_the_rule_lets_pass_what_keeps_it(rule: Rule, path: str, source: str) -> None:
    assert rule(path, source) == []


@pytest.mark.once
def test_the_rules_read_the_real_files() -> None:
    assert {"convo/errors.py", "convo/conf.py", "project/settings.py"} <= {
        path for path, _ in project_files()
    }


@pytest.mark.once
def test_the_rules_know_no_module_that_is_not_there() -> None:
    modules = {module_of(path) for path, _ in project_files()}
    assert {f"convo.{room}" for room in FLOORS} - {"convo.__init__"} <= modules
    assert set().union(*FENCES.values()) <= modules
