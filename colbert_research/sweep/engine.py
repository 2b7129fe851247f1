"""A papermill engine that executes a notebook in the process that it runs in: no kernel is started, no port is opened.

A kernel of its own takes one to two seconds to start, and another two for what it imports. A sweep executes every notebook in
a process of its own anyway, forked from one that has imported everything; there this engine runs the cells in an IPython shell.
"""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from nbformat import v4
from papermill.engines import Engine
from papermill.iorw import LocalHandler
from traitlets.config import Config

from colbert_research.artifacts import write_text

Output = Any
SAVE_EVERY = 2.0  # seconds
new_output: Any = v4.new_output


class Outputs(list[Output]):
    """The outputs of the cell that is running, as the notebook format has them; text of streams is joined when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: dict[int, list[str]] = {}

    def stream(self, name: str, text: str) -> None:
        last = self[-1] if self else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            self._pieces[id(last)].append(text)
        elif text:
            self.append(new_output("stream", name=name, text=""))
            self._pieces[id(self[-1])] = [text]

    def finished(self, execution_count: int | None) -> list[Output]:
        """The outputs, whole."""
        for output in self:
            output.pop("transient", None)
            if output.output_type == "stream":
                output.text = "".join(self._pieces[id(output)])
            if output.output_type == "execute_result":
                output.execution_count = execution_count
        return list(self)


class _Stream(io.TextIOBase):
    """`sys.stdout` of a cell: text is added to its outputs; what asks for a file's number gets that of the process."""

    def __init__(self, outputs: Outputs, name: str) -> None:
        self._outputs, self._name = outputs, name

    @property
    def buffer(self) -> "_Bytes":
        return _Bytes(self)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._outputs.stream(self._name, text)
        return len(text)

    def fileno(self) -> int:
        return 1 if self._name == "stdout" else 2


class _Bytes(io.RawIOBase):
    """The bytes below a stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)


class _Publisher(DisplayPublisher):  # type: ignore[misc]
    """What `display` shows."""

    outputs: Outputs

    def publish(
        self, data: Any, metadata: Any = None, source: Any = None, *, transient: Any = None, update: bool = False, **_: Any
    ) -> None:
        output = new_output("display_data", data=data, metadata=metadata or {})
        name = (transient or {}).get("display_id")
        if name is not None:
            output["transient"] = {"display_id": name}
        old = [i for i, other in enumerate(self.outputs) if name and other.get("transient", {}).get("display_id") == name]
        for i in old if update else ():
            self.outputs[i] = output
        if not (update and name):
            self.outputs.append(output)

    def clear_output(self, wait: bool = False) -> None:
        self.outputs.clear()


class _Hook(DisplayHook):  # type: ignore[misc]
    """The value of a cell's last line."""

    outputs: Outputs

    def write_output_prompt(self) -> None:
        """A notebook shows the number of a cell itself."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.outputs.append(new_output("execute_result", data=format_dict, metadata=md_dict or {}))


class _Shell(InteractiveShell):  # type: ignore[misc]
    """A shell whose errors are outputs."""

    outputs: Outputs

    def enable_gui(self, gui: Any = None) -> None:
        """There is no window."""

    def ask_exit(self) -> None:
        """`exit()` ends the cell, as in a notebook."""
        raise SystemExit(0)

    def system(self, cmd: str) -> None:
        """`!command`: what it prints is the cell's."""
        done = subprocess.run(
            self.var_expand(cmd, depth=1), shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        self.outputs.stream("stdout", done.stdout.decode("utf-8", "replace"))
        self.user_ns["_exit_code"] = done.returncode

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self.outputs.append(new_output("error", ename=etype.__name__, evalue=str(evalue), traceback=list(stb)))


class WholeFiles(LocalHandler):  # type: ignore[misc]
    """What papermill writes is there whole or not at all: on a full disk, and where it is killed, the notebook before stays."""

    def write(self, buf: str, path: str) -> None:
        write_text(path, buf, flush=False)


class InProcess(Engine):  # type: ignore[misc]
    """The engine, for a process that executes one notebook."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> None:
        """Execute the cells in order; stops behind one that fails, whose outputs then end with its error."""
        with tempfile.TemporaryDirectory() as nowhere:  # nothing of a user's profile, and no history, is read or written
            config = Config({"HistoryManager": {"enabled": False}})
            shell = _Shell.instance(config=config, ipython_dir=nowhere, displayhook_class=_Hook, display_pub_class=_Publisher)
            shell.outputs = shell.displayhook.outputs = shell.display_pub.outputs = Outputs()
            nb_man.save = _sparing(nb_man.save)
            for index, cell in enumerate(nb_man.nb.cells):
                nb_man.cell_start(cell, index)
                failed = cell.cell_type == "code" and bool(cell.source.strip()) and not _execute(shell, cell)
                if failed:
                    nb_man.cell_exception(cell, cell_index=index)
                nb_man.cell_complete(cell, cell_index=index)
                if failed:
                    break


def _sparing(save: Callable[[], None]) -> Callable[[], None]:
    """Save the notebook as it grows, but not before and after each of its cells where they take no time.

    Papermill saves it whole at the end, also where a cell failed.
    """
    saved = time.monotonic()

    def sometimes() -> None:
        nonlocal saved
        if time.monotonic() - saved >= SAVE_EVERY:
            save()
            saved = time.monotonic()

    return sometimes


def _execute(shell: _Shell, cell: Any) -> bool:
    """Run a cell and give it its outputs; whether it succeeded."""
    shell.outputs.clear()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(shell.outputs, "stdout"), _Stream(shell.outputs, "stderr")
    try:
        result = shell.run_cell(cell.source, store_history=True)
    finally:
        sys.stdout, sys.stderr = before
    cell.execution_count = result.execution_count
    cell.outputs = shell.outputs.finished(result.execution_count)
    return bool(result.success) or "raises-exception" in cell.metadata.get("tags", ())
