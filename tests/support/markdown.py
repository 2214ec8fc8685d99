"""The code blocks of a document, and what runs them."""

import re
from dataclasses import dataclass

from tests.servers import ROOT

DJANGO_SHELL = "python manage.py shell --verbosity 0"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def runs(self) -> bool:
        return self.language in {"sh", "python", "js"} and not self.text.startswith("make ")

    @property
    def file(self) -> str:
        """The file that it belongs at the end of, when its first line is a comment with a path."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else ""

    @property
    def command(self) -> str:
        """What a shell runs for it."""
        if self.language == "sh":
            return self.text
        if self.language == "js":
            return f"(cd \"$NODE_CLIENTS\" && node --input-type=module -) <<'JS'\n{self.text}JS\n"
        inside_django = re.search(r"^(?:from|import) convo", self.text, re.MULTILINE)
        taken_by = f"cat >> {self.file}" if self.file else DJANGO_SHELL if inside_django else "python -"
        return f"{taken_by} <<'PYTHON'\n{self.text}PYTHON\n"


def blocks(page: str) -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    return [Block(*one) for one in found]
