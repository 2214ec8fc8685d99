"""tests/mutants.toml fits the code, so that `make mutants` breaks what it says it breaks."""

import re
import tomllib

import pytest

from tests.mutants import ENTRIES, ROOT, Mutant

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def mutants() -> list[Mutant]:
    return [Mutant(**entry) for entry in tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["mutant"]]


def test_every_edit_can_be_made(mutants: list[Mutant]) -> None:
    assert [misfit for mutant in mutants if (misfit := mutant.misfit())] == []


def test_the_tests_that_must_notice_are_there(mutants: list[Mutant]) -> None:
    missing = []
    for test in {test for mutant in mutants for test in mutant.tests}:
        path, *names = test.partition("[")[0].split("::")
        source = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
        found = [re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE) for name in names]
        if not source or not all(found):
            missing.append(test)
    assert missing == []


def test_an_edit_that_fits_nowhere_or_twice_is_told() -> None:
    there = {"promise": "p", "file": "convo/errors.py", "replace": "", "tests": []}
    assert "0 times" in Mutant(**there, find="this is nowhere").misfit()  # type: ignore[arg-type]
    assert "not once" in Mutant(**there, find="class ").misfit()  # type: ignore[arg-type]
    assert Mutant(**there, find="class ConvoError(").misfit() == ""  # type: ignore[arg-type]
