"""The index of memories, brought up to date as a sweep does it."""

from convo.search import index


def index_memories() -> None:
    index.drop_outdated_memories()
    index.index_memory_batch(index.unindexed_memories(500))
