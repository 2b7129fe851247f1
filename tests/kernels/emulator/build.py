"""The emulator as a device: kernels compiled by g++, launched through ctypes on arrays in the processor's memory."""

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from colbert_research.kernels.cuda import instances
from colbert_research.kernels.cuda.compile import FOLDER
from colbert_research.kernels.cuda.launch import Kernel, scalars

HERE = Path(__file__).resolve().parent
COMPILER = shutil.which("g++")
FLAGS = ["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-fvisibility=hidden", "-fno-gnu-unique", "-w"]


class Emulator:
    """Launches kernels on the processor, one thread of it; raises RuntimeError for what a GPU would leave undefined.

    `kernels`: the instances to compile, once for each source. `descending`: threads and blocks run in reverse order.
    """

    multiprocessors = 2
    shared_limit = 99 * 1024  # the least of the architectures that the kernels are compiled for

    def __init__(self, kernels: Sequence[Kernel], folder: Path, *, descending: bool = False) -> None:
        if COMPILER is None:
            raise RuntimeError("the emulator needs g++")
        self.descending = descending
        self._functions = {}
        for source in sorted({kernel.source for kernel in kernels}):
            names = sorted({kernel.name for kernel in kernels if kernel.source == source})
            library = ctypes.CDLL(str(_library(source, names, folder)))
            for i, name in enumerate(names):
                function = library[f"launch_{i}"]
                function.restype = ctypes.c_char_p
                self._functions[Kernel(source, name)] = function

    def launch(self, kernel, grid, block, shared, arguments) -> None:
        if kernel not in self._functions:
            raise KeyError(f"{kernel} is not among the emulated instances; add it to its module's KERNELS")
        values = [np.array(value) for value in scalars(arguments)]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        failure = self._functions[kernel](*sizes, ctypes.c_ulonglong(shared), addresses, int(self.descending))
        if failure:
            raise RuntimeError(f"{kernel.name}: {failure.decode()}")


class EmulatorAsAsked:
    """Emulates whatever is launched, and compiles it then: with all tested instances of its source, if it is one of them."""

    multiprocessors, shared_limit = Emulator.multiprocessors, Emulator.shared_limit

    def __init__(self, folder: Path) -> None:
        self._folder, self._of = folder, {}

    def launch(self, kernel, *arguments) -> None:
        if kernel not in self._of:
            tested = [other for other in instances.kernels() if other.source == kernel.source]
            together = tested if kernel in tested else [kernel]
            self._of |= dict.fromkeys(together, Emulator(together, self._folder))
        self._of[kernel].launch(kernel, *arguments)


def _library(source: str, names: Sequence[str], folder: Path) -> Path:
    exports = [
        f'extern "C" __attribute__((visibility("default"))) const char* launch_{i}(const unsigned* grid, '
        f"const unsigned* block, unsigned long long shared, void** arguments, int backwards)\n"
        f"{{ return emulator::Launch<{name}>::run(grid, block, shared, arguments, backwards); }}"
        for i, name in enumerate(names)
    ]
    text = "\n".join([f'#include "emulator.hpp"\n#include "{source}"', *exports])
    files = [HERE / "emulator.hpp", *sorted(FOLDER.glob("*.cu*")), FOLDER / source]
    key = hashlib.sha256(text.encode() + str(FLAGS).encode() + b"".join(file.read_bytes() for file in files)).hexdigest()[:24]
    library = folder / f"{Path(source).stem}-{key}.so"
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unit, built = library.with_suffix(".cpp"), library.with_suffix(".tmp")
        unit.write_text(text)
        command = [str(COMPILER), *FLAGS, f"-I{HERE}", f"-I{FOLDER}", str(unit), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"g++ refused {source}:\n{done.stderr}")
        built.replace(library)
    return library
