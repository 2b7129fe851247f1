"""`python -m colbert_research.sweep.server`: a process that has imported everything, and is forked for every task.

It reads tasks as lines of JSON from its input and says on its output, in a line, which has ended with what exit status. It
computes nothing itself, so that a fork of it waits for no thread of OpenMP. At the end of its input (also when whoever gave the
tasks was killed) it waits for those that have begun.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from colbert_research.sweep.tasks import Task, perform

IMPORTS = (
    "papermill", "colbert_research.sweep.engine", "pandas", "pyarrow.parquet", "scipy.stats", "faiss", "numba",
    "colbert_research.experiment", "colbert_research.experiment.overlaps", "colbert_research.kernels.cpu_backend",
    "colbert_research.evaluation.timing", "ir_measures", "safetensors.numpy", "matplotlib.figure", "IPython.core.pylabtools",
)  # fmt: skip
"""What runs of cached stages need; torch and transformers, which only encoders do, are imported by whoever encodes."""
POLL = 0.05


def import_everything() -> None:
    """Import what runs need, without the grammar of IRIs that jsonschema, which papermill imports, would compile for a second.

    It is told that the package for them is not installed; nothing in a notebook has that format.
    """
    grammar = "rfc3987_syntax"
    before, sys.modules[grammar] = sys.modules.get(grammar), None  # type: ignore[assignment]
    for name in IMPORTS:
        import_module(name)
    del sys.modules[grammar]
    if before is not None:
        sys.modules[grammar] = before


def serve() -> None:
    """Serve until the input ends and every task has."""
    warm_up()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who gave the tasks says when to stop
    signal.signal(signal.SIGTERM, _stop)
    buffer, open_ = b"", True
    while open_ or _begun:
        ready = select.select([0], [], [], POLL)[0] if open_ else []
        if ready:
            new = os.read(0, 65536)
            open_, buffer = bool(new), buffer + new
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            _begin(json.loads(line))
        _reap(wait=not open_)


def warm_up() -> None:
    """Import, and do once what every run would do: look at the sources, and make what Numba loads compiled code into."""
    import_everything()
    from colbert_research.experiment.sources import look_at_sources
    from colbert_research.kernels.cpu_backend import prepare_to_load

    look_at_sources()
    prepare_to_load()


_begun: dict[int, tuple[int, Any]] = {}
"""Process id -> the number of its task, and the process itself where it was not forked."""


def _begin(message: dict[str, Any]) -> None:
    task, number = Task(**message["task"]), int(message["number"])
    if hasattr(os, "fork"):
        process = os.fork()
        if process == 0:
            status = 1
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.close(0)
                status = perform(task)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _begun[process] = number, None
    else:
        started = subprocess.Popen(task.command(), stdout=2)
        _begun[started.pid] = number, started


def _reap(*, wait: bool) -> None:
    """Tell of the tasks that have ended."""
    for process, (number, started) in list(_begun.items()):
        if started is not None:
            status = started.wait(POLL) if wait else started.poll()
        else:
            found, code = os.waitpid(process, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if found else None
        if status is not None:
            del _begun[process]
            _tell(number=number, status=status)
    if wait and _begun:
        select.select([], [], [], POLL)


def _tell(**message: int) -> None:
    with suppress(OSError):  # where nobody listens any more
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _stop(*_: Any) -> None:
    """End with whatever has begun, so that whoever asked finds nothing running afterwards."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for process in list(_begun):
            with suppress(ProcessLookupError):
                os.kill(process, kind)
        deadline = time.monotonic() + 5
        while _begun and time.monotonic() < deadline:
            _reap(wait=False)
            time.sleep(POLL)
    os._exit(1)


if __name__ == "__main__":
    serve()
