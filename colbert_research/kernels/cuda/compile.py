"""CUDA C++ to cubin by NVRTC: for any architecture, without a GPU, kept on disk.

Cubin and never PTX: a driver refuses PTX of a compiler newer than itself, and the same bytes are tested everywhere. NVRTC comes
as a wheel (extras `cuda13`, `cuda12`); the sources include no header of the toolkit.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from colbert_research.artifacts import cache_root

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120")
OPTIONS = ("-std=c++17", "--ptxas-options=-v")
NO_CACHE, SINCE = "-no-cache", (12, 9)
"""From this version on NVRTC keeps what it compiled once a driver is there, and then says nothing of registers; older ones
(12.4 and 12.8 were tried) refuse the option."""
FOLDER = Path(__file__).resolve().parent

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.MULTILINE)
_USAGE = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


class CompilationError(RuntimeError):
    """The compiler refused a source; the message holds its log."""


@dataclass(frozen=True)
class Usage:
    """What one kernel takes, as the compiler tells: registers a thread, bytes of stack and spills a thread, bytes of static
    shared memory a block."""

    registers: int
    stack: int
    spills: int
    shared: int


@dataclass(frozen=True)
class Binary:
    """A compiled source: the cubin file; by name expression, each kernel's name in it and what it takes.

    `usage` lacks the kernels of which the compiler's log did not tell: they can be launched all the same.
    """

    path: Path
    names: Mapping[str, str]
    usage: Mapping[str, Usage]

    def usage_of(self, name: str) -> Usage:
        """What a kernel takes. Raises CompilationError where the log did not tell."""
        if name not in self.usage:
            raise CompilationError(
                f"NVRTC {compiler_version()} did not tell what {name} takes when it compiled {self.path}: its log had no line "
                f"of ptxas. Delete folder {self.path.parent} and compile again, with CUDA_CACHE_DISABLE=1 in the environment"
            )
        return self.usage[name]


@dataclass(frozen=True)
class Source:
    """A source as it was read: its text with the headers in place, a hash of that, and each file's time and size then."""

    text: str
    digest: str
    files: tuple[tuple[str, tuple[int, int]], ...]

    @classmethod
    def read(cls, name: str) -> "Source":
        """`name`: a file of this folder, or the path of one elsewhere that includes headers of this folder."""
        files: dict[str, tuple[int, int]] = {}

        def expand(file: str) -> str:
            path = str(FOLDER / file)
            if path in files:
                return ""
            files[path] = _state(path)  # before it is read: what is written meanwhile is a change
            return _INCLUDE.sub(lambda found: expand(found[1]), Path(path).read_text(encoding="utf-8"))

        text = expand(name).replace("#pragma once\n", "")
        return cls(text, hashlib.sha256(text.encode()).hexdigest(), tuple(files.items()))

    @property
    def changed(self) -> bool:
        """Whether one of the files was written since."""
        return any(_state(path) != state for path, state in self.files)


def source(name: str) -> str:
    """The text of a `.cu` file with its headers in place; `name` as of `Source.read`.

    CuPy compiles it as it is: `cupy.RawModule(code=source(name), options=("-std=c++17",), name_expressions=[...])`.
    """
    return Source.read(name).text


def _state(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def architecture_of(capability: tuple[int, int]) -> str:
    """The architecture to compile for, of a device's compute capability; a cubin runs on later minor versions of its major."""
    if capability == (9, 0):
        return "sm_90a"
    known = [int(name.removeprefix("sm_")) for name in ARCHITECTURES if name.removeprefix("sm_").isdigit()]
    fitting = [number for number in known if number // 10 == capability[0] and number % 10 <= capability[1]]
    if not fitting:
        raise ValueError(
            f"compute capability {capability[0]}.{capability[1]} is not supported; the kernels are compiled for "
            f"{', '.join(ARCHITECTURES)}. Use backend 'torch'"
        )
    return f"sm_{max(fitting)}"


def compiled(text: str, names: Sequence[str], architecture: str, *, folder: Path | None = None) -> Binary:
    """The cubin of a source for an architecture, with kernels `names` (name expressions such as `scale<half, 128>`).

    Kept in `folder` (`$COLBERT_RESEARCH_CACHE/cuda`) under a hash of the text, the names, the options, the compiler's version
    and the architecture. Raises CompilationError with the compiler's log, and ImportError when NVRTC is not installed.
    """
    folder = folder or cache_folder()
    names = sorted(set(names))
    parts = json.dumps([text, names, options(compiler_version()), compiler_version(), architecture])
    stem = folder / hashlib.sha256(parts.encode()).hexdigest()
    binary, record = stem.with_suffix(".cubin"), stem.with_suffix(".json")
    if not record.is_file():  # written after the cubin
        cubin, lowered, log = _compile(text, names, architecture)
        told = {name: asdict(usage) for name, usage in _usage(log).items()}
        folder.mkdir(parents=True, exist_ok=True)
        _write(binary, cubin)
        known = {name: {"lowered": lowered[name], "usage": told.get(lowered[name])} for name in names}
        _write(record, json.dumps(known, indent=1, sort_keys=True).encode())
    known = json.loads(record.read_text(encoding="utf-8"))
    lowered = {name: entry["lowered"] for name, entry in known.items()}
    return Binary(binary, lowered, {name: Usage(**entry["usage"]) for name, entry in known.items() if entry["usage"]})


def cache_folder() -> Path:
    return cache_root() / "cuda"


def options(version: str) -> tuple[str, ...]:
    """The compiler's options, of its version."""
    new = tuple(int(part) for part in version.split(".")[:2]) >= SINCE
    return (*OPTIONS, NO_CACHE) if new else OPTIONS


@cache
def compiler_version() -> str:
    """NVRTC's version, such as `13.5`."""
    nvrtc = _nvrtc()
    return ".".join(str(part) for part in _checked(nvrtc.nvrtcVersion()))


def _compile(text: str, names: Sequence[str], architecture: str) -> tuple[bytes, dict[str, str], str]:
    nvrtc = _nvrtc()
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"colbert_research.cu", 0, [], []))[0]
    try:
        for name in names:
            _checked(nvrtc.nvrtcAddNameExpression(program, name.encode()))
        given = [option.encode() for option in (f"-arch={architecture}", *options(compiler_version()))]
        failed = nvrtc.nvrtcCompileProgram(program, len(given), given)[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS
        log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program))[0])
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        report = log.rstrip(b"\0").decode()
        if failed:
            raise CompilationError(f"NVRTC {compiler_version()} refused the source for {architecture}:\n{report}")
        cubin = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program))[0])
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
        lowered = {name: _checked(nvrtc.nvrtcGetLoweredName(program, name.encode()))[0].decode() for name in names}
        return bytes(cubin), lowered, report
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _usage(log: str) -> dict[str, Usage]:
    """By lowered name, from the lines that `--ptxas-options=-v` puts into the log."""
    found = {}
    for match in _USAGE.finditer(log):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        spills = int(match["stores"]) + int(match["loads"])
        found[match["name"]] = Usage(int(match["registers"]), int(match["stack"]), spills, int(shared[1]) if shared else 0)
    return found


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise ImportError("compiling CUDA kernels needs NVRTC: pip install 'colbert-research[cuda13]' (or cuda12)") from error
    return nvrtc


def _checked(answer: tuple[Any, ...]) -> tuple[Any, ...]:
    if answer[0] != _nvrtc().nvrtcResult.NVRTC_SUCCESS:
        raise CompilationError(f"NVRTC answered {answer[0]!r}")
    return answer[1:]


def _write(path: Path, content: bytes) -> None:
    """Put a file in place by one rename; two processes write the same bytes."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
