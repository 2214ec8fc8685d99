"""What axe-core holds against a page: the rules of accessibility that a program can check."""

from pathlib import Path

from playwright.sync_api import Page

# What keeps somebody out, in axe's words.
GRAVE = {"serious", "critical"}
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations"""


def violations(page: Page, node_clients: Path) -> list[str]:
    """What is seriously wrong with the page as it is now: the rule, and where it is broken."""
    # Given to the page by the browser itself, which no Content-Security-Policy forbids.
    page.evaluate((node_clients / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    return [
        f"{found['id']}: {found['help']}: {node['target']} {node['html'][:200]}"
        for found in page.evaluate(RUN)
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]
