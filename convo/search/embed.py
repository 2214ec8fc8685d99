"""Meaning as numbers: a small model of words that needs no network, or the project's own embeddings."""

import logging
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from asgiref.sync import async_to_sync

from convo import database, llm
from convo.conf import conf
from convo.errors import ConvoError

logger = logging.getLogger(__name__)

DIMENSION = 256
OFFLINE = f"wordllama-{DIMENSION}"
# What one call to a model server takes: texts, and characters of each.
BATCH, LONGEST = 128, 8000

_loading = Lock()

Vectors = np.ndarray[Any, np.dtype[np.float32]]


def model_name() -> str:
    """The model that vectors are of today."""
    return conf().embedding_model or OFFLINE


def embed(texts: Sequence[str]) -> Vectors | None:
    """A vector of length 1 for each text; None while the model can't be reached. Holds no connection."""
    if not conf().embedding_model:
        return _unit(_words_model().embed([text[:LONGEST] or " " for text in texts]))
    database.release()
    try:
        found: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            part = [text[:LONGEST] or " " for text in texts[start : start + BATCH]]
            found += async_to_sync(llm.embed)(part)
    except ConvoError as error:
        logger.warning("no vectors: %s", error.message)
        return None
    return _unit(np.array(found, dtype=np.float32))


def without(names: Iterable[str], text: str) -> str:
    """The text without these names: in short texts they would outweigh all that is said."""
    parts = {part for name in names for part in name.split() if part}
    if not parts:
        return text
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, parts))})\b", " ", text, flags=re.IGNORECASE)


def packed(vector: Any) -> bytes:
    """As it is stored: half precision is enough to rank by."""
    return bytes(vector.astype(np.float16).tobytes())


def unpacked(stored: Sequence[bytes | memoryview | None], dim: int) -> Vectors:
    """The stored vectors as rows; one that is missing is all zeros, near to nothing."""
    none = bytes(2 * dim)
    whole = b"".join(none if one is None or len(one) != 2 * dim else bytes(one) for one in stored)
    return np.frombuffer(whole, dtype=np.float16).reshape(len(stored), dim).astype(np.float32)


def _unit(vectors: Any) -> Vectors:
    found = np.nan_to_num(np.asarray(vectors, dtype=np.float32))
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))


def _words_model() -> Any:
    with _loading:
        return _loaded()


@cache
def _loaded() -> Any:
    # Imported when it is first needed: it takes as long as all of Django.
    package = import_module("wordllama")
    here = Path(str(package.__file__)).parent
    # Told not to download: what it needs came with the package.
    return package.WordLlama.load(cache_dir=here, dim=DIMENSION, disable_download=True)
