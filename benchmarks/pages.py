"""The time that the server takes for the chat page of somebody who has talked for years.

A person with 1,000 conversations opens one of 5,000 messages, whose replies are long Markdown. Beside it
stands the same page for a newcomer, which is the floor: the frame, the templates and nothing in them.
"""

import time
from argparse import ArgumentParser, Namespace
from statistics import median, quantiles
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import reverse

from convo import turns
from convo.history import NewMessage
from convo.models import ME, Person, Session

# As a request comes to a server behind TLS.
HEADERS: dict[str, Any] = {"SERVER_NAME": "localhost", "HTTP_X_FORWARDED_PROTO": "https"}
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


def long_session(owner: Any, *, sessions: int, messages: int) -> Session:
    """A conversation of so many messages among so many others."""
    person = Person.objects.get_or_create_by_ref(owner, ME)
    fields = {"owner": owner, "person": person, "agent": "assistant"}
    Session.objects.bulk_create(Session(**fields, title=f"Talk {n}") for n in range(sessions - 1))
    session = Session.objects.create(**fields, title="The long one")
    for begin in range(0, messages, 500):
        pairs = range(begin, min(begin + 500, messages), 2)
        batch = [
            NewMessage(role=role, content=content)
            for n in pairs
            for role, content in (("user", f"Question {n}: which one?"), ("assistant", REPLY))
        ]
        turns.record(session, batch)
    return session


def print_times(name: str, client: Client, address: str, times: int) -> None:
    """Print the milliseconds of a rendering, after a first one."""
    client.get(address)
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        response = client.get(address)
        milliseconds.append(1000 * (time.perf_counter() - start))
        assert response.status_code == 200, response.status_code
    p95 = quantiles(milliseconds, n=20)[-1]
    print(f"  {name:<44}{median(milliseconds):7.1f} ms   p95 {p95:7.1f} ms")


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--times", type=int, default=40)


def measure(options: Namespace) -> None:
    sessions, messages, times = options.sessions, options.messages, options.times
    settings.CONVO = {**settings.CONVO, "GUESTS": True}
    owner = get_user_model().objects.create_user("reader")
    session = long_session(owner, sessions=sessions, messages=messages)
    address, client = reverse("conversation", args=[session.pk]), Client(**HEADERS)
    client.force_login(owner)
    print(f"{connection.vendor}: {sessions:,} conversations, one of {messages:,} messages")
    print_times("a newcomer's page (the floor)", Client(**HEADERS), reverse("chat"), times)
    print_times("the newest messages of the long one", client, address, times)
    print_times("fifty from its middle", client, f"{address}?before={messages // 2}", times)
    print_times("the list of all conversations", client, reverse("conversations"), times)
