"""The clients of the soak run: each follows a plan made of dice, and writes down what it was told."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from tests.recorded import DONE, FOREVER, REFUSED, UNKNOWN, Deed, write_down

# A deed whose outcome is unknown is sent again, under its key, for this long.
PATIENCE_SECONDS = 12.0
WEIGHTS = {
    "create": 2,
    "append": 8,
    "query": 8,
    "regenerate": 4,
    "edit": 3,
    "activate": 2,
    "resume": 3,
    "fork": 2,
    "delete message": 2,
    "delete turn": 1,
    "clear": 1,
}
CRASH = 500
ROLES = ("user", "assistant", "assistant", "user")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a client is going to do. Shares choose among the sessions and turns that it knows then."""

    number: int
    action: str
    session: float
    item: float
    size: int
    agent: str
    streamed: bool
    leaves: bool


def plan(seed: int, client: int) -> Iterator[Step]:
    """The steps of this client under this seed, without end."""
    dice = random.Random(f"{seed}/{client}")
    number = 0
    while True:
        number += 1
        yield Step(
            number=number,
            action=dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0],
            session=dice.random(),
            item=dice.random(),
            size=dice.randint(1, len(ROLES)),
            agent=dice.choice(["quick", "slow"]),
            streamed=dice.random() < 0.5,
            leaves=dice.random() < 0.4,
        )


@dataclass
class Known:
    """What a client knows of a session: its turns that were answered, and where its messages are."""

    id: str
    turns: list[int] = field(default_factory=list)
    messages: list[tuple[int, str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/api/v1/sessions/{self.id}/"


class Reading:
    """One reading of a turn's events, in as many pieces as it takes."""

    def __init__(self, *, leave_after: int | None) -> None:
        self.turn = 0
        self.last_id = -1
        self.heard = ""
        self.ending: dict[str, Any] | None = None
        self.completed = False
        self._leave_after = leave_after

    def read(self, response: httpx2.Response) -> None:
        """Read until the events end, or the reader has heard enough."""
        id, name = -1, ""
        for line in response.iter_lines():
            kind, _, value = line.partition(": ")
            if kind == "id":
                id = int(value)
            elif kind == "event":
                name = value
            elif kind == "data":
                self._take(name, json.loads(value))
                self.last_id = id
            if self._leave_after is not None and self.last_id >= self._leave_after:
                self._leave_after = None
                return

    def _take(self, name: str, data: dict[str, Any]) -> None:
        if name == "turn.started":
            self.turn = data["turn"]["number"]
        if name == "delta":
            self.heard += data["text"]
        if name in {"turn.completed", "error"}:
            self.ending, self.completed = data, name == "turn.completed"


class Client(threading.Thread):
    """One client: follows its plan until told to stop."""

    def __init__(
        self, number: int, *, seed: int, urls: Sequence[str], key: str, shared: Sequence[str], history: Path
    ) -> None:
        super().__init__(name=f"client {number}")
        self.number, self.history = number, history
        self.enough = threading.Event()
        self.failure: Exception | None = None
        self._seed = seed
        self._known = [Known(id) for id in shared]
        headers = {"Authorization": f"Bearer {key}"}
        self._servers = [
            httpx2.Client(base_url=url, headers=headers, timeout=10, trust_env=False) for url in urls
        ]
        self._turn_to = number

    def run(self) -> None:
        try:
            for step in plan(self._seed, self.number):
                if self.enough.is_set():
                    break
                self._do(step)
        except Exception as error:  # whoever started this thread raises it
            self.failure = error
        for server in self._servers:
            server.close()

    def _do(self, step: Step) -> None:
        known = self._known[int(step.session * len(self._known))]
        deed = Deed(
            client=self.number,
            step=step.number,
            action=step.action,
            session=known.id,
            began=time.monotonic(),
        )
        if done := ACTIONS[step.action](self, step, known, deed):
            ended = FOREVER if done.outcome == UNKNOWN else time.monotonic()
            write_down(self.history, replace(done, ended=ended))

    # What it can do.

    def create(self, step: Step, known: Known, deed: Deed) -> Deed:
        deed, answer = self._write(deed, "/api/v1/sessions/", {"agent": step.agent})
        if deed.outcome == DONE:
            self._known.append(Known(answer["id"]))
        return deed

    def append(self, step: Step, known: Known, deed: Deed) -> Deed:
        texts = [f"c{self.number} s{step.number} part {part}" for part in range(step.size)]
        messages = [{"role": role, "content": text} for role, text in zip(ROLES, texts, strict=False)]
        deed = replace(deed, texts=texts)
        deed, answer = self._write(deed, f"{known.path}messages/", {"messages": messages})
        if deed.outcome == DONE:
            positions = [message["position"] for message in answer["results"]]
            known.messages += zip(positions, texts, strict=True)
            deed = replace(deed, positions=positions)
        return deed

    def query(self, step: Step, known: Known, deed: Deed) -> Deed:
        text = f"c{self.number} s{step.number}"
        deed = replace(deed, texts=[text])
        return self._ask(step, known, deed, f"{known.path}query/", {"message": text, "agent": step.agent})

    def edit(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        text, turn = f"c{self.number} s{step.number}", pick(known.turns, step)
        deed = replace(deed, texts=[text])
        body = {"message": text, "agent": step.agent}
        return turn and self._ask(step, known, deed, f"{known.path}turns/{turn}/edit/", body)

    def regenerate(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        turn = pick(known.turns, step)
        path = f"{known.path}turns/{turn}/regenerate/"
        return turn and self._ask(step, known, deed, path, {"agent": step.agent})

    def activate(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        turn = pick(known.turns, step)
        deed = replace(deed, turn=turn or 0)
        return turn and self._write(deed, f"{known.path}turns/{turn}/activate/", {})[0]

    def resume(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        """Read an old turn's events again, from any server."""
        turn = pick(known.turns, step)
        reading = Reading(leave_after=step.size if step.leaves else None)
        return turn and self._follow(known, replace(deed, turn=turn), reading)

    def fork(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        if (place := pick(known.messages, step)) is None:
            return None
        position, text = place
        deed, answer = self._write(deed, f"{known.path}messages/{position}/fork/", {})
        if deed.outcome != DONE:
            return deed
        self._known.append(Known(answer["id"]))
        # From now on the text is promised in the new session too.
        return replace(deed, session=answer["id"], texts=[text] if text else [])

    def delete_message(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        if (place := pick(known.messages, step)) is None:
            return None
        known.messages.remove(place)
        deed = replace(deed, position=place[0])
        return self._write(deed, f"{known.path}messages/{place[0]}/", method="DELETE")[0]

    def delete_turn(self, step: Step, known: Known, deed: Deed) -> Deed | None:
        if (turn := pick(known.turns, step)) is None:
            return None
        known.turns.remove(turn)
        deed = replace(deed, turn=turn)
        return self._write(deed, f"{known.path}turns/{turn}/", method="DELETE")[0]

    def clear(self, step: Step, known: Known, deed: Deed) -> Deed:
        known.turns, known.messages = [], []
        return self._write(deed, f"{known.path}history/", method="DELETE")[0]

    # How it asks and reads.

    def _ask(self, step: Step, known: Known, deed: Deed, path: str, body: Mapping[str, Any]) -> Deed:
        if step.streamed:
            deed = self._ask_and_read_along(step, known, deed, path, {**body, "stream": True})
        else:
            deed, answer = self._write(deed, path, body)
            deed = told(deed, answer) if deed.outcome == DONE else deed
        if deed.reply is not None:
            known.turns.append(deed.turn)
            known.messages.append((deed.reply_position, ""))
            # A turn's messages stand side by side, also when others write at the same time.
            known.messages += [(deed.reply_position - 1, text) for text in deed.texts]
        return deed

    def _ask_and_read_along(
        self, step: Step, known: Known, deed: Deed, path: str, body: Mapping[str, Any]
    ) -> Deed:
        reading = Reading(leave_after=step.size if step.leaves else None)
        for server in self._while_patient():
            try:
                with server.stream("POST", path, json=body, headers=key(deed)) as response:
                    if response.status_code == 200:
                        reading.read(response)
                    else:
                        response.read()
                        deed = outcome(deed, response)
            except httpx2.TransportError as error:
                deed = cut_off(deed, error)
            if reading.turn:
                # It has started, so the question is stored.
                return self._follow(known, replace(deed, outcome=DONE, turn=reading.turn), reading)
            if deed.outcome != UNKNOWN or deed.status == CRASH:
                return deed
        return deed

    def _follow(self, known: Known, deed: Deed, reading: Reading) -> Deed:
        """Read on where the reading stopped, from another server when one dies, until the events end."""
        path = f"{known.path}turns/{deed.turn}/events/"
        for server in self._while_patient():
            if reading.ending:
                heard = reading.heard if reading.completed else None
                return told(replace(deed, outcome=DONE), reading.ending, heard=heard)
            headers = {"Last-Event-ID": str(reading.last_id)} if reading.last_id >= 0 else {}
            try:
                with server.stream("GET", path, headers=headers) as response:
                    if response.status_code != 200:
                        return replace(deed, status=response.status_code)
                    reading.read(response)
            except httpx2.TransportError:
                continue
        return deed

    def _write(
        self, deed: Deed, path: str, body: Mapping[str, Any] | None = None, *, method: str = "POST"
    ) -> tuple[Deed, Any]:
        """Send a write, and send it again while nobody says what became of it."""
        for server in self._while_patient():
            try:
                response = server.request(method, path, json=body, headers=key(deed))
            except httpx2.TransportError as error:
                deed = cut_off(deed, error)
                continue
            deed = outcome(deed, response)
            if deed.outcome != UNKNOWN or deed.status == CRASH:
                return deed, response.json() if response.content else None
        return deed, None

    def _while_patient(self) -> Iterator[httpx2.Client]:
        """The servers in turn, with a pause after each that did not say."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self._turn_to += 1
            yield self._servers[self._turn_to % len(self._servers)]
            time.sleep(0.1)


def pick(things: Sequence[Any], step: Step) -> Any:
    return things[int(step.item * len(things))] if things else None


def key(deed: Deed) -> dict[str, str]:
    return {"Idempotency-Key": f"client {deed.client} step {deed.step}"}


def outcome(deed: Deed, response: httpx2.Response) -> Deed:
    """What the answer says became of the deed."""
    answer = response.json() if response.content else {}
    in_flight = response.status_code == 409 and answer["error"]["code"] == "idempotency_key_in_use"
    # A failed turn is told with an error's status; its question is stored.
    if response.is_success or (response.status_code >= 500 and "turn" in answer):
        known = DONE
    else:
        known = REFUSED if response.is_client_error and not in_flight else UNKNOWN
    return replace(deed, outcome=known, status=response.status_code)


def told(deed: Deed, answer: Mapping[str, Any], *, heard: str | None = None) -> Deed:
    """The deed with what a whole answer, or the last event of a stream, says of its turn."""
    if "turn" in answer:
        deed = replace(deed, turn=answer["turn"]["number"])
    if message := answer.get("message"):
        return replace(deed, heard=heard, reply=message["content"], reply_position=message["position"])
    return deed


def cut_off(deed: Deed, error: httpx2.TransportError) -> Deed:
    """The deed after a try that broke off; one that found no server did nothing."""
    return deed if isinstance(error, httpx2.ConnectError) else replace(deed, cut=True)


ACTIONS: dict[str, Callable[[Client, Step, Known, Deed], Deed | None]] = {
    name: getattr(Client, name.replace(" ", "_")) for name in WEIGHTS
}
