"""The emulator against tables written down once more, in NumPy; and the faults of a kernel that it has to find.

Where there is a GPU, the same probes run there: they confirm that the emulator reads the manual rightly.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from colbert_research.kernels.cuda.arrays import place_of, upload
from colbert_research.kernels.cuda.compile import compiled, source
from colbert_research.kernels.cuda.launch import Kernel, device_of
from tests.kernels.conftest import WHERE
from tests.kernels.cuda_codes_cases import fused
from tests.kernels.emulator import build

PROBE = str(Path(build.__file__).parent / "probe.cu")
PRODUCTS = ["F16", "BF16", "TF32", "S8S8", "S8U8", "U8S8", "U8U8"]
KERNELS = [
    *(Kernel(PROBE, f"product<{kind}>") for kind in PRODUCTS),
    *(Kernel(PROBE, f"round_trip<{kind}>") for kind in ("half", "bfloat", "float")),
    *(Kernel(PROBE, f"reverse<{wait}, {barrier}>") for wait in ("true", "false") for barrier in ("true", "false")),
    *(Kernel(PROBE, f"quarrel<{wrong}>") for wrong in range(4)),
    *(Kernel(PROBE, name) for name in ("exchange", "meet", "loads", "arithmetic", "rounding", "bytes_and_doubles")),
]


@pytest.fixture(scope="module", params=WHERE)
def run(request):
    """`run(name, grid, block, shared, *arrays)`: the arrays after the launch."""
    if request.param == "emulated":
        device, place = request.getfixturevalue("emulate")(KERNELS), place_of(np.zeros(1))
    else:
        place = place_of(torch.zeros(1, device=f"cuda:{request.getfixturevalue('gpu')}"))
        device = device_of(place)

    def launch(name, grid, block, shared, *arguments):
        there = [a if isinstance(a, np.generic) else upload(a.copy(), place) for a in arguments]
        device.launch(Kernel(PROBE, name), (grid,), (block,), shared, there)
        return [a if isinstance(a, np.ndarray) else a.cpu().numpy() for a in there if not isinstance(a, np.generic)]

    return launch


def place_in_a(kind: str, lane: int, register: int, element: int) -> tuple[int, int]:
    """Row and k of an element of A, as the manual prints it for each shape."""
    group, thread = lane >> 2, lane % 4
    row = group if register in (0, 2) else group + 8
    if kind in ("F16", "BF16"):
        return row, thread * 2 + element + (8 if register >= 2 else 0)
    if kind == "TF32":
        return row, thread + (4 if register >= 2 else 0)
    return row, thread * 4 + element + (16 if register >= 2 else 0)


def place_in_b(kind: str, lane: int, register: int, element: int) -> tuple[int, int]:
    """k and column of an element of B."""
    group, thread = lane >> 2, lane % 4
    if kind in ("F16", "BF16"):
        return thread * 2 + element + 8 * register, group
    if kind == "TF32":
        return thread + 4 * register, group
    return thread * 4 + element + 16 * register, group


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_of_a_warp(rng, run, kind):
    depth = {"F16": 16, "BF16": 16, "TF32": 8}.get(kind, 32)
    per_register = {"F16": 2, "BF16": 2, "TF32": 1}.get(kind, 4)
    whole = kind not in ("F16", "BF16", "TF32")
    low, high = ((0 if kind[0] == "U" else -128), (256 if kind[0] == "U" else 128)) if whole else (-8, 9)
    a = rng.integers(low, high, (16, depth))
    low, high = ((0 if kind[2] == "U" else -128), (256 if kind[2] == "U" else 128)) if whole else (-8, 9)
    b = rng.integers(low, high, (depth, 8))
    c = rng.integers(-99, 99, (16, 8))

    def packed(values: list[int]) -> int:
        if kind == "TF32":
            return int(np.float32(values[0]).view(np.uint32))
        if kind == "F16":
            return int(np.array(values, np.float16).view(np.uint32)[0])
        if kind == "BF16":
            return int(np.array([np.float32(v).view(np.uint32) >> 16 for v in values], np.uint16).view(np.uint32)[0])
        return int(np.array(values).astype(np.uint8).view(np.uint32)[0])

    lanes, elements = range(32), range(per_register)
    left = [[packed([a[place_in_a(kind, i, r, e)] for e in elements]) for r in range(4)] for i in lanes]
    right = [[packed([b[place_in_b(kind, i, r, e)] for e in elements]) for r in range(2)] for i in lanes]
    positions = [[(i // 4 + 8 * (r // 2), i % 4 * 2 + r % 2) for r in range(4)] for i in lanes]
    before = np.array([[c[place] for place in row] for row in positions], np.int32 if whole else np.float32)
    got = run(f"product<{kind}>", 1, 32, 0, np.array(left, np.uint32), np.array(right, np.uint32), before)[2]
    product = a @ b + c
    assert np.array_equal(got, np.array([[product[place] for place in row] for row in positions]))


def test_exchanges_in_a_warp(rng, run):
    given = rng.integers(0, 2**32, 32, dtype=np.uint32)
    got = run("exchange", 1, 32, 0, given, np.zeros((6, 32), np.uint32))[1]
    lanes = np.arange(32)
    assert np.array_equal(got[0], given[lanes ^ 3])
    assert np.array_equal(got[1], np.full(32, given[5]))
    assert np.array_equal(got[2], np.full(32, sum(int(v & 1) << i for i, v in enumerate(given))))
    pairs = np.stack([given, given[lanes ^ 1]], axis=1).copy().view(np.uint8)  # selector 0x6145, lowest byte first
    assert np.array_equal(got[3], np.ascontiguousarray(pairs[:, [5, 4, 1, 6]]).view(np.uint32)[:, 0])
    assert np.array_equal(got[4], given[4 * ((3 * lanes + 1) % 8) + lanes % 4])
    assert np.array_equal(got[5], given[4 * 6 + lanes % 4])


def test_threads_meet(run):
    counts, seen = run("meet", 3, 96, 96 * 4, np.zeros(2, np.int32), np.zeros((3, 288), np.int32), np.int32(288))
    numbers = np.arange(288)
    assert counts.tolist() == [(37 * numbers % 101).max(), 288]
    assert sorted(seen[0]) == numbers.tolist()  # each another one
    assert np.array_equal(seen[1], numbers // 96 == 1)
    assert np.array_equal(seen[2], 5 * (numbers ^ 1))


def test_loads(rng, run):
    given = rng.integers(0, 2**32, (70, 4), dtype=np.uint32)
    got = run("loads", 1, 64, 0, given, np.zeros((5, 70, 4), np.uint32), np.int32(70))[1]
    assert np.array_equal(got, np.broadcast_to(given, got.shape))


def test_arithmetic(rng, run):
    x, y, z = (rng.standard_normal(300).astype(np.float32) * 100 for _ in range(3))
    x[:6] = 0.5, 1.5, 2.5, -0.5, -1.5, 3.0  # ties go to the even number
    y[0], z[0] = 1, 2.0**-30
    empty = np.zeros((6, 300), np.float32), np.zeros((2, 300), np.int32)
    out, whole = run("arithmetic", 1, 64, 0, x, y, z, *empty, np.int32(300))[3:]
    assert np.array_equal(out[0], fused(x, y, z).astype(np.float32))
    expected = (x * y + z, x / y, np.abs(x), x, np.full(300, -np.inf, np.float32))
    assert np.array_equal(out[1:], np.stack(expected))
    assert not np.array_equal(out[0], out[1])
    assert np.array_equal(whole[0], np.rint(x))
    bits = x.view(np.int32).astype(np.int64)
    assert np.array_equal(1 << whole[1].astype(np.int64), bits & -bits)


def test_every_primitive_has_a_probe():
    """So that a GPU confirms each before a kernel is trusted."""
    text = source("warp.cuh")
    names = set(re.findall(r"^DEVICE [^(]*?(\w+)\(", text, re.MULTILINE)) | set(re.findall(r"^MMA\((\w+)", text, re.MULTILINE))
    probes = Path(PROBE).read_text(encoding="utf-8")
    assert {"shuffle_group", "mma_s8u8", "copies_wait", "opaque"} < names
    assert {name for name in names if not re.search(rf"\b{name}\b[<(]", probes)} == set()


@pytest.mark.parametrize("kind", ["half", "bfloat"])
def test_conversions(rng, run, kind):
    values = rng.standard_normal(20_000).astype(np.float32) * np.float32(2) ** rng.integers(-30, 20, 20_000).astype(np.float32)
    special = [0, -0.0, np.inf, -np.inf, 65504, 65519.996, 65520, 2**-24, 2**-25, 1.5 * 2**-24, 2.5 * 2**-24, 2**-14, 1e38]
    values = np.concatenate([values, np.array(special, np.float32)])
    narrow = torch.from_numpy(values).to(torch.float16 if kind == "half" else torch.bfloat16)
    empty = np.zeros(len(values), np.uint16), np.zeros(len(values), np.float32)
    _, bits, wide = run(f"round_trip<{kind}>", 3, 64, 0, values, *empty, np.int32(len(values)))
    assert np.array_equal(bits, narrow.view(torch.int16).numpy().view(np.uint16))
    assert np.array_equal(wide, narrow.float().numpy())


def test_rounding_to_tf32_and_maxima(rng, run):
    values = rng.standard_normal(4096).astype(np.float32)
    values[:3] = np.nan, np.inf, 1 + 2**-11  # the last is a tie, away from zero
    _, rounded, maxima = run("rounding", 1, 64, 0, values, np.zeros(4096, np.uint32), np.zeros_like(values), np.int32(4096))
    exact, got = values.astype(np.float64), rounded.view(np.float32).astype(np.float64)
    finite = np.isfinite(exact)
    assert np.all(rounded[finite] & 0x1FFF == 0)
    assert np.all(np.abs(got[finite] - exact[finite]) <= 2.0**-11 * np.abs(exact[finite]))
    assert got[2] == 1 + 2**-10
    assert np.array_equal(maxima, np.maximum(values, values[::-1]), equal_nan=True)


def test_bytes_and_doubles(rng, run):
    given, x = rng.integers(0, 2**32, 200, dtype=np.uint32), rng.standard_normal(200)
    given[:2] = 0, 2**32 - 1
    empty = np.zeros((200, 2), np.uint32), np.zeros(200)
    _, found, _, products = run("bytes_and_doubles", 1, 64, 0, given, empty[0], x, empty[1], np.int32(200))
    bytes_ = given.view(np.uint8).reshape(200, 4)
    assert np.array_equal(np.ascontiguousarray(found[:, 0]).view(np.uint8).reshape(200, 4), np.maximum(bytes_, bytes_[::-1]))
    assert np.array_equal(found[:, 1], 1 + bytes_.sum(axis=1))
    assert np.array_equal(products, x * x[::-1] + x)


def test_asynchronous_copies(rng, run):
    given = rng.integers(0, 2**32, (3, 96, 4), dtype=np.uint32)
    assert np.array_equal(run("reverse<true, true>", 3, 96, 96 * 16, given, np.zeros_like(given))[1], given[:, ::-1])


@pytest.mark.parametrize("kernel", ["reverse<true, false>", "reverse<false, true>", "reverse<false, false>"])
def test_a_missing_wait_or_barrier_shows(rng, emulate, kernel):
    given = rng.integers(0, 2**32, (1, 96, 4), dtype=np.uint32)
    results = []
    for descending in (False, True):
        results.append(np.zeros_like(given))
        emulate(KERNELS, descending=descending).launch(Kernel(PROBE, kernel), (1,), (96,), 96 * 16, [given, results[-1]])
    assert not all(np.array_equal(result, given[:, ::-1]) for result in results)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (1, "lanes of one warp meet"),
        (2, "threads wait for others that have left"),
        (3, "threads wait for others that have left"),
    ],
)
def test_threads_that_part_are_an_error(emulate, wrong, message):
    device = emulate(KERNELS)
    with pytest.raises(RuntimeError, match=message):
        device.launch(Kernel(PROBE, f"quarrel<{wrong}>"), (2,), (64,), 0, [np.zeros(64, np.uint32)])
    out = np.zeros(64, np.uint32)
    device.launch(Kernel(PROBE, "quarrel<0>"), (2,), (64,), 0, [out])  # and the next launch is whole again
    assert np.array_equal(out, np.arange(64) ^ 1)


def test_an_unknown_instance(emulate):
    with pytest.raises(KeyError, match="not among the emulated instances"):
        emulate(KERNELS).launch(Kernel(PROBE, "quarrel<9>"), (1,), (32,), 0, [])


@pytest.mark.usefixtures("nvrtc")
def test_the_probes_are_compiled_for_a_gpu(build_folder):
    """Without one; where there is one, they are the first to run."""
    binary = compiled(source(PROBE), [kernel.name for kernel in KERNELS], "sm_90a", folder=build_folder)
    assert set(binary.names) == {kernel.name for kernel in KERNELS}
