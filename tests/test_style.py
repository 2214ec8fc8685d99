"""The figures of tests/style.py see what they are about, and `convo/` keeps its limits."""

from collections.abc import Sequence

import pytest

from tests.style import FIGURES, LIMITS, Source, complaints, read_sources

pytestmark = pytest.mark.once

GOOD = Source(
    "convo/turns/claim.py", "from convo import errors\n\n\ndef begin(session):\n    return session\n"
)
ERRORS = Source("convo/errors.py", "BAD = 1\n")

# What a figure counts, and the same in good style.
SAMPLES: dict[str, tuple[Sequence[Source], Sequence[Source]]] = {
    "participles": (
        [Source("convo/a.py", "told = 1\n")],
        [Source("convo/a.py", "told_at = is_queued = 1\n")],
    ),
    "banned_names": ([Source("convo/a.py", "def _kept(): ...\n")], [GOOD]),
    "bad_docstrings": (
        [Source("convo/a.py", '"""What is to be had."""\n'), Source("convo/b.py", '"""Is it had?"""\n')],
        [Source("convo/a.py", '"""Messages that fit the budget. Whatever else there is stays."""\n')],
    ),
    "bad_comments": (
        [Source("convo/a.py", "# So that it is\n# had.\nx = 1  # noqa: E501\n")],
        [Source("convo/a.py", "# PostgreSQL refuses NUL bytes.\nx = 1  # type: ignore\n")],
    ),
    "repeated_classes": (
        [Source("convo/a.py", "class Page: ...\n"), Source("convo/b.py", "class _Page: ...\n")],
        [Source(f"convo/{name}.py", "class Command: ...\n") for name in "ab"],
    ),
    "documented_functions": ([Source("convo/a.py", 'def f():\n    """Return one."""\n')], [GOOD]),
    "any_annotations": (
        [Source("convo/a.py", "def f(x: dict[str, Any]) -> None: ...\n")],
        [Source("convo/a.py", "def f(x: dict[str, int]) -> None: ...\n")],
    ),
    "single_importers": (
        [GOOD, ERRORS],
        [GOOD, ERRORS, Source("convo/b.py", "from convo.errors import BAD\n")],
    ),
    "import_cycles": (
        [Source("convo/a.py", "import convo.b\n"), Source("convo/b.py", "from convo import a\n")],
        [Source("convo/a/__init__.py", "from convo.a import b\n"), Source("convo/a/b.py", "import os\n")],
    ),
    "lazy_imports": ([Source("convo/a.py", "def f():\n    import os\n")], [GOOD]),
    "biggest_package": ([GOOD], [GOOD, ERRORS]),
    "median_file": ([GOOD], [ERRORS]),
    "median_function": ([Source("convo/a.py", "def f():\n    x = 1\n    return x\n")], [GOOD]),
    "long_functions": ([Source("convo/a.py", "def f():\n    x = 1\n    return x\n")], [GOOD]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_counts_what_it_is_about(name: str) -> None:
    bad, good = SAMPLES[name]
    _, measure = FIGURES[name]
    assert measure(bad).value > measure(good).value
    assert measure(bad).examples


def test_comments_that_follow_one_another_are_one() -> None:
    source = Source("convo/a.py", "# One\n# two\n\n# three\nx = 1  # four\n# five\n")
    assert source.comments == [("One two", 1), ("three", 4), ("four", 5), ("five", 6)]


def test_a_figure_beyond_its_limit_is_told() -> None:
    figures = dict.fromkeys(FIGURES, 0.0)
    limits = {name: {"most": 1.0} for name in FIGURES}
    assert list(complaints(figures, limits)) == []
    assert "banned_names is 2" in next(complaints(figures | {"banned_names": 2}, limits))
    limits["documented_functions"] = {"least": 30, "most": 45}
    assert "documented_functions is 0" in next(complaints(figures, limits))


def test_the_house_keeps_its_limits() -> None:
    sources = read_sources()
    assert len(sources) > 200
    figures = {name: measure(sources).value for name, (_, measure) in FIGURES.items()}
    assert list(complaints(figures, LIMITS)) == []


def test_each_figure_has_a_limit() -> None:
    assert LIMITS.keys() == FIGURES.keys()
