"""Compilation without a GPU: cubins, names, what kernels take, the cache and its errors."""

import subprocess
import sys

import pytest

from colbert_research.kernels.cuda import compile as compiler
from colbert_research.kernels.cuda.compile import ARCHITECTURES, CompilationError, architecture_of, compiled, source

pytestmark = pytest.mark.usefixtures("nvrtc")
SCALE = """
template <class T, int N> __global__ void scale(T* x) {
    __shared__ T part[64];
    part[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = part[63 - threadIdx.x] * N;
}
"""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_templates_become_a_cubin(tmp_path, architecture):
    binary = compiled(SCALE, ["scale<float, 3>", "scale<int, 2>"], architecture, folder=tmp_path)
    content = binary.path.read_bytes()
    assert content.startswith(b"\x7fELF")
    assert set(binary.names) == {"scale<float, 3>", "scale<int, 2>"} == set(binary.usage)
    for name, lowered in binary.names.items():
        assert lowered.encode() in content
        usage = binary.usage[name]
        assert 4 <= usage.registers <= 32
        assert (usage.stack, usage.spills, usage.shared) == (0, 0, 256)


def test_spills_are_seen(tmp_path):
    body = "float v[64]; for (int i = 0; i < 64; i++) v[i] = x[i]; for (int j = 0; j < n; j++) x[j] = v[x[j] > 0 ? j % 64 : 3];"
    binary = compiled(f"__global__ void deep(float* x, int n) {{ {body} }}", ["deep"], "sm_80", folder=tmp_path)
    assert binary.usage["deep"].stack >= 256


def test_the_cache_is_read_again_and_knows_what_it_holds(tmp_path, monkeypatch):
    first = compiled(SCALE, ["scale<int, 2>"], "sm_80", folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
        assert compiled(SCALE, ["scale<int, 2>", "scale<int, 2>"], "sm_80", folder=tmp_path) == first
    others = [
        compiled(SCALE + " ", ["scale<int, 2>"], "sm_80", folder=tmp_path),
        compiled(SCALE, ["scale<int, 3>"], "sm_80", folder=tmp_path),
        compiled(SCALE, ["scale<int, 2>"], "sm_90a", folder=tmp_path),
    ]
    assert len({first.path, *(other.path for other in others)}) == 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".cubin"] * 4 + [".json"] * 4
    content = first.path.read_bytes()
    first.path.with_suffix(".json").unlink()  # as after a crash between the two files
    again = compiled(SCALE, ["scale<int, 2>"], "sm_80", folder=tmp_path)
    assert again == first
    assert again.path.read_bytes() == content


def test_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COLBERT_RESEARCH_CACHE", str(tmp_path))
    assert compiled(SCALE, ["scale<int, 2>"], "sm_80").path.parent == tmp_path / "cuda"


def test_errors_hold_the_log(tmp_path):
    with pytest.raises(CompilationError, match=r"sm_80:\n.*error: identifier \"nonsense\" is undefined"):
        compiled("__global__ void k() { nonsense; }", ["k"], "sm_80", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_sources_stand_alone():
    text = source("warp.cuh")
    assert "#include" not in text
    assert "#pragma once" not in text


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 7), "sm_86"), ((8, 9), "sm_89"), ((9, 0), "sm_90a"), ((10, 0), "sm_100"),
     ((10, 3), "sm_100"), ((12, 0), "sm_120"), ((12, 1), "sm_120")],
)  # fmt: skip
def test_architectures_of_devices(capability, architecture):
    assert architecture_of(capability) == architecture


@pytest.mark.parametrize("capability", [(7, 5), (11, 0), (13, 0)])
def test_devices_that_are_not_supported(capability):
    with pytest.raises(ValueError, match=rf"compute capability {capability[0]}\.{capability[1]} is not supported"):
        architecture_of(capability)


def test_nothing_heavy_is_imported():
    modules = "compile, launch, arrays"
    code = f"import sys; from colbert_research.kernels.cuda import {modules}; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & {"torch", "cupy", "cuda", "pydantic"}


def test_a_compiler_that_keeps_what_it_compiled_is_told_not_to():
    """From its cache NVRTC prints no log; versions before 12.9 refuse the option."""
    assert compiler.options("12.4") == compiler.options("12.8") == compiler.OPTIONS
    assert compiler.options("12.9") == compiler.options("13.5") == (*compiler.OPTIONS, "-no-cache")


def test_a_log_that_tells_nothing_of_registers(monkeypatch, tmp_path):
    """Kernels can be launched; only who asks what they take is told, in a sentence."""
    compile_ = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda *given: (*compile_(*given)[:2], "ptxas info : nothing new"))
    for _ in range(2):  # compiled, and read again
        binary = compiled(SCALE, ["scale<int, 2>"], "sm_80", folder=tmp_path)
        assert binary.names["scale<int, 2>"].encode() in binary.path.read_bytes()
        with pytest.raises(CompilationError, match=r"did not tell what scale<int, 2> takes .* Delete folder .* and compile"):
            binary.usage_of("scale<int, 2>")


def test_a_log_that_tells_of_some_kernels(monkeypatch, tmp_path):
    def half(text, names, architecture):
        cubin, lowered, log = compile_(text, names, architecture)
        return cubin, lowered, log.replace(lowered["scale<int, 2>"], "another")

    compile_ = compiler._compile
    monkeypatch.setattr(compiler, "_compile", half)
    binary = compiled(SCALE, ["scale<int, 2>", "scale<int, 3>"], "sm_80", folder=tmp_path)
    assert binary.usage_of("scale<int, 3>").registers > 0
    with pytest.raises(CompilationError, match="did not tell what scale<int, 2> takes"):
        binary.usage_of("scale<int, 2>")
