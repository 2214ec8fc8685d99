"""The documentation, tried: its commands and snippets run, and its answers come as they are shown.

Of a page's code blocks `sh`, `python` and `js` are run in their order, as one session; a `text` or `json`
block behind one of them is what it must print, where … stands for anything. Other blocks are for the eye.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest

from tests.backends import KEPT
from tests.conftest import Serve
from tests.mutants import copied
from tests.servers import ROOT, database_url
from tests.support.markdown import Block, blocks

pytestmark = [pytest.mark.once, pytest.mark.slow]

SHOWN = "http://127.0.0.1:8000"
INSTALL_SECONDS = 600
BETWEEN_STEPS = "\036"

PAGES = [
    "README.md",
    "docs/quickstart.md",
    "docs/how-to/serve-end-users.md",
    "docs/how-to/append-messages.md",
    "docs/how-to/images-and-files.md",
    "docs/how-to/memories.md",
    "docs/reference/rest-api.md",
]
CLIENTS = [
    "docs/how-to/openai-python.md",
    "docs/how-to/openai-node.md",
    "docs/how-to/openai-agents.md",
    "docs/how-to/langchain.md",
    "docs/how-to/ai-sdk.md",
]


def steps(page: str) -> Iterator[tuple[Block, Block | None]]:
    """The blocks to run, each with the one that shows what it prints, if there is one."""
    every = blocks(page)
    for block, then in zip(every, [*every[1:], None], strict=True):
        if block.runs:
            yield block, then if then and then.language in {"text", "json"} else None


def follow(page: str, folder: Path, env: dict[str, str], *, url: str = SHOWN) -> None:
    """Do all that the page says, in this folder, and compare what comes with what the page shows."""
    script = "".join(f"{block.command}\nprintf '\\036'\n" for block, _ in steps(page))
    ran = subprocess.run(
        ["bash", "-eu"],
        input=script.replace(SHOWN, url).replace(".venv/bin/", ""),
        cwd=folder,
        env={**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    printed = ran.stdout.replace(url, SHOWN).split(BETWEEN_STEPS)
    for (block, shown), came in zip(steps(page), printed, strict=False):
        if shown:
            assert as_shown(shown, came), f"{block.text}\nprints\n\n{came}\nand not\n\n{shown.text}"


def as_shown(shown: Block, came: str) -> bool:
    if shown.language == "json":
        return same_json(json.loads(shown.text), json.loads(came))
    return same_text(shown.text.strip(), came.strip())


def same_json(shown: Any, came: Any) -> bool:
    if shown == "…":
        return True
    if isinstance(shown, dict) and isinstance(came, dict):
        return shown.keys() == came.keys() and all(same_json(shown[key], came[key]) for key in shown)
    if isinstance(shown, list) and isinstance(came, list):
        return len(shown) == len(came) and all(map(same_json, shown, came))
    return bool(shown == came)


def same_text(shown: str, came: str) -> bool:
    first, *others = shown.split("…")
    if not others:
        return shown == came
    place = len(first)
    for part in others[:-1]:
        found = came.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return came.startswith(first) and came[place:].endswith(others[-1])


@pytest.mark.parametrize(
    ("shown", "came", "same"),
    [
        ("a … c", "a b\nb c", True),
        ("a … c", "a b", False),
        ("a…b…c", "a c b", False),
        ("a…b…c", "a b b c", True),
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("ab…ba", "aba", False),
    ],
)
def test_dots_stand_for_anything_and_nothing_else_does(shown: str, came: str, same: bool) -> None:
    assert same_text(shown, came) is same
    assert same_json({"a": ["…", shown]}, {"a": [1, came]}) is (shown == came)


@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_says_can_be_done(page: str, serve: Serve, tmp_path: Path) -> None:
    settings = {"CONVO_OFFLINE_WORD_SECONDS": "0"}
    for block in blocks(page):
        if block.file == "project/agents.yaml":
            (tmp_path / "agents.yaml").write_text(block.text, encoding="utf-8")
            settings["CONVO_AGENTS_FILE"] = str(tmp_path / "agents.yaml")
    server = serve(**settings)
    env = {**os.environ, **settings, "DATABASE_URL": database_url()}
    follow(page, ROOT, env, url=server.url)


@pytest.mark.parametrize("page", CLIENTS)
def test_what_the_page_says_of_another_client_can_be_done(
    page: str, share: Serve, request: pytest.FixtureRequest
) -> None:
    env = {**os.environ, "DATABASE_URL": database_url()}
    if any(block.language == "js" for block in blocks(page)):
        env["NODE_CLIENTS"] = str(request.getfixturevalue("node_clients"))
    follow(page, ROOT, env, url=share(CONVO_OFFLINE_WORD_SECONDS="0").url)


def clean_environment() -> dict[str, str]:
    """What a newcomer's terminal has: nothing of ours."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_convo_can_be_added_to_another_project(tmp_path: Path) -> None:
    page, shop, env = "docs/how-to/add-to-your-django-project.md", tmp_path / "shop", clean_environment()
    shop.mkdir()
    (tmp_path / "convo").symlink_to(ROOT)
    subprocess.run([sys.executable, "-m", "django", "startproject", "shop", "."], cwd=shop, check=True)
    follow(page, shop, env)
    served = next(block.text for block in blocks(page) if block.language == "console")
    command = [sys.executable, "-m", *shlex.split(served), "--port", str(port := free_port())]
    create_key = [sys.executable, "manage.py", "create_key", "ada"]
    key = subprocess.check_output(create_key, cwd=shop, env=env, text=True).strip()
    with started(command, shop, env, f"(http://127.0.0.1:{port})") as url:
        answer = httpx2.post(
            f"{url}/convo/api/v1/query/",
            json={"message": "Hello!"},
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        schema = httpx2.get(f"{url}/convo/api/schema/", trust_env=False, timeout=60)
        assert schema.status_code == 200


@contextmanager
def started(command: list[str], folder: Path, env: dict[str, str], announced: str) -> Iterator[str]:
    """This server, from when it says its URL until Ctrl-C has ended it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    too_late = threading.Timer(INSTALL_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    too_late.start()
    assert process.stdout
    try:
        yield _awaited(process.stdout, announced)
    finally:
        too_late.cancel()
        # As a terminal does it: Ctrl-C goes to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)


def _awaited(output: IO[str], pattern: str) -> str:
    said = []
    for line in output:
        said.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError("It ended and had said:\n" + "".join(said))


def test_on_a_fresh_machine_make_run_serves_a_conversation_that_outlives_it(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, then = re.findall(r"\*“(.+?)”\*", readme)
    run, test = (shlex.split(line, comments=True) for line in blocks("README.md")[0].text.splitlines())
    tree, env = copied(tmp_path / "convo"), clean_environment()
    command = [*run, f"PORT={free_port()}"]

    with started(command, tree, env, r"^(http://\S+)/$") as url, visitor(url) as client:
        page = say(client, "/", first)
        place, cookies = page.url.path, client.cookies
    assert (tree / ".env").stat().st_mode & 0o777 == 0o600

    with started(command, tree, env, r"^(http://\S+)/$") as url, visitor(url, cookies) as client:
        assert first in client.get(place).text
        assert f"“{first}”" in say(client, place, then).text

    both = subprocess.check_output([*test, "--dry-run"], cwd=tree, env=env, text=True)
    assert both.rstrip().endswith("-m tests.both")


def visitor(url: str, cookies: httpx2.Cookies | None = None) -> httpx2.Client:
    return httpx2.Client(base_url=url, cookies=cookies, follow_redirects=True, trust_env=False, timeout=60)


def say(client: httpx2.Client, place: str, text: str) -> httpx2.Response:
    """Send the page's form, as a browser without JavaScript does."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(place).text)
    assert token
    page = client.post(place, data={"csrfmiddlewaretoken": token[1], "message": text})
    assert page.status_code == 200, page.text
    return page
