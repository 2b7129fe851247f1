"""From codes to bytes: a few tokens at a time, by the kind of their codec's `Decoder`."""

from typing import Any

import numpy as np

from colbert_research.kernels.cpu.compile import compiled
from colbert_research.kernels.cpu.memory import (
    gather_words,
    load_bytes,
    load_i64,
    load_u8,
    store_bytes,
    store_i64,
    store_ints,
    store_u8,
)
from colbert_research.kernels.cpu.prepare import CODEWORDS, COPIED, LOOKED_UP
from colbert_research.kernels.cpu.simd import LANES, LOOKS_UP_256, WIDTH, bits_of_bytes, look_up, look_up_256


def _unpacker(bits: int) -> Any:
    """Looks up the numbers of `bits` bits in tokens' packed bytes, the first number of every byte, then the second."""
    per_byte, mask = 8 // bits, np.uint8((1 << bits) - 1)

    @compiled
    def unpack(code: Any, count: Any, width: Any, table: Any, plane: Any, stride: Any, out: Any) -> None:
        levels = load_bytes(table)
        for _ in range(count):
            if width <= WIDTH:
                packed = load_bytes(code)
                for place in range(per_byte):  # what a vector writes beyond its plane is overwritten by the next plane
                    numbers = bits_of_bytes(packed, 8 - bits * (place + 1), mask)
                    store_bytes(out + place * plane, look_up(levels, numbers))
            else:
                for place in range(per_byte):
                    at = 0
                    while at < width:
                        numbers = bits_of_bytes(load_bytes(code + at), 8 - bits * (place + 1), mask)
                        store_bytes(out + place * plane + at, look_up(levels, numbers))
                        at += WIDTH
            code, out = code + width, out + stride

    return unpack


_unpack_1, _unpack_2, _unpack_4 = _unpacker(1), _unpacker(2), _unpacker(4)


@compiled
def _copy(code: Any, count: Any, width: Any, stride: Any, out: Any) -> None:
    for _ in range(count):
        at = 0
        while at < width:
            store_bytes(out + at, load_bytes(code + at))
            at += WIDTH
        code, out = code + width, out + stride


@compiled
def _join(code: Any, count: Any, width: Any, sub: Any, table: Any, stride: Any, out: Any) -> None:
    for _ in range(count):
        words, place, start = table, out, 0
        if sub == 4:
            while start + LANES <= width:
                store_ints(out + 4 * start, gather_words(table, code + start, start))
                start += LANES
            words, place = table + 4 * 256 * start, out + 4 * start
        for part in range(start, width):
            word, at = words + load_u8(code + part) * sub, 0
            while at < sub:  # eight bytes at a time, of which the next codeword overwrites those too many
                store_i64(place + at, load_i64(word + at))
                at += 8
            words, place = words + 256 * sub, place + sub
        code, out = code + width, out + stride


@compiled
def _look_up_vectors(code: Any, count: Any, width: Any, table: Any, stride: Any, out: Any) -> None:
    first, second = load_bytes(table), load_bytes(table + WIDTH)
    third, fourth = load_bytes(table + 2 * WIDTH), load_bytes(table + 3 * WIDTH)
    for _ in range(count):
        at = 0
        while at < width:
            store_bytes(out + at, look_up_256(first, second, third, fourth, load_bytes(code + at)))
            at += WIDTH
        code, out = code + width, out + stride


@compiled
def _look_up_bytes(code: Any, count: Any, width: Any, table: Any, stride: Any, out: Any) -> None:
    for _ in range(count):
        for i in range(width):
            store_u8(out + i, load_u8(table + load_u8(code + i)))
        code, out = code + width, out + stride


_look_up_whole_bytes = _look_up_vectors if LOOKS_UP_256 else _look_up_bytes


@compiled
def _whole_vectors(
    code: Any, count: Any, kind: Any, width: Any, bits: Any, table: Any, plane: Any, stride: Any, out: Any
) -> None:
    if kind == COPIED:
        _copy(code, count, width, stride, out)
    elif kind == LOOKED_UP:
        _look_up_whole_bytes(code, count, width, table, stride, out)
    elif bits == 4:
        _unpack_4(code, count, width, table, plane, stride, out)
    elif bits == 2:
        _unpack_2(code, count, width, table, plane, stride, out)
    else:
        _unpack_1(code, count, width, table, plane, stride, out)


@compiled
def decode(
    code: Any, count: Any, kind: Any, width: Any, bits: Any, sub: Any, table: Any, plane: Any, stride: Any, stop: Any,
    spare: Any, out: Any,
) -> None:  # fmt: skip
    """The bytes of `count` tokens whose codes lie one after the other from `code` on, each `stride` bytes after the last.

    All codes end before the address `stop`. `spare`: `width + 2 * WIDTH` bytes of scratch.
    """
    if kind == CODEWORDS:
        _join(code, count, width, sub, table, stride, out)
    else:
        safe = count
        while safe and code + (safe - 1) * width + width + WIDTH > stop:
            safe -= 1
        _whole_vectors(code, safe, kind, width, bits, table, plane, stride, out)
        for j in range(safe, count):  # not to be read as whole vectors
            for i in range(width):
                store_u8(spare + i, load_u8(code + j * width + i))
            _whole_vectors(spare, 1, kind, width, bits, table, plane, stride, out + j * stride)
