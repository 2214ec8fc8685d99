"""Streamed replies of 50 chunks: Convo's three interfaces beside what does less.

Beside them stand the model server itself (the load generator's own ceiling), a byte pass-through that stores
nothing, and LiteLLM's proxy. `chunks` come at once, `paced` ones every 20 ms, which takes 1.0 s by itself.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from typing import Any

from benchmarks import stage
from benchmarks.load import SESSION
from benchmarks.processes import Load, Peak, Result, Server, fire, request, warm_up
from benchmarks.report import Section, Table, format_cell, ratio
from benchmarks.stage import Sizes
from benchmarks.upstream import TEXTS

NAME = "streams"
DIRECT, LITELLM = "the model server itself", "LiteLLM's proxy"
# Targets refer to the first: like Convo, it hands on each chunk by itself.
PIPE, JOINED = "byte pass-through", "byte pass-through, chunks joined"
REST, RESPONSES, CHAT = "Convo: REST", "Convo: /v1/responses", "Convo: chat in a session"
# The same transcript again, which replaces the reply: no message is new but that.
REGENERATED, UNSTORED = "Convo: chat in a session, the reply again", "Convo: chat, store: false"
# In a chat, a client sends the whole transcript each time; after so many turns it begins a new session.
CHAT_TURNS = 10
STORED = (REST, RESPONSES, CHAT)
# The first word of a reply comes at once; a paced reply's last one after 49 pauses.
PACES = {"chunks": "all at once", "paced": "20 ms apart"}


@dataclass(frozen=True)
class Subject:
    """One way to a streamed reply: the requests of each client, and the text at the end of a response."""

    server: Server
    end: str
    requests: dict[str, list[str]]
    is_conversation: bool = False


def chat(model: str, turns: int = 1, **fields: object) -> dict[str, object]:
    """Return a request for the reply of this turn: the question, after those before it with their replies."""
    questions = [{"role": "user", "content": f"Question {turn}: which is lighter?"} for turn in range(turns)]
    reply = {"role": "assistant", "content": "".join(TEXTS)}
    messages = [message for question in questions for message in (reply, question)][1:]
    return {"model": model, "messages": messages, "stream": True, **fields}


def peer(server: Server, path: str, key: str = "") -> Subject:
    requests = {
        model: [request("POST", path, key=key, body=chat(model), headers={"Accept": "text/event-stream"})]
        for model in PACES
    }
    return Subject(server, "[DONE]", requests)


def convo_subjects(server: Server, sessions: int) -> dict[str, Subject]:
    user = stage.owner()
    key, agents = stage.issue_key(user), {"chunks": "assistant", "paced": "paced"}
    names = [str(session.pk) for session in stage.new_sessions(user, sessions)]
    question = "Which of them is lighter?"

    def requests(path: str, bodies: Sequence[object], headers: Sequence[dict[str, str]]) -> list[str]:
        return [
            request("POST", path, key=key, body=body, headers=each) for body in bodies for each in headers
        ]

    def subject(path: str, end: str, body: Callable[[str], object]) -> Subject:
        return Subject(server, end, {model: requests(path, [body(model)], [{}]) for model in PACES})

    def chats(turns: Sequence[int], names: Sequence[str], *, is_conversation: bool) -> Subject:
        headers = [{"X-Convo-Session": name} for name in names]
        by_model = {
            model: requests("/v1/chat/completions", [chat(model, turn) for turn in turns], headers)
            for model in PACES
        }
        return Subject(server, "[DONE]", by_model, is_conversation)

    return {
        REST: subject(
            "/api/v1/query/",
            "turn.completed",
            lambda model: {"message": question, "stream": True, "agent": agents[model]},
        ),
        RESPONSES: subject(
            "/v1/responses",
            "response.completed",
            lambda model: {"model": model, "input": question, "stream": True},
        ),
        CHAT: chats(range(1, CHAT_TURNS + 1), [SESSION], is_conversation=True),
        REGENERATED: chats([1], names, is_conversation=False),
        UNSTORED: subject("/v1/chat/completions", "[DONE]", lambda model: chat(model, store=False)),
    }


def load_of(subject: Subject, model: str, clients: int, **options: Any) -> Load:
    sessions = []
    if subject.is_conversation:
        # Enough for 300 turns a second.
        count = clients + int(300 * options["seconds"]) // CHAT_TURNS
        sessions = [str(session.pk) for session in stage.new_sessions(stage.owner(), count)]
    texts = subject.requests[model]
    return Load(texts, clients, sessions=sessions, first="word1 ", end=subject.end, **options)


Results = dict[tuple[str, str, int], Result]


def measure_at_once(
    subjects: dict[str, Subject], sizes: Sizes
) -> Iterator[tuple[tuple[str, str, int], Result]]:
    """Yield the streams whose chunks come at once, for so many seconds each."""
    for clients in sizes.streams:
        results = {name: Result() for name in subjects}
        for number in range(sizes.rounds):
            for name, subject in subjects.items():
                if number == 0:
                    warm_up(subject.server.port, load_of(subject, "chunks", clients, seconds=sizes.seconds))
                load = load_of(subject, "chunks", clients, seconds=sizes.seconds)
                results[name].add(fire(subject.server.port, subject.server.tree, load))
        for name, result in results.items():
            yield (name, "chunks", clients), result


def measure_paced(
    subjects: dict[str, Subject], clients: int, rounds: int
) -> Iterator[tuple[tuple[str, str, int], Result]]:
    """Yield some paced streams of each client, one after the other."""
    for name, subject in subjects.items():
        load = load_of(subject, "paced", clients, seconds=60, count=rounds * clients)
        yield (name, "paced", clients), fire(subject.server.port, subject.server.tree, load)


def measure(sizes: Sizes) -> Section:
    section = Section(NAME)
    results: Results = {}
    with ExitStack() as stack:
        model, redis = stack.enter_context(stage.upstream(sizes.pause)), stack.enter_context(stage.valkey())
        subjects = {DIRECT: peer(model, "/v1/chat/completions")}
        pipe = stack.enter_context(stage.pass_through(model))
        subjects |= {PIPE: peer(pipe, "/"), JOINED: peer(pipe, "/joined")}
        try:
            proxy = stack.enter_context(stage.litellm(model))
            subjects[LITELLM] = peer(proxy, "/v1/chat/completions", stage.LITELLM_KEY)
        except (FileNotFoundError, RuntimeError, PackageNotFoundError) as error:
            section.notes.append(f"{LITELLM}: not measured: {str(error).splitlines()[0]}.")
        server = stack.enter_context(stage.convo(model.url, redis))
        subjects |= convo_subjects(server, max(*sizes.streams, *sizes.paced_clients))
        stage.progress("streams whose chunks come at once")
        results |= dict(measure_at_once(subjects, sizes))
        for clients in sizes.paced_clients:
            stage.progress(f"{clients} paced streams")
            results |= dict(measure_paced(subjects, clients, sizes.rounds))
        stage.progress(f"{sizes.crowd} paced streams")
        floors = {name: subjects[name] for name in (DIRECT, PIPE)}
        results |= dict(measure_paced(floors, sizes.crowd, sizes.rounds))
        with Peak(server.tree) as peak:
            results |= dict(measure_paced({REST: subjects[REST]}, sizes.crowd, sizes.rounds))
        per_stream = (peak.maximum - peak.before) / sizes.crowd / 1000
    tables(section, results, sizes)
    targets(section, results, sizes)
    headlines(section, results, sizes)
    section.at_most(f"memory of each of {sizes.crowd:,} open streams", per_stream, 60, "kB")
    if sizes.processes > 1:
        stage.progress(f"{sizes.processes} processes")
        measure_processes(section, results[REST, "chunks", middle(sizes)], sizes)
    return section


def middle(sizes: Sizes) -> int:
    """Return the number of streams at once that most targets are about."""
    return sorted(sizes.streams)[min(1, len(sizes.streams) - 1)]


def measure_processes(section: Section, single: Result, sizes: Sizes) -> None:
    """Compare what a stream costs one process with what it costs several that share the load."""
    with (
        stage.upstream() as model,
        stage.valkey() as redis,
        stage.convo(model.url, redis, processes=sizes.processes) as server,
    ):
        subjects = {REST: convo_subjects(server, 1)[REST]}
        middle_sizes = replace(sizes, streams=(middle(sizes),))
        # Each process loads what it needs at its first requests, and it isn't known which of them gets one.
        list(measure_at_once(subjects, middle_sizes))
        (result,) = dict(measure_at_once(subjects, middle_sizes)).values()
    columns = ["processes", "per second", "web CPU ms", "PostgreSQL CPU ms", "both, × one"]
    table = Table("What a stream costs one process and several", columns)
    first = single.server_ms + single.postgres_ms
    for count, each in ((1, single), (sizes.processes, result)):
        cpu_ratio = ratio(each.server_ms + each.postgres_ms, first)
        table.add(count, each.rate, each.server_ms, each.postgres_ms, cpu_ratio)
    section.tables.append(table)
    section.at_most("CPU per stream, two processes × one", cpu_ratio, 1.1)


def tables(section: Section, results: Results, sizes: Sizes) -> None:
    ceiling = results[DIRECT, "chunks", max(sizes.streams)]
    load_ms = 1000 * ceiling.load_cpu / max(ceiling.responses, 1)
    section.notes.append(
        f"The load generator and the model server alone: {ceiling.rate:,.0f} streams a second at "
        f"{max(sizes.streams)} at once; {load_ms:.2f} ms CPU of the load generator for each. "
        f"{os.cpu_count()} cores serve everything."
    )
    for model, clients in sorted({(model, clients) for _, model, clients in results}):
        title = f"Streams of 50 chunks, {PACES[model]}, {clients:,} at once"
        columns = [
            "stream",
            "per second",
            "p50 ms",
            "first chunk ms",
            "web CPU ms",
            "PostgreSQL CPU ms",
            "failed",
        ]
        chart = "p50 ms" if model == "paced" else "per second"
        table = Table(title, columns, bars=[chart] if clients > 1 else [])
        for (name, kind, count), result in results.items():
            if (kind, count) == (model, clients):
                failed = ", ".join(f"{times} × {reason}" for reason, times in result.failures.items()) or "0"
                costs = result.p50, result.first, result.server_ms, result.postgres_ms
                table.add(name, result.rate, *costs, failed)
        section.tables.append(table)


def headlines(section: Section, results: Results, sizes: Sizes) -> None:
    clients = middle(sizes)
    peer_rates = [
        f"{name.removeprefix('the ')} {format_cell(results[name, 'chunks', clients].rate)}"
        for name in (LITELLM, PIPE)
        if (name, "chunks", clients) in results
    ]
    for name in STORED:
        rate = f"{format_cell(results[name, 'chunks', clients].rate)} streams/s"
        title = f"50 chunks streamed and stored, {name.removeprefix('Convo: ')}, {clients} at once"
        section.headlines.append([title, rate, ", ".join(peer_rates)])


def targets(section: Section, results: Results, sizes: Sizes) -> None:
    clients = middle(sizes)
    pipe = results[PIPE, "chunks", clients]
    proxy = results.get((LITELLM, "chunks", clients))
    for name in STORED:
        result = results[name, "chunks", clients]
        title = f"{name}, {clients} at once"
        if proxy:
            section.at_least(f"{title}, × LiteLLM (goal 8)", ratio(result.rate, proxy.rate), 4)
        else:
            section.expect(f"{title}, × LiteLLM (goal 8)", "not measured", "≥ 4 ×", None)
        section.at_least(f"{title}, × the byte pass-through (goal 0.25)", ratio(result.rate, pipe.rate), 0.12)
        section.at_most(f"{title}, web CPU (goal 5)", result.server_ms, 10, "ms")
        section.at_most(f"{title}, PostgreSQL CPU (goal 3)", result.postgres_ms, 6, "ms")
    unstored_ratio = ratio(results[UNSTORED, "chunks", clients].rate, pipe.rate)
    section.at_least(f"{UNSTORED}, {clients} at once, × the byte pass-through", unstored_ratio, 0.4)
    lone = min(sizes.streams)
    for name in STORED:
        late = results[name, "chunks", lone].first - results[DIRECT, "chunks", lone].first
        section.at_most(f"{name}, first chunk over direct, {lone} at once", late, 8, "ms")
    for clients, maximum in zip(sizes.paced_clients, (1.10, 1.25), strict=False):
        pipe = results[PIPE, "paced", clients]
        for name in STORED:
            value = ratio(results[name, "paced", clients].p50, pipe.p50)
            section.at_most(f"{name}, {clients} paced, p50 × the byte pass-through's", value, maximum)
    crowd = results[REST, "paced", sizes.crowd]
    failed = sum(crowd.failures.values())
    section.at_most(f"{sizes.crowd:,} paced streams on one process that failed", failed, 0, "")
