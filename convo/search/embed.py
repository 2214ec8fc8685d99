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


SENTENCES = """
The bus was late again this morning.
We painted the fence green last summer.
There is a crack in the window.
Please send the invoice to the office.
The lamp in the hall is broken.
Somebody left an umbrella at the door.
The printer has run out of paper.
He closed the drawer and locked it.
The sign at the corner fell down.
Der Bus kam heute Morgen wieder zu spät.
Wir haben den Zaun letzten Sommer grün gestrichen.
Im Fenster ist ein Riss.
Bitte schicken Sie die Rechnung an das Büro.
Die Lampe im Flur ist kaputt.
Jemand hat einen Regenschirm an der Tür vergessen.
Le bus était encore en retard ce matin.
Nous avons peint la clôture en vert l’été dernier.
Il y a une fissure dans la fenêtre.
Envoyez la facture au bureau, s’il vous plaît.
La lampe du couloir est cassée.
Quelqu’un a oublié un parapluie à la porte.
El autobús llegó tarde otra vez esta mañana.
Pintamos la valla de verde el verano pasado.
Hay una grieta en la ventana.
Envíe la factura a la oficina, por favor.
La lámpara del pasillo está rota.
Alguien olvidó un paraguas en la puerta.
Автобус сегодня утром снова опоздал.
Прошлым летом мы покрасили забор в зелёный цвет.
На окне трещина.
Отправьте счёт в офис, пожалуйста.
Лампа в коридоре сломалась.
Кто-то забыл зонт у двери.
Το λεωφορείο άργησε πάλι σήμερα το πρωί.
Βάψαμε τον φράχτη πράσινο πέρσι το καλοκαίρι.
Υπάρχει μια ρωγμή στο παράθυρο.
Στείλτε το τιμολόγιο στο γραφείο, παρακαλώ.
تأخرت الحافلة مرة أخرى هذا الصباح.
دهنا السياج باللون الأخضر في الصيف الماضي.
هناك شرخ في النافذة.
أرسل الفاتورة إلى المكتب من فضلك.
المصباح في الممر مكسور.
نسي أحدهم مظلة عند الباب.
今天早上公交车又晚点了。
去年夏天我们把栅栏漆成了绿色。
窗户上有一道裂缝。
请把发票寄到办公室。
走廊里的灯坏了。
有人把雨伞忘在门口了。
今朝もバスが遅れました。
去年の夏、塀を緑に塗りました。
窓にひびが入っています。
請求書を事務所に送ってください。
廊下の電灯が壊れています。
誰かがドアのところに傘を忘れました。
오늘 아침에도 버스가 늦었습니다.
작년 여름에 울타리를 초록색으로 칠했습니다.
창문에 금이 갔습니다.
청구서를 사무실로 보내 주세요.
복도의 전등이 고장 났습니다.
""".strip().splitlines()


class _WordModel(Protocol):
    def embed(self, texts: list[str]) -> ArrayLike: ...


def model_name() -> str:
    return conf().embedding_model or OFFLINE_MODEL


def embed(texts: Sequence[str]) -> Vectors | None:
    """Return a vector of length 1 for each text, or None if the model can't be reached.

    No database connection is held while a model server is called.
    """
    if not conf().embedding_model:
        return _normalize(_offline_model().embed([text[:MAX_CHARACTERS] or " " for text in texts]))
    database.close_connections()
    try:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = [text[:MAX_CHARACTERS] or " " for text in texts[start : start + BATCH_SIZE]]
            vectors += async_to_sync(llm.embed)(batch)
    except ConvoError as error:
        logger.warning("Embedding failed, so search uses words only: %s", error.message)
        return None
    return _normalize(np.array(vectors, dtype=np.float32))


def unrelated_vectors() -> Vectors | None:
    """Return the vectors of sentences that answer no question, or None if the model can't be reached."""
    model = model_name()
    if model not in _unrelated_cache and (vectors := embed(SENTENCES)) is not None:
        _unrelated_cache[model] = vectors
    return _unrelated_cache.get(model)


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
