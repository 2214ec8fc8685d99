"""How long the server takes for the chat page of somebody who has talked for years.

`python -m benchmarks.pages` measures SQLite and PostgreSQL, in temporary folders: a person with 1,000
conversations opens one of 5,000 messages, whose replies are long Markdown. Beside it stands the same page
for a newcomer, which is the floor: the frame, the templates and nothing in them.
"""

import argparse
import sys
import time
from statistics import median, quantiles
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from benchmarks.databases import KINDS, on_each
from convo import turns
from convo.history import NewMessage
from convo.models import ME, Person, Session

# As a request comes to a server behind TLS.
HERE: dict[str, Any] = {"SERVER_NAME": "localhost", "HTTP_X_FORWARDED_PROTO": "https"}
REPLY = """Two of them fit, and **one** is lighter:

| name | weight | price |
|------|-------:|------:|
| Zephyr 14 | 1.2 kg | 1,199 |
| Atlas 15 | 1.6 kg | 1,049 |

1. Measure the bag first.
2. Then look at the *charger*, which is not in these figures.

```python
print(sum(weights))
```
"""


def seeded(owner: Any, *, sessions: int, messages: int) -> Session:
    """A conversation of so many messages among so many others."""
    person = Person.objects.get_or_create_by_ref(owner, ME)
    given = {"owner": owner, "person": person, "agent": "assistant"}
    Session.objects.bulk_create(Session(**given, title=f"Talk {n}") for n in range(sessions - 1))
    session = Session.objects.create(**given, title="The long one")
    for begin in range(0, messages, 500):
        pairs = range(begin, min(begin + 500, messages), 2)
        batch = [
            NewMessage(role=role, content=content)
            for n in pairs
            for role, content in (("user", f"Question {n}: which one?"), ("assistant", REPLY))
        ]
        turns.record(session, batch)
    return session


def timed(client: Client, address: str, times: int) -> list[float]:
    """How many milliseconds each rendering takes, after a first one."""
    client.get(address)
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        response = client.get(address)
        spent.append(1000 * (time.perf_counter() - began))
        assert response.status_code == 200, response.status_code
    return spent


def told(name: str, spent: list[float]) -> None:
    print(f"  {name:<44}{median(spent):7.1f} ms   p95 {quantiles(spent, n=20)[-1]:7.1f} ms")


def measure(*, sessions: int, messages: int, times: int) -> None:
    settings.CONVO = {**settings.CONVO, "GUESTS": True}
    owner = get_user_model().objects.create_user("reader")
    session = seeded(owner, sessions=sessions, messages=messages)
    address, client = reverse("conversation", args=[session.pk]), Client(**HERE)
    client.force_login(owner)
    print(f"{connection.vendor}: {sessions:,} conversations, one of {messages:,} messages")
    told("a newcomer's page (the floor)", timed(Client(**HERE), reverse("chat"), times))
    told("the newest messages of the long one", timed(client, address, times))
    told("fifty from its middle", timed(client, f"{address}?before={messages // 2}", times))
    told("the list of all conversations", timed(client, reverse("conversations"), times))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--database", choices=KINDS, action="append")
    parser.add_argument("--here", action="store_true", help="on the database of DATABASE_URL, which is new")
    given = parser.parse_args()
    wanted = {name: getattr(given, name) for name in ("sessions", "messages", "times")}
    if given.here:
        call_command("migrate", verbosity=0)
        measure(**wanted)
        return 0
    options = [word for name, value in wanted.items() for word in (f"--{name}", str(value))]
    return on_each(given.database, "benchmarks.pages", options)


if __name__ == "__main__":
    sys.exit(main())
