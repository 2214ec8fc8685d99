"""Measure the language and the shape of `convo/` against `tests/style.toml`.

    python -m tests.style                      print all figures; fail where one is beyond its limit
    python -m tests.style --show participles   list what a figure counts

A limit is only ever lowered.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent

CONFIG = tomllib.loads((ROOT / "tests/style.toml").read_text(encoding="utf-8"))
LIMITS: dict[str, dict[str, float]] = CONFIG["limits"]
POINTING = frozenset(CONFIG["words"]["pointing"].split())
TECHNICAL = frozenset(CONFIG["words"]["technical"].split())
BANNED = frozenset(CONFIG["words"]["banned"].split())

OPENINGS = re.compile(
    r"(what|where|who|whom|whose|whoever|whatever|how|let|so|is|are|does|do|did|has|have|was|were|why|when)\b",
    re.IGNORECASE,
)
NO_COMMENT = re.compile(r"#\s*(noqa|type:|pragma|fmt:|!)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package."""

    path: str
    text: str

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in self.nodes if isinstance(node, Function)]

    @cached_property
    def names(self) -> list[tuple[str, int]]:
        """Every name that this file binds, and the line where it does."""
        found: list[tuple[str, int]] = []
        for node in self.nodes:
            if isinstance(node, Function | ast.ClassDef):
                found.append((node.name, node.lineno))
            elif isinstance(node, ast.arg):
                found.append((node.arg, node.lineno))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.append((node.id, node.lineno))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.append((node.attr, node.lineno))
        return found

    @cached_property
    def docstrings(self) -> list[tuple[str, int]]:
        documented = (ast.Module, ast.ClassDef, *Function.__args__)
        nodes = [node for node in self.nodes if isinstance(node, documented)]
        texts = [(ast.get_docstring(node), getattr(node, "lineno", 1)) for node in nodes]
        return [(text, line) for text, line in texts if text]

    @cached_property
    def comments(self) -> list[tuple[str, int]]:
        """The comments; lines that follow one another are one comment."""
        found: list[tuple[str, int]] = []
        end = -1
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type != tokenize.COMMENT or NO_COMMENT.match(token.string):
                continue
            line, words = token.start[0], token.string.lstrip("# ").strip()
            alone = not token.line[: token.start[1]].strip()
            if alone and line == end + 1:
                found[-1] = f"{found[-1][0]} {words}", found[-1][1]
            else:
                found.append((words, line))
            end = line if alone else -1
        return found

    @cached_property
    def annotations(self) -> list[ast.expr]:
        found: list[ast.expr | None] = []
        for node in self.nodes:
            if isinstance(node, ast.arg | ast.AnnAssign):
                found.append(node.annotation)
            elif isinstance(node, Function):
                found.append(node.returns)
        return [annotation for annotation in found if annotation]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@dataclass(frozen=True)
class Figure:
    """A number, and what was counted for it, each with its place."""

    value: float
    examples: Sequence[str] = ()


def is_pointing(name: str) -> bool:
    """Return whether a name is a bare participle, or a word that doesn't say which thing it stands for."""
    word = name.strip("_")
    word = word[:1].lower() + word[1:]
    # Constants, and class names of several words, say more than the participle in them.
    if "_" in word or word != word.lower():
        return False
    return word in POINTING or (word.endswith("ed") and len(word) > 3 and word not in TECHNICAL)


def opens_badly(text: str) -> bool:
    """Return whether a text opens with a relative word, or its first sentence is a question."""
    sentence = re.split(r"(?<=[.?!])\s|\n\n", text.strip(), maxsplit=1)[0]
    return bool(OPENINGS.match(text.strip())) or sentence.endswith("?")


def percentage(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def participles(sources: Sequence[Source]) -> Figure:
    names = [(source.path, name, line) for source in sources for name, line in source.names]
    bad = [f"{path}:{line} {name}" for path, name, line in names if is_pointing(name)]
    return Figure(percentage(len(bad), len(names)), bad)


def banned_names(sources: Sequence[Source]) -> Figure:
    bad = [
        f"{source.path}:{line} {name}"
        for source in sources
        for name, line in source.names
        if name.strip("_").lower() in BANNED
    ]
    return Figure(len(bad), bad)


def bad_docstrings(sources: Sequence[Source]) -> Figure:
    return _badly_opened(sources, lambda source: source.docstrings)


def bad_comments(sources: Sequence[Source]) -> Figure:
    return _badly_opened(sources, lambda source: source.comments)


def _badly_opened(sources: Sequence[Source], texts: Callable[[Source], Sequence[tuple[str, int]]]) -> Figure:
    everything = [(source.path, *text) for source in sources for text in texts(source)]
    bad = [f"{path}:{line} {text.splitlines()[0]}" for path, text, line in everything if opens_badly(text)]
    return Figure(percentage(len(bad), len(everything)), bad)


def repeated_classes(sources: Sequence[Source]) -> Figure:
    """Class names of modules that stand for two classes or more; Django's own Meta is none of them."""
    places: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{source.path}:{node.lineno}")
    # Django looks for this class in each of its command modules.
    places.pop("Command", None)
    bad = [f"{name} {' '.join(where)}" for name, where in places.items() if len(where) > 1]
    return Figure(len(bad), bad)


def documented_functions(sources: Sequence[Source]) -> Figure:
    functions = [(source.path, node) for source in sources for node in source.functions]
    documented = [f"{path}:{node.lineno} {node.name}" for path, node in functions if ast.get_docstring(node)]
    return Figure(percentage(len(documented), len(functions)), documented)


def any_annotations(sources: Sequence[Source]) -> Figure:
    annotations = [(source.path, annotation) for source in sources for annotation in source.annotations]
    bad = [
        f"{path}:{annotation.lineno} {ast.unparse(annotation)}"
        for path, annotation in annotations
        if any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation))
    ]
    return Figure(percentage(len(bad), len(annotations)), bad)


def imports_of(source: Source, modules: set[str]) -> set[str]:
    """Return the modules among these that a source imports; of `from package import name`, the module."""
    found = set()
    for node in source.nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module}
            if names - modules:
                found.add(node.module)
    return (found & modules) - {source.module}


def single_importers(sources: Sequence[Source]) -> Figure:
    """Modules that exactly one other module imports. A package that only passes a name on doesn't count."""
    modules = {source.module for source in sources}
    importers: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        for module in imports_of(source, modules):
            if not (source.is_package and module.startswith(source.module + ".")):
                importers[module].add(source.module)
    bad = [f"{module} <- {min(by)}" for module, by in sorted(importers.items()) if len(by) == 1]
    return Figure(len(bad), bad)


def import_cycles(sources: Sequence[Source]) -> Figure:
    """Modules that reach themselves through their imports."""
    modules = {source.module for source in sources}
    graph = {source.module: imports_of(source, modules) for source in sources}
    # A package re-exports its own modules, which may import one another.
    graph = {
        module: {other for other in others if not other.startswith(module + ".")}
        for module, others in graph.items()
    }
    bad = [module for module in sorted(graph) if module in _reachable(graph, module)]
    return Figure(len(bad), bad)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph.get(module, ())
    return seen


def lazy_imports(sources: Sequence[Source]) -> Figure:
    bad = [
        f"{source.path}:{node.lineno}"
        for source in sources
        for function in source.functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return Figure(len(bad), bad)


def biggest_package(sources: Sequence[Source]) -> Figure:
    """The share of all lines that stand in the biggest package below `convo/`."""
    lines: Counter[str] = Counter()
    for source in sources:
        lines[source.path.split("/")[1]] += source.lines
    packages = [f"{name} {count}" for name, count in lines.most_common()]
    return Figure(percentage(max(lines.values()), lines.total()), packages)


def median_file(sources: Sequence[Source]) -> Figure:
    longest = sorted(sources, key=lambda source: -source.lines)
    return Figure(median(source.lines for source in sources), [f"{s.path} {s.lines}" for s in longest])


def function_lengths(sources: Sequence[Source]) -> list[tuple[int, str]]:
    """Return the lines of each function, its decorators and docstring included, the longest first."""
    found = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{source.path}:{node.lineno} {node.name}")
        for source in sources
        for node in source.functions
    ]
    return sorted(found, reverse=True)


def median_function(sources: Sequence[Source]) -> Figure:
    lengths = function_lengths(sources)
    return Figure(median(length for length, _ in lengths), [f"{place} {length}" for length, place in lengths])


def long_functions(sources: Sequence[Source]) -> Figure:
    lengths = function_lengths(sources)
    ninth = quantiles([length for length, _ in lengths], n=10)[8] if len(lengths) > 1 else lengths[0][0]
    return Figure(ninth, [f"{place} {length}" for length, place in lengths if length >= ninth])


FIGURES: dict[str, tuple[str, Callable[[Sequence[Source]], Figure]]] = {
    "participles": ("names that are bare participles or pointing words, %", participles),
    "banned_names": ("names that the glossary replaced", banned_names),
    "bad_docstrings": ("docstrings that open with a relative word or ask, %", bad_docstrings),
    "bad_comments": ("comments that open with a relative word or ask, %", bad_comments),
    "repeated_classes": ("class names used twice", repeated_classes),
    "documented_functions": ("functions with a docstring, %", documented_functions),
    "any_annotations": ("annotations with Any, %", any_annotations),
    "single_importers": ("modules with one importer", single_importers),
    "biggest_package": ("lines in the biggest package, %", biggest_package),
    "median_file": ("median file, lines", median_file),
    "median_function": ("median function, lines", median_function),
    "long_functions": ("90th percentile of functions, lines", long_functions),
    "import_cycles": ("modules in an import cycle", import_cycles),
    "lazy_imports": ("imports inside of functions", lazy_imports),
}


def read_sources(folder: Path = ROOT / "convo") -> list[Source]:
    paths = sorted(path for path in folder.rglob("*.py") if "migrations" not in path.parts)
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def complaints(figures: dict[str, float], limits: dict[str, dict[str, float]]) -> Iterator[str]:
    for name in FIGURES:
        low, high = limits[name].get("least", 0), limits[name]["most"]
        if not low <= figures[name] <= high:
            yield f"{name} is {figures[name]:g}, not {low:g} to {high:g}: see --show {name}"


def main(options: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--show", choices=FIGURES)
    show = parser.parse_args(options).show
    sources = read_sources()
    if show:
        print(*FIGURES[show][1](sources).examples, sep="\n")
        return 0
    figures = {name: measure(sources).value for name, (_, measure) in FIGURES.items()}
    for name, (title, _) in FIGURES.items():
        print(f"{figures[name]:8g}  at most {LIMITS[name]['most']:<6g} {title}")
    print(f"{sum(source.lines for source in sources):8d}  lines in {len(sources)} files")
    found = list(complaints(figures, LIMITS))
    print(*found, sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
