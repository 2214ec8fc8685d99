"""The reference says what the code says: its tables are compared with the code, its links are followed."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from convo import agents
from convo.errors import ConvoError
from tests.servers import ROOT
from tests.support.floors import FLOORS
from tests.support.markdown import blocks

pytestmark = pytest.mark.once

PAGES = [
    "README.md",
    "CHANGELOG.md",
    *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")),
]
READS_A_VARIABLE = {"text", "flag", "number", "whole"}


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the page's table with this heading, without code marks."""
    lines = iter(read(page).splitlines())
    for line in lines:
        if cells(line)[:1] == [heading]:
            break
    next(lines)
    return [cells(line) for line in rows_until_blank(lines)]


def rows_until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []


def bare(cell: str) -> str:
    return cell.strip("`")


def variables() -> dict[str, str | None]:
    """What settings.py reads: each variable with its default, None where that is worked out."""
    found: dict[str, str | None] = {"CONVO_DOTENV": None}
    for node in ast.walk(ast.parse(read("project/settings.py"))):
        match node:
            case ast.Call(ast.Name(helper), [ast.Constant(name), *others], keywords):
                defaults = [*others, *(option.value for option in keywords if option.arg == "default")]
                if helper in READS_A_VARIABLE:
                    found[str(name)] = _told(defaults[0]) if defaults else ""
    return found


def _told(default: ast.expr) -> str | None:
    if not isinstance(default, ast.Constant):
        return None
    return str(int(default.value)) if isinstance(default.value, bool) else str(default.value)


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    shown = {bare(name): default for name, default, _meaning in table("README.md", "Variable")}
    read_by_settings = variables()
    assert shown.keys() == read_by_settings.keys()
    wrong = {
        name: (shown[name], default)
        for name, default in read_by_settings.items()
        if default and bare(shown[name]) != default
    }
    assert wrong == {}


def test_every_error_is_in_the_reference_as_it_is_told() -> None:
    def tree(kind: type[ConvoError]) -> Iterator[tuple[str, str, str, str]]:
        yield str(kind.status), kind.code, kind.type, kind.__doc__ or ""
        for sub in kind.__subclasses__():
            if sub.__module__ == ConvoError.__module__:
                yield from tree(sub)

    shown = [
        (row[0], bare(row[1]), bare(row[2]), row[3]) for row in table("docs/reference/errors.md", "Status")
    ]
    assert shown == sorted(set(tree(ConvoError)))


def test_every_key_of_an_agent_is_in_the_reference_with_its_default() -> None:
    fields = {name: field.default for name, field in agents.Agent.model_fields.items() if name != "name"}
    shown = {bare(row[0]): row[1] for row in table("docs/reference/agents-yaml.md", "Key")}
    assert shown.keys() == fields.keys()
    numbers = {
        name: json.dumps(default) for name, default in fields.items() if isinstance(default, int | float)
    }
    assert {name: bare(shown[name]) for name in numbers} == numbers
    top = {bare(row[0]) for row in table("docs/reference/agents-yaml.md", "Top-level key")}
    assert top == {*agents.Agents.model_fields, "defaults"}


def test_every_call_is_in_the_reference(client: Client) -> None:
    paths = client.get("/api/schema/?format=json").json()["paths"]
    calls = {
        f"{method.upper()} {path.replace('{session}', '{id}')}"
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/api/")
    }
    assert set(re.findall(r"^## ([A-Z]+ /\S+)$", read("docs/reference/rest-api.md"), re.MULTILINE)) == calls


def test_every_event_is_in_the_reference() -> None:
    code = read("convo/rest/reply.py")
    sent = re.findall(r'(?:frame\(\w.*?, |\[\(|\), \()"([\w.]+)"', code)
    sent += re.findall(r"event: (\w+)\\n", code)
    assert {bare(row[0]) for row in table("docs/reference/rest-api.md", "Event")} == set(sent)


@pytest.mark.parametrize("file", ["requirements.txt", "tests/requirements.txt"])
def test_every_requirement_has_its_reason(file: str) -> None:
    page = read("docs/decisions/0008-dependencies.md")
    section = page.partition(f"## {file}")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    required = re.findall(r"^([A-Za-z][\w-]*)(?=\[|==)", read(file), re.MULTILINE)
    assert shown == required


def test_the_floors_in_the_readme_are_those_that_are_enforced() -> None:
    there = {path.stem for path in (ROOT / "convo").iterdir()}
    enforced = {(name, floor) for name, floor in FLOORS.items() if name in there and name != "__init__"}
    rows = table("README.md", "Floor")
    assert {(name, int(row[0])) for row in rows for name in re.findall(r"`(\w+)`", row[1])} == enforced


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_are_valid(page: str) -> None:
    targets = set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`", read(page))) <= targets
    for block in blocks(page):
        if block.language == "yaml":
            agents.parse(block.text)
        if block.language == "ini":
            assert set(re.findall(r"^(\w+)=", block.text, re.MULTILINE)) <= variables().keys()


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """The links to files of ours, or to places in them, behind which there is nothing."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if re.match(r"\w+:", file):
            continue
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert broken_links(ROOT / page, read(page)) == []


def test_a_broken_link_is_seen() -> None:
    good = "[a](README.md) [b](README.md#settings) [c](https://nowhere.example/x) [d](#settings)\n"
    bad = "[a](no.md) [b](README.md#no) [c](#there)\n"
    assert broken_links(ROOT / "README.md", good) == []
    assert broken_links(ROOT / "README.md", bad) == ["no.md", "README.md#no", "#there"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", read("README.md"))}
    assert set(PAGES) - {"README.md"} <= linked
