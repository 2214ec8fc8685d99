"""Search: by words and by meaning, over all that a person said, heard, and is known for."""

from convo.search.find import LONGEST, Hit, find, find_memories
from convo.search.index import index_memories, index_these, index_turns, index_vectors
from convo.search.reindex import index_anew, other_vectors, turns_after, vectors_anew
from convo.search.score import TERMS

__all__ = [
    "LONGEST",
    "TERMS",
    "Hit",
    "find",
    "find_memories",
    "index_anew",
    "index_memories",
    "index_these",
    "index_turns",
    "index_vectors",
    "other_vectors",
    "turns_after",
    "vectors_anew",
]
