"""The figures of a run: tables, targets, and the files that show them."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.charts import bars, lines

ROOT = Path(__file__).resolve().parent.parent
# The README's table stands between two of these.
MARK = "<!-- make bench -->"
FOLDER = ROOT / "docs" / "performance"
OURS = ("Django", "djangorestframework", "uvicorn", "psycopg", "openai-agents", "aiohttp")

Cell = str | float | int


@dataclass
class Table:
    """Figures of one kind, a row each. `bars` names the columns that a chart shows, row by row."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    bars: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        self.rows.append(list(cells))


@dataclass
class Target:
    """A promise of the issue, and what was measured. `is_met` is None where nothing could be measured."""

    operation: str
    measured: str
    target: str
    is_met: bool | None


@dataclass
class Chart:
    """Values over time or size: a line for each name."""

    title: str
    x_label: str
    x: list[float]
    lines: dict[str, list[float]]


@dataclass
class Section:
    """A part of the run that can also be run alone."""

    name: str
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    # For the README: what was measured, Convo's figure, and those of the others.
    headlines: list[list[str]] = field(default_factory=list)
    seconds: float = 0
    when: str = ""

    def expect(self, operation: str, measured: str, target: str, is_met: bool | None) -> None:
        self.targets.append(Target(operation, measured, target, is_met))

    def at_least(self, operation: str, value: float, minimum: float, unit: str = "×") -> None:
        self.expect(operation, f"{format_cell(value)} {unit}", f"≥ {minimum:g} {unit}", value >= minimum)

    def at_most(self, operation: str, value: float, maximum: float, unit: str = "×") -> None:
        self.expect(operation, f"{format_cell(value)} {unit}", f"≤ {maximum:g} {unit}", value <= maximum)


def ratio(value: float, other: float) -> float:
    return value / other if other else 0.0


def format_cell(cell: Cell) -> str:
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else cell
    if cell and abs(cell) < 0.095:
        return f"{cell:.3f}"
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"


def mark(target: Target) -> str:
    return {True: "met", False: "not met", None: "not measured"}[target.is_met]


def rows_of(section: Section) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each table as text, its targets last: a title, and rows of which the first is the heading."""
    for table in section.tables:
        yield table.title, [table.columns, *([format_cell(cell) for cell in row] for row in table.rows)]
    if section.targets:
        heading = ["target", "measured", "target value", ""]
        rows = [[each.operation, each.measured, each.target, mark(each)] for each in section.targets]
        yield "Targets", [heading, *rows]


def print_section(section: Section) -> None:
    print(f"\n== {section.name} ({section.seconds:.0f} s, load {os.getloadavg()[0]:.1f})")
    for title, rows in rows_of(section):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        print(f"\n{title}")
        for row in rows:
            first = row[0].ljust(widths[0])
            print("  " + "  ".join([first, *map(str.rjust, row[1:], widths[1:])]).rstrip())
    for note in section.notes:
        print(f"  {note}")
    sys.stdout.flush()


def markdown(section: Section, folder: Path) -> str:
    parts = [f"## {section.name.capitalize()}", *section.notes]
    for title, (heading, *rows) in rows_of(section):
        ruler = ["---", *["---:"] * (len(heading) - 1)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in (heading, ruler, *rows))
        parts.append(f"**{title}**\n\n{table}")
    parts += [
        f"Kept beside it: [{section.name}-{name}.txt]({section.name}-{name}.txt)." for name in section.texts
    ]
    charts = sorted(path.name for path in charts_of(section, folder))
    parts += [f"![{name.removesuffix('.svg')}]({name})" for name in charts]
    return "\n\n".join(parts)


def charts_of(section: Section, folder: Path) -> Iterable[Path]:
    # The name of another section may begin with this one's.
    return folder.glob(f"{section.name}-[0-9]*.svg")


def write_charts(section: Section, folder: Path) -> None:
    for old in charts_of(section, folder):
        old.unlink()
    number = 0
    for table in section.tables:
        for column in table.bars:
            number += 1
            values = [(str(row[0]), row[table.columns.index(column)]) for row in table.rows]
            numbers = [(name, float(value)) for name, value in values if not isinstance(value, str)]
            text = bars(f"{table.title}: {column}", numbers)
            (folder / f"{section.name}-{number}.svg").write_text(text, encoding="utf-8")
    for chart in section.charts:
        number += 1
        text = lines(chart.title, chart.x_label, chart.x, chart.lines)
        (folder / f"{section.name}-{number}.svg").write_text(text, encoding="utf-8")


def write(sections: Sequence[Section], folder: Path, peers: dict[str, str]) -> None:
    """Write these sections beside the older ones that were not run: JSON, a page with the tables, charts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "figures.json"
    older: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    figures = {**older.get("sections", {})}
    figures |= {each.name: {**asdict(each), "texts": dict.fromkeys(each.texts, "")} for each in sections}
    document = {"machine": machine(), "versions": {**older.get("versions", {}), **versions(), **peers}}
    text = json.dumps({**document, "sections": figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    for section in sections:
        write_charts(section, folder)
        for name, text in section.texts.items():
            (folder / f"{section.name}-{name}.txt").write_text(text, encoding="utf-8")
    every = [read_section(fields) for fields in figures.values()]
    write_page(folder, document, every)
    if folder == FOLDER:
        write_readme(ROOT / "README.md", every)


def write_readme(path: Path, sections: Sequence[Section]) -> None:
    """Replace the table between the two marks by the headlines of these sections."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARK)
    _, _, after = rest.partition(MARK)
    rows = [["In one run", "Convo", "Others"], ["---"] * 3]
    rows += [row for section in sections for row in section.headlines]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    path.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}", encoding="utf-8")


def read_section(fields: dict[str, Any]) -> Section:
    kinds = {"tables": Table, "targets": Target, "charts": Chart}
    inner = {name: [kind(**each) for each in fields[name]] for name, kind in kinds.items()}
    return Section(**{**fields, **inner})


def write_page(folder: Path, document: dict[str, Any], sections: Sequence[Section]) -> None:
    version_text = ", ".join(f"{name} {text}" for name, text in sorted(document["versions"].items()))
    head = [
        "# The last measurements",
        "`make bench` writes this page. [How it is measured](index.md) says what the figures mean.",
        f"Machine: {document['machine']}. Versions: {version_text}.",
    ]
    parts = [*head, *(markdown(section, folder) for section in sections)]
    (folder / "figures.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def machine() -> str:
    cores, memory = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    process = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {"Convo": process.stdout.strip() or "unknown", **{name: version(name) for name in OURS}}


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
