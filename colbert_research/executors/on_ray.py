"""`ray`: workers on the machines of a Ray cluster, or of one that is started here for as long as it is needed."""

import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from colbert_research import progress, store, threads
from colbert_research.artifacts import CACHE_VARIABLE, cache_root
from colbert_research.executors.base import Executor, Resources, Worker, WorkerDiedError, WorkersConfig
from colbert_research.executors.calls import answered, check_function, packed, settle
from colbert_research.executors.loop import Ended, run
from colbert_research.executors.pending import Pending, Sent
from colbert_research.executors.probe import WorkerDiffersError, difference, probe_files, versions
from colbert_research.settings import ConfigError

logger = logging.getLogger("colbert_research")
T = TypeVar("T")
R = TypeVar("R")
LOCAL, AUTO = "local", "auto"
STORE = 100 * 2**20  # bytes of the object store of a local cluster: results are names of files, not vectors
REACH = 5.0  # seconds to wait for a cluster's port
TOLD = 30.0  # seconds after which it is said that no worker could be started yet, and again
WAITS = 10  # so often it is said of a worker that is to stay; a cluster that grows with its load takes minutes


class RayConfig(WorkersConfig):
    """Workers of a Ray cluster. Needs the extra `ray`, on all machines, with the same version of this package.

    `address`: `host:port` of the cluster's head, `auto` for the one that this machine is part of, `local` for one of this
    machine alone, which is started and ended. A connection that this process already has (`ray.init`) is used. Files go by
    shared folders: the cache (`COLBERT_RESEARCH_CACHE`) is one folder on a file system that all machines mount at one path,
    with locks between machines (NFS 4; Lustre mounted with `flock`).
    """

    kind: Literal["ray"] = "ray"
    address: str = LOCAL

    @contextmanager
    def start(self, shared: Sequence[Path] = ()) -> Iterator[Executor]:
        """The executor. `shared`: folders that every worker must see; each looks for a file that this process writes there.

        Raises ConfigError without Ray, and where there is no cluster at the address.
        """
        ray = _ray()
        with _connection(ray, self.address), probe_files(shared) as files:
            yield OnRay(self, ray, files)


class OnRay:
    """See `Executor`."""

    def __init__(self, config: RayConfig, ray: Any, files: Mapping[str, str]) -> None:
        self._config, self._ray, self._files = config, ray, files

    def map(self, function: Callable[[T], R], items: Iterable[T], resources: Resources | None = None) -> Iterator[tuple[T, R]]:
        needed = resources or self._config.resources
        n = self.workers(needed)
        crew = lambda: _Actors(self._ray, n, needed, self._files, self._config.attempts)  # noqa: E731
        return run(crew, function, items, attempts=self._config.attempts)

    def workers(self, resources: Resources | None = None) -> int:
        needed, asked = resources or self._config.resources, self._config.workers
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = {"CPU": needed.cpus, "GPU": needed.gpus, "memory": needed.memory}
        most = sum(min(int(node.get(name, 0) / n) for name, n in wanted.items() if n) for node in nodes)
        if most < (asked or 1):
            each = ", ".join(f"{n:g} {name}" for name, n in wanted.items() if n)
            there = "; ".join(", ".join(f"{node.get(name, 0):g} {name}" for name, n in wanted.items() if n) for node in nodes)
            raise ConfigError(
                f"executor ray: {asked or 1} workers that take {each} each, and there is room for {most}: the cluster has "
                f"{len(nodes)} nodes, with {there}"
            )
        return asked or most

    def worker(self, resources: Resources | None = None, *, number: int = 0) -> Worker:
        return _Staying(self._ray, resources or self._config.resources, self._files)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it is used
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers without GPUs see what their machine shows
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # what is asked after the end of a cluster starts no other one
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"executor ray needs Ray ({error}): pip install 'colbert-research[ray]'") from error
    return ray


class _Ours:
    """The connection that an executor made for itself and all that are started before it ends: how many use it."""

    lock, users = threading.Lock(), 0


@contextmanager
def _connection(ray: Any, address: str) -> Iterator[None]:
    """A connection of this process, made where there is none, and ended by the last who uses one that was made here."""
    with _Ours.lock:
        connected = ray.is_initialized()
        if not connected:
            _connect(ray, address)
        ours = _Ours.users > 0 or not connected
        _Ours.users += ours
    try:
        yield
    finally:
        if ours:
            with _Ours.lock:
                _Ours.users -= 1
                if not _Ours.users:
                    ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Connect this process to a cluster. Raises ConfigError where there is none."""
    quiet = {"logging_level": "warning", "log_to_driver": False}
    if address == LOCAL:
        _start_here(ray, quiet)
        return
    start = f"start one with `ray start --head` and give its host:port, or use address={LOCAL} for this machine alone"
    if address != AUTO:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or "/" in host:
            raise ConfigError(f"executor ray: address is `host:port`, {AUTO} or {LOCAL}; given {address!r}")
        try:
            socket.create_connection((host, int(port)), timeout=REACH).close()
        except OSError as error:
            raise ConfigError(f"executor ray: there is no cluster at {address} ({error}); {start}") from error
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        token = "" if address == AUTO else "; where it answers but asks for a token, set RAY_AUTH_MODE=token"
        raise ConfigError(f"executor ray: no cluster at address={address} ({error}); {start}{token}") from error


def _start_here(ray: Any, quiet: Mapping[str, Any]) -> None:
    """Start a cluster of this machine alone; once more where reading it from the disk took longer than Ray waits.

    Raises ConfigError where it does not start either time.
    """
    for last in (False, True):
        try:
            ray.init(address=LOCAL, num_cpus=threads.count(), object_store_memory=STORE, include_dashboard=False, **quiet)
            return
        except Exception as error:  # of no class of its own
            ray.shutdown()
            if last:
                logs = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "session_latest" / "logs"
                raise ConfigError(
                    f"executor ray: no cluster could be started here ({_line(error)}). A busy machine takes longer "
                    "than Ray waits: try again when it is less so, or take the executor `processes`, which needs no cluster. "
                    f"Ray's logs lie in {logs}"
                ) from error


class _Worker:
    """What runs on a machine of the cluster."""

    def __init__(self, path: list[str], environment: dict[str, str]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        os.environ.update(environment)

    def difference(self, expected: dict[str, str], files: dict[str, str]) -> str:
        return difference(expected, files)

    def answered(self, call: bytes) -> bytes:
        return answered(call)

    def node(self) -> str:
        return str(_ray().get_runtime_context().get_node_id())


def _actor(ray: Any, resources: Resources) -> Any:
    """An actor, which Ray places where there is room."""
    made = ray.remote(_Worker).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, memory=resources.memory or None,
        max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD",
    )  # fmt: skip
    environment = {
        **dict.fromkeys((threads.VARIABLE, "OMP_NUM_THREADS"), str(resources.cpus)),
        CACHE_VARIABLE: str(cache_root()),
        store.VARIABLE: os.environ.get(store.VARIABLE, ""),
        progress.VARIABLE: "off",
    }
    return made.remote(sys.path, environment)


def _unlike(error: Any) -> WorkerDiffersError:
    """The error of a worker of which not even `_Worker` could be called, which raises nothing."""
    return WorkerDiffersError(
        f"a worker could not begin ({error.cause!r}); is the same version of this package installed on every machine?"
    )


class _Staying:
    """See `Worker`: an actor that is as this process is."""

    def __init__(self, ray: Any, resources: Resources, files: Mapping[str, str]) -> None:
        self._ray, self._actor, self._calls = ray, _actor(ray, resources), Pending()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="colbert_research calls")  # for Ray's own thread must not wait
        try:
            asked = [self._actor.difference.remote(versions(), dict(files)), self._actor.node.remote()]
            self._wait(asked, resources)
            differs, self.where = ray.get(asked)
            if differs:
                raise WorkerDiffersError(differs)
        except BaseException as error:
            self.close()
            if isinstance(error, ray.exceptions.RayTaskError):
                raise _unlike(error) from error
            if isinstance(error, ray.exceptions.RayError):
                raise WorkerDiedError(f"a worker died before it could begin: {_line(error)}") from error
            raise

    def _wait(self, asked: list[Any], resources: Resources) -> None:
        for waits in range(1, WAITS + 1):
            if len(self._ray.wait(asked, num_returns=len(asked), timeout=TOLD)[0]) == len(asked):
                return
            free = self._ray.available_resources()
            said = f"for {waits * TOLD:.0f} s; a worker takes {resources!r}, and free in the cluster is {free}"
            logger.warning("no worker could be started %s", said)
        raise ConfigError(f"executor ray: no worker could be started {said}")

    def call(self, function: Callable[[T], R], item: T) -> "Future[R]":
        check_function(function)
        future, calls = self._calls.add(packed(function, item))
        self._send(calls)
        return future

    def _send(self, calls: Sequence[Sent]) -> None:
        try:
            for future, call in calls:
                self._actor.answered.remote(call).future().add_done_callback(partial(self._answered, future))
        except Exception as error:  # noqa: BLE001 (of no class of its own: the cluster is gone)
            self._calls.end(f"a worker died: {_line(error)}")

    def _answered(self, future: "Future[Any]", answer: "Future[bytes]") -> None:
        error = answer.exception()
        if error is not None and not isinstance(error, self._ray.exceptions.RayTaskError):
            self._calls.end(f"a worker died: {_line(error)}")
            return
        found, calls = self._calls.answered(future)
        if found is not None and error is not None:
            found.set_exception(_unlike(error))
        elif found is not None:
            settle(found, answer.result())
        if calls:
            with suppress(RuntimeError):  # it was closed meanwhile, by which they have failed
                self._sender.submit(self._send, calls)

    def close(self) -> None:
        self._calls.end("the worker was closed")
        self._sender.shutdown(wait=False)
        _kill(self._ray, self._actor)


def _kill(ray: Any, actor: Any) -> None:
    """End an actor, unless its cluster is gone."""
    if ray.is_initialized():
        ray.kill(actor)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


class _Actors:
    """The crew: actors, each placed by Ray where there is room; another one for each that died."""

    def __init__(self, ray: Any, n: int, resources: Resources, files: Mapping[str, str], attempts: int) -> None:
        self._ray, self._files, self._attempts = ray, dict(files), attempts
        self._lost, self._since, self._resources = 0, time.monotonic(), resources
        self._idle: list[Any] = []
        self._asked: dict[Any, tuple[Any, int | None]] = {}
        """What is waited for -> the actor, and the number of its call; None where it was asked whether it differs."""
        for _ in range(n):
            self._start()

    def _start(self) -> None:
        actor = _actor(self._ray, self._resources)
        self._asked[actor.difference.remote(versions(), self._files)] = (actor, None)

    @property
    def free(self) -> int:
        return len(self._idle)

    def begin(self, number: int, call: bytes) -> None:
        actor = self._idle.pop()
        self._asked[actor.answered.remote(call)] = (actor, number)

    def wait(self) -> list[Ended]:
        ready, _ = self._ray.wait(list(self._asked), timeout=1.0)
        self._say_that_nothing_starts()
        return [ended for each in ready if (ended := self._take(each)) is not None]

    def _take(self, ready: Any) -> Ended | None:
        actor, number = self._asked.pop(ready)
        try:
            answer = self._ray.get(ready)
        except self._ray.exceptions.RayTaskError as error:
            raise _unlike(error) from error
        except self._ray.exceptions.RayError as error:
            how = _line(error)
            self._lose(actor, how)
            return None if number is None else Ended(number, None, how)
        if number is None:
            if answer:
                raise WorkerDiffersError(answer)
            self._lost = 0
        self._idle.append(actor)
        return None if number is None else Ended(number, answer)

    def _lose(self, actor: Any, how: str) -> None:
        """Start another actor in place of one that died. Raises WorkerDiedError when none lives long enough to begin."""
        _kill(self._ray, actor)
        self._lost += 1
        if self._lost > self._attempts * (1 + len(self._asked)):
            raise WorkerDiedError(f"{self._lost} workers died one after another, before any could begin; the last one: {how}")
        self._start()

    def _say_that_nothing_starts(self) -> None:
        if self._idle or any(number is not None for _, number in self._asked.values()):
            self._since = time.monotonic()
        elif time.monotonic() - self._since > TOLD:
            logger.warning(
                "no worker could be started for %.0f s: it is waited for room in the cluster, where %s is free",
                time.monotonic() - self._since, self._ray.available_resources(),
            )  # fmt: skip
            self._since = time.monotonic()

    def close(self) -> None:
        for actor in (*self._idle, *(actor for actor, _ in self._asked.values())):
            _kill(self._ray, actor)
