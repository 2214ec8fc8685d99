"""Stores of other projects, measured from their own environment: `PYTHON -P benchmarks/peer_store.py`.

Reads a plan in JSON from standard input and prints what it measured. It imports nothing of ours. `write`
waits for a second line before it begins, so that several processes begin together.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Any

Plan = dict[str, Any]
BATCH = 1_000


def messages(plan: Plan, count: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": plan["text"]} for at in range(count)]


def of_turn(text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role in ("user", "assistant")]


async def median_milliseconds(times: int, call: Callable[[], Awaitable[Any]]) -> float:
    """Return the median of the milliseconds that this call takes, after a first one."""
    await call()
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        await call()
        milliseconds.append(1000 * (time.perf_counter() - start))
    return median(milliseconds)


async def agents_sessions(plan: Plan, names: list[str]) -> list[Any]:
    """Return sessions of openai-agents on one engine, whose pool has an open connection for each of them.

    The tables are there, and each session has been read once, so that only the work itself is measured.
    """
    from agents.extensions.memory import SQLAlchemySession  # noqa: PLC0415

    url = plan["url"].replace("postgresql://", "postgresql+asyncpg://")
    pool = {"pool_size": len(names)}
    creator = SQLAlchemySession.from_url("", url=url, engine_kwargs=pool, create_tables=True)
    await creator.get_items(limit=1)
    engine = creator.engine
    connections = [await engine.connect() for _ in names]
    for connection in connections:
        await connection.close()
    sessions = [SQLAlchemySession(name, engine=engine) for name in names]
    for session in sessions:
        await session.get_items(limit=1)
    return sessions


async def openai_agents(plan: Plan) -> list[list[float]]:
    """Measure openai-agents' SQLAlchemySession at each length: read 20, append a turn."""
    figures = []
    sessions = await agents_sessions(plan, [f"session-{length}" for length in plan["lengths"]])
    for length, session in zip(plan["lengths"], sessions, strict=True):
        for begin in range(0, length, BATCH):
            await session.add_items(messages(plan, min(BATCH, length - begin)))
        read = await median_milliseconds(plan["times"], partial(session.get_items, limit=20))
        append = await median_milliseconds(plan["times"], partial(session.add_items, messages(plan, 2)))
        figures.append([read, append])
    return figures


async def langgraph(plan: Plan) -> list[list[float]]:
    """Measure LangGraph's PostgreSQL checkpointer at each length: read the state, append a turn."""
    from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415
    from langgraph.graph import END, START, MessagesState, StateGraph  # noqa: PLC0415
    from psycopg.rows import dict_row  # noqa: PLC0415
    from psycopg_pool import ConnectionPool  # noqa: PLC0415

    settings = {"autocommit": True, "row_factory": dict_row}
    figures = []
    with ConnectionPool(plan["url"], kwargs=settings, min_size=1, max_size=4) as pool:
        saver = PostgresSaver(pool)
        saver.setup()
        builder = StateGraph(MessagesState)
        builder.add_node("answer", lambda state: {"messages": []})
        builder.add_edge(START, "answer")
        builder.add_edge("answer", END)
        graph = builder.compile(checkpointer=saver)
        for length in plan["lengths"]:
            config = {"configurable": {"thread_id": f"session-{length}"}}
            graph.update_state(config, {"messages": messages(plan, length)}, as_node="answer")

            async def read(config: Any = config) -> Any:
                return graph.get_state(config).values["messages"][-20:]

            async def append(config: Any = config) -> Any:
                return graph.update_state(config, {"messages": messages(plan, 2)}, as_node="answer")

            # A long state takes a second a time.
            times = plan["times"] if length <= BATCH else max(plan["times"] // 20, 1)
            figures.append([await median_milliseconds(times, read), await median_milliseconds(times, append)])
    return figures


async def write(plan: Plan) -> dict[str, Any]:
    """Append the turns of several writers to one session of openai-agents at once."""
    sessions = await agents_sessions(plan, [plan["session"]] * len(plan["texts"]))
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()

    async def append(session: Any, texts: list[str]) -> None:
        for text in texts:
            await session.add_items(of_turn(text))

    await asyncio.gather(*map(append, sessions, plan["texts"]))
    return {"seconds": time.perf_counter() - start}


async def read_back(plan: Plan) -> list[list[str]]:
    (session,) = await agents_sessions(plan, [plan["session"]])
    items = await session.get_items()
    return [[item["role"], item["content"]] for item in items]


KINDS: dict[str, Callable[[Plan], Awaitable[Any]]] = {
    "openai-agents": openai_agents,
    "langgraph": langgraph,
    "write": write,
    "read back": read_back,
}

if __name__ == "__main__":
    measurement: Plan = json.loads(sys.stdin.readline())
    print(json.dumps(asyncio.run(KINDS[measurement["kind"]](measurement))))  # type: ignore[arg-type]
