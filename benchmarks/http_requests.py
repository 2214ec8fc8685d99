"""Convo's short requests over HTTP, beside the same work in a plain Django REST framework project.

Both run under Uvicorn with one worker and production settings, on the same PostgreSQL, with authentication.
They are measured in turns, so that the machine's noise meets both alike.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import UUID

from benchmarks import plain_drf, stage
from benchmarks.processes import Load, Result, Server, fire, request, warm_up
from benchmarks.report import Section, Table, format_cell, ratio
from benchmarks.stage import Sizes

NAME = "http"
APPENDED = [{"role": message.role, "content": message.content} for message in stage.pair(0)]
CONTEXT = "context/?max_tokens=1500"
Requests = dict[tuple[str, str], tuple[Server, list[str]]]


def convo_requests(server: Server, sizes: Sizes) -> Requests:
    user = stage.owner()
    key, max_clients = stage.issue_key(user), max(sizes.at_once)

    def all_of(sessions: list[UUID], method: str, path: str, body: object = None) -> list[str]:
        return [
            request(method, f"/api/v1/sessions/{session}/{path}", key=key, body=body) for session in sessions
        ]

    requests: Requests = {}
    for length in sizes.lengths:
        sessions = stage.filled_sessions(user, min(8, max_clients), length)
        requests["Convo", f"context at {length:,}"] = server, all_of(sessions, "GET", CONTEXT)
        requests["Convo", f"history page at {length:,}"] = (
            server,
            all_of(sessions, "GET", "history/?order=desc&page_size=20"),
        )
    sessions = stage.filled_sessions(user, 2 * max_clients, 10)
    append = all_of(sessions[:max_clients], "POST", "messages/", {"messages": APPENDED})
    ask = all_of(sessions[max_clients:], "POST", "query/", {"message": "Which of them is lighter?"})
    requests["Convo", "append a turn"] = server, append
    requests["Convo", "question, 50 chunks, whole"] = server, ask
    return requests


def plain_requests(server: Server, sizes: Sizes) -> Requests:
    user, max_clients, length = stage.owner(), max(sizes.at_once), max(sizes.lengths)
    key = plain_drf.issue_key(user)
    read = [
        f"/sessions/{session}/messages/"
        for session in stage.plain_sessions(user, min(8, max_clients), length)
    ]
    write = [f"/sessions/{session}/messages/" for session in stage.plain_sessions(user, max_clients, 10)]
    return {
        ("plain DRF", f"history page at {length:,}"): (
            server,
            [request("GET", path, key=key) for path in read],
        ),
        ("plain DRF", "append a turn"): (
            server,
            [request("POST", path, key=key, body={"messages": APPENDED}) for path in write],
        ),
    }


def rounds(requests: Requests, sizes: Sizes) -> Iterator[tuple[tuple[str, str], int, Result]]:
    """Yield what each kind of request cost, at each number of clients, over all rounds."""
    for clients in sizes.at_once:
        results = {name: Result() for name in requests}
        for number in range(sizes.rounds):
            for name, (server, texts) in requests.items():
                load = Load(texts, clients, sizes.seconds)
                if number == 0:
                    warm_up(server.port, load)
                results[name].add(fire(server.port, server.tree, load))
        for name, result in results.items():
            yield name, clients, result


def measure(sizes: Sizes) -> Section:
    section = Section(NAME)
    plain_drf.create_tables()
    with ExitStack() as stack:
        model = stack.enter_context(stage.upstream())
        redis = stack.enter_context(stage.valkey())
        servers = stack.enter_context(stage.plain()), stack.enter_context(stage.convo(model.url, redis))
        stage.progress("filling sessions")
        requests = plain_requests(servers[0], sizes) | convo_requests(servers[1], sizes)
        stage.progress("measuring requests")
        results = {(*name, clients): result for name, clients, result in rounds(requests, sizes)}
    for clients in sizes.at_once:
        section.tables.append(table_of(results, clients))
    targets(section, results, sizes)
    headlines(section, results, sizes)
    failures = {str(name): result.failures for name, result in results.items() if result.failures}
    section.notes.append(f"Failed requests: {failures or 'none'}.")
    return section


Results = dict[tuple[str, str, int], Result]


def floor_of(results: Results, operation: str, clients: int) -> Result:
    kind = "append" if operation.startswith(("append", "question")) else "history"
    return next(
        result
        for (server_name, operation, count), result in results.items()
        if server_name == "plain DRF" and operation.startswith(kind) and count == clients
    )


def table_of(results: Results, clients: int) -> Table:
    columns = [
        "request",
        "per second",
        "× plain DRF",
        "p50 ms",
        "web CPU ms",
        "PostgreSQL CPU ms",
        "CPU, × plain",
    ]
    table = Table(f"Requests, {clients} at once", columns, bars=["per second"])
    for (server_name, operation, count), result in results.items():
        if count == clients:
            floor = floor_of(results, operation, clients)
            cpu = ratio(result.server_ms + result.postgres_ms, floor.server_ms + floor.postgres_ms)
            costs = result.p50, result.server_ms, result.postgres_ms, cpu
            table.add(f"{server_name}: {operation}", result.rate, ratio(result.rate, floor.rate), *costs)
    return table


def targets(section: Section, results: Results, sizes: Sizes) -> None:
    clients = max(sizes.at_once)
    least_by_kind = {"context": (1.5, 2.0), "history page": (1.4, 2.0)}
    for kind, (first, last) in least_by_kind.items():
        for length, minimum in zip(sizes.lengths, (first, last), strict=False):
            operation = f"{kind} at {length:,}"
            rate = results["Convo", operation, clients].rate
            value = ratio(rate, floor_of(results, operation, clients).rate)
            section.at_least(f"{operation}, {clients} at once, × plain DRF's history page", value, minimum)
    append: Callable[[str], float] = lambda server_name: results[server_name, "append a turn", clients].rate  # noqa: E731
    value = ratio(append("Convo"), append("plain DRF"))
    section.at_least(f"append a turn, {clients} at once, × plain DRF's append", value, 1.2)


def headlines(section: Section, results: Results, sizes: Sizes) -> None:
    clients, length = max(sizes.at_once), max(sizes.lengths)
    for operation in (f"context at {length:,}", f"history page at {length:,}", "append a turn"):
        floor = floor_of(results, operation, clients)
        rate = f"{format_cell(results['Convo', operation, clients].rate)} requests/s"
        kind = "append" if operation.startswith("append") else "history page"
        title = f"{operation} {'messages' if kind != 'append' else 'over HTTP'}, {clients} at once"
        section.headlines.append([title, rate, f"plain DRF’s {kind} {format_cell(floor.rate)}"])
