"""Processes that start in a fifth of the time: forked from one that has imported everything already.

What runs in them is what would run otherwise, `manage.py …` or `python -m …` from its first line to its last,
in an environment, with settings and with files of its own; only the importing has been done before.
`python -m tests.nursery SOCKET` is the process that is forked; it ends with the tests that began it.
"""

import atexit
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
# The settings module that most processes have. Another one may install other applications, so its processes
# are forked from a nursery that has imported no code of ours.
SETTINGS = "project.settings"
# Convo's modules that servers, workers and their commands import. None of them keeps a setting: they read
# settings when they use them, or Django tells them that one has changed.
OURS = ["convo.http.asgi", "convo.management.commands.serve", "convo.tasks", "convo.urls"]
# None of these reads Django's settings when it is imported: each process has settings of its own.
LIBRARIES = [
    "aiohttp",
    "celery.app.trace",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "kombu.transport.redis",
    "markdown_it",
    "django.core.handlers.asgi",
    "django.core.management",
    "django.db.backends.sqlite3.base",
    "django.db.models",
    "django.template.backends.django",
    "django.views",
    "httptools",
    "httpx2",
    "nh3",
    "numpy",
    "openai",
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "redis.asyncio",
    "Stemmer",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "whitenoise.middleware",
    "wordllama",
    "yaml",
]
START_SECONDS, POLL_SECONDS = 60, 0.01


class Child:
    """A process of the nursery, with the part of Popen's interface that the tests use."""

    stdout = None

    def __init__(
        self, argv: list[str], *, env: Mapping[str, str], stdout: Path, stderr: Path, own_group: bool = False
    ) -> None:
        self.returncode: int | None = None
        self._wire = socket.socket(socket.AF_UNIX)
        self._wire.connect(_nursery(env.get("DJANGO_SETTINGS_MODULE", SETTINGS)))
        asked = {"argv": argv, "env": dict(env), "files": [str(stdout), str(stderr)], "own_group": own_group}
        self._wire.sendall(json.dumps(asked).encode() + b"\n")
        self._told = self._wire.makefile("r")
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._heard(0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._heard(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def _heard(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wire, selectors.EVENT_READ)
                if selector.select(timeout):
                    self.returncode = int(self._told.readline())
                    self._told.close()
                    self._wire.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        # The nursery may have buried it already, and not have said so yet.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Child | subprocess.Popen[bytes]


def begin(
    argv: list[str], *, stdout: Path, stderr: Path, env: Mapping[str, str], own_group: bool = False
) -> Process:
    """Begin this process, `["manage.py", …]` or `["-m", module, …]`, in the tests' environment and this."""
    whole = {**os.environ, **env}
    if not any(name.startswith(("PYTHON", "LD_")) for name in env):
        return Child(argv, env=whole, stdout=stdout, stderr=stderr, own_group=own_group)
    # An interpreter reads these when it starts.
    with stdout.open("ab") as said, stderr.open("ab") as told:
        return subprocess.Popen(
            [sys.executable, *argv],
            cwd=ROOT,
            env=whole,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=told,
            start_new_session=own_group,
        )


_addresses: dict[str, str] = {}


def _nursery(settings: str) -> str:
    """The address of this run's nursery for these settings, which is started when it is asked for first."""
    settings = settings if settings == SETTINGS else ""
    if settings not in _addresses:
        folder = tempfile.mkdtemp(prefix="convo-")
        path = f"{folder}/nursery"
        # It ends when its standard input does: with this process, however that ends.
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", path, settings],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(process.kill)
        end = time.monotonic() + START_SECONDS
        while not Path(path).exists():
            assert process.poll() is None, "the nursery has ended"
            assert time.monotonic() < end, "the nursery does not start"
            time.sleep(POLL_SECONDS)
        _addresses[settings] = path
    return _addresses[settings]


class Nursery:
    """The process that is forked: it takes requests for processes and tells how each of them ended."""

    def __init__(self, path: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{path}.new")
        self._listener.listen()
        self._wires: dict[int, socket.socket] = {}
        self._waker, self._signals = socket.socketpair()
        for end in (self._waker, self._signals):
            end.setblocking(False)
        signal.set_wakeup_fd(self._signals.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for readable in (self._listener, self._waker, sys.stdin):
            self._selector.register(readable, selectors.EVENT_READ)
        os.rename(f"{path}.new", path)

    def tend(self) -> dict[str, Any] | None:
        """Fork whenever it is asked for; in a new process, what that one is to do."""
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if sys.stdin in ready:
                return None
            if self._waker in ready:
                with suppress(BlockingIOError):
                    self._waker.recv(1000)
                self._tell_of_the_dead()
            if self._listener in ready and (asked := self._born()):
                return asked

    def _born(self) -> dict[str, Any] | None:
        wire, _ = self._listener.accept()
        asked: dict[str, Any] = json.loads(wire.makefile("r").readline())
        pid = os.fork()
        if pid == 0:
            self._forget()
            wire.close()
            return asked
        self._wires[pid] = wire
        wire.sendall(f"{pid}\n".encode())
        return None

    def _tell_of_the_dead(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                wire = self._wires.pop(ended[0])
                with suppress(OSError):
                    wire.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())
                wire.close()

    def _forget(self) -> None:
        """In a new process: nothing is left of the one that it came from."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for end in (self._listener, self._waker, self._signals, *self._wires.values()):
            end.close()


def become(argv: list[str], env: dict[str, str], files: list[str], *, own_group: bool) -> None:
    """Run this command line, as the interpreter would that was started with it."""
    if own_group:
        os.setsid()
    if SETTINGS in sys.modules and env.get("CONVO_WORK_THREADS") != "0":
        Spare.fork()
        os.register_at_fork(after_in_child=Spare.fork_in_child)
    take_environment(env)
    for number, path in enumerate(["/dev/null", *files]):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    run(argv)


def run(argv: list[str]) -> None:
    if argv[0] == "-m":
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")


def take_environment(env: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    if SETTINGS in sys.modules:
        read_settings_again()


class Spare(subprocess.Popen[Any]):
    """The Popen of a process with a spare child: the first `python -m django …` that it starts is that one.

    So a server's process for background work starts as quickly as the server. Its command line is the
    nursery's. A test that looks at it gives the server a variable that begins with PYTHON.
    The processes that a Celery worker forks for its tasks have a spare child each.
    """

    _child: ClassVar[tuple[int, socket.socket] | None] = None
    _owner: ClassVar[int] = 0
    _is_forking: ClassVar[bool] = False

    @classmethod
    def fork(cls) -> None:
        ours, its = socket.socketpair()
        cls._is_forking = True
        pid = os.fork()
        if pid == 0:
            ours.close()
            _wait_to_be_needed(its)
        cls._is_forking = False
        its.close()
        cls._child, cls._owner = (pid, ours), os.getpid()
        subprocess.Popen = cls  # type: ignore[misc]

    @classmethod
    def fork_in_child(cls) -> None:
        """Fork a spare child of a process that has just been forked itself, while it has one thread."""
        if not cls._is_forking:
            cls.fork()

    def _execute_child(self, args: Any, *others: Any) -> None:
        # By their order in every Python from 3.11 on: env is the sixth of the others, then come the pipes.
        env, pipes = others[5], others[9:15]
        if self._child is None or self._owner != os.getpid() or args[:3] != [sys.executable, "-m", "django"]:
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        self.pid, wire = self._child
        type(self)._child = None
        request = json.dumps({"argv": args[1:], "env": dict(env)}).encode()
        ends = [end if end != -1 else number for number, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        socket.send_fds(wire, [request], ends)
        wire.close()
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _wait_to_be_needed(wire: socket.socket) -> None:
    """In the spare child: become what is asked for, or end with the process that it came from."""
    status = 0
    try:
        data, ends, _, _ = socket.recv_fds(wire, 1_000_000, 3)
        if data:
            wire.close()
            for number, end in enumerate(ends):
                os.dup2(end, number)
                os.close(end)
            # Celery writes what is printed into its log, also in the processes that it has forked.
            sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
            request = json.loads(data)
            take_environment(request["env"])
            run(request["argv"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        os._exit(status)


def read_settings_again() -> None:
    """Make Django read the settings from the environment as it is now, and forget what came of the others."""
    # The receivers in Django's own module reset what Django has made of a setting.
    import_module("django.test.signals")
    conf, signals = import_module("django.conf"), import_module("django.core.signals")
    before = vars(sys.modules.pop(SETTINGS))
    conf.settings._wrapped = conf.empty
    after = vars(import_module(SETTINGS))
    # Nothing resets these, for no test of Django's changes its databases.
    connections = import_module("django.db").connections
    connections._settings = connections.settings = connections.configure_settings(None)
    connections._connections = import_module("asgiref.local").Local(connections.thread_critical)
    for name in sorted(filter(str.isupper, {*before, *after})):
        if before.get(name) != after.get(name) and name != "DATABASES":
            value = after.get(name)
            signals.setting_changed.send(conf.Settings, setting=name, value=value, enter=True)


def main(path: str, settings: str) -> None:
    for name in LIBRARIES:
        import_module(name)
    if settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
        import_module("django").setup()
        for name in OURS:
            import_module(name)
        # A process takes a second of a processor for these when it needs them first.
        import_module("convo.tokens").count("one word")
        import_module("convo.search.embed")._load_offline_model()
    # A fork has no thread but the one that forks, and whatever lock another one holds is held for good.
    assert threading.active_count() == 1, threading.enumerate()
    if asked := Nursery(path).tend():
        become(**asked)


if __name__ == "__main__":
    main(*sys.argv[1:])
