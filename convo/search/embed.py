"""Embed texts as vectors, with an offline word model or with the project's own embedding model."""

import logging
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
from asgiref.sync import async_to_sync
from numpy.typing import ArrayLike, NDArray

from convo import database, llm
from convo.conf import conf
from convo.errors import ConvoError

logger = logging.getLogger(__name__)

DIMENSION = 256
OFFLINE_MODEL = f"wordllama-{DIMENSION}"
# The limits of one call to a model server: texts, and characters of each text.
BATCH_SIZE, MAX_CHARACTERS = 128, 8000

_model_lock = Lock()
_unrelated_cache: dict[str, "Vectors"] = {}

Vectors = NDArray[np.float32]


class _WordModel(Protocol):
    def embed(self, texts: list[str]) -> ArrayLike: ...


def model_name() -> str:
    return conf().embedding_model or OFFLINE_MODEL


def embed(texts: Sequence[str]) -> Vectors | None:
    """Return a vector of length 1 for each text, or None if the model can't be reached.

    No database connection is held while a model server is called.
    """
    beginnings = [text[:MAX_CHARACTERS] or " " for text in texts]
    if not conf().embedding_model:
        return _normalize(_offline_model().embed(beginnings))
    database.close_connections()
    vectors: list[list[float]] = []
    try:
        for batch in database.in_batches(beginnings, BATCH_SIZE):
            vectors += async_to_sync(llm.embed)(batch)
    except ConvoError as error:
        logger.warning("Embedding failed, so search uses words only: %s", error.message)
        return None
    return _normalize(np.array(vectors, dtype=np.float32))


def unrelated_vectors() -> Vectors | None:
    """Return the vectors of sentences that answer no question, or None if the model can't be reached."""
    model = model_name()
    if model not in _unrelated_cache and (vectors := embed(_unrelated_sentences())) is not None:
        _unrelated_cache[model] = vectors
    return _unrelated_cache.get(model)


def _unrelated_sentences() -> list[str]:
    return Path(__file__).with_name("unrelated_sentences.txt").read_text(encoding="utf-8").splitlines()


def remove_names(names: Iterable[str], text: str) -> str:
    """Remove these names from a text: in a short one they would outweigh everything else."""
    parts = {part for name in names for part in name.split() if part}
    if not parts:
        return text
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, parts))})\b", " ", text, flags=re.IGNORECASE)


def pack_vector(vector: Vectors) -> bytes:
    # Half precision is enough for ranking.
    return bytes(vector.astype(np.float16).tobytes())


def unpack_vectors(blobs: Sequence[bytes | memoryview | None], dim: int) -> Vectors:
    """Convert stored bytes to rows of an array; a missing vector is all zeros, similar to nothing."""
    zeros = bytes(2 * dim)
    data = b"".join(zeros if blob is None or len(blob) != 2 * dim else bytes(blob) for blob in blobs)
    return np.frombuffer(data, dtype=np.float16).reshape(len(blobs), dim).astype(np.float32)


def _normalize(vectors: ArrayLike) -> Vectors:
    rows = np.nan_to_num(np.asarray(vectors, dtype=np.float32))
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))


def _offline_model() -> _WordModel:
    with _model_lock:
        return _load_offline_model()


@cache
def _load_offline_model() -> _WordModel:
    # The package is imported on first use, because that takes as long as importing all of Django.
    package = import_module("wordllama")
    package_folder = Path(str(package.__file__)).parent
    # Nothing has to be downloaded, because the package contains the model.
    model: _WordModel = package.WordLlama.load(cache_dir=package_folder, dim=DIMENSION, disable_download=True)
    return model
