"""Regular expressions in TOML files, where people who speak another language can add to them."""

import tomllib
from pathlib import Path
from typing import Any


def load_patterns(name: str) -> dict[str, Any]:
    """Load a file of this package, with the file's `[parts]` in place of their names in braces."""
    tables = tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return {key: _fill(value, tables["parts"]) for key, value in tables.items()}


def _fill(value: object, parts: dict[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _fill(item, parts) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, parts) for item in value]
    pattern = str(value)
    # A part contains only parts above it.
    for name in reversed(parts):
        pattern = pattern.replace(f"{{{name}}}", parts[name])
    return pattern.replace("\n", "")
