"""Clients at random while servers are killed, `make soak SECONDS=60 SEED=7`: see tests/soak.py."""

import os
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from django.contrib.auth import get_user_model

from convo.models import ApiKey
from tests.soak import run
from tests.upstream import Upstream


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="that of a run to see again")
    parser.add_argument("--stock-handler", action="store_true", help="serve by Django's own ASGI handler")


def measure(options: Namespace) -> int:
    """Print what happened; return 1 if a promise was broken."""
    seed = int.from_bytes(os.urandom(3)) if options.seed is None else options.seed
    if options.stock_handler:
        os.environ["CONVO_REQUEST_THREADS"] = "0"
    key = ApiKey.objects.issue(get_user_model().objects.create_user("soak"))[1]
    folder = Path(tempfile.mkdtemp(prefix="convo-soak-"))
    with Upstream() as upstream:
        outcome = run(seed=seed, seconds=options.seconds, folder=folder, key=key, upstream=upstream.url)
    for title in ("done", "told", "destroyed"):
        counts = getattr(outcome, title).most_common()
        print(f"{title:10}", ", ".join(f"{count} × {name}" for name, count in counts))
    print(*outcome.problems, sep="\n")
    print(f"seed {seed}: {len(outcome.problems)} broken promises; the history is {folder}/history.jsonl")
    return 1 if outcome.problems else 0
