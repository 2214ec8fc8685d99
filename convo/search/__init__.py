"""Search over messages and memories, by words and by meaning."""

from convo.search.candidates import message_ids_by_word
from convo.search.find import MAX_QUERY_LENGTH, Hit, find, find_memories, rank_memories
from convo.search.index import (
    MAX_INDEXED_CHARACTERS,
    index_turn_batch,
    index_turns,
    index_vectors,
    reindex_turns,
    rows_without_vectors,
    turns_after,
    update_vectors,
)
from convo.search.score import PARTS
from convo.search.words import search_words, stemmed_words
