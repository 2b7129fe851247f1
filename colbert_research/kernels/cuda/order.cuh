// What kernels share that keep the order of what they pick: places inside a block of 256 threads, shares of an array.
#pragma once
#include "warp.cuh"

constexpr int THREADS = 256;

// Whole runs of an array: of `n` items, block `which` of `blocks` has those from `low` to `high` (exclusive).
struct Share {
    i64 low, high;
};
DEVICE Share share_of(i64 n, i64 which, i64 blocks) {
    const i64 each = ((n + blocks - 1) / blocks + THREADS - 1) / THREADS * THREADS;
    return {min(which * each, n), min((which + 1) * each, n)};
}

// How many threads before this one bring `flag`, and in `total` how many of all. Shared memory: 8 numbers. For the whole block.
DEVICE int rank_in_block(bool flag, int* shared, int& total) {
    const u32 flags = ballot(flag);
    const int warp = threadIdx.x / WARP;
    if (lane_id() == 0) shared[warp] = count_bits(flags);
    block_barrier();
    int before = count_bits(flags & ((1u << lane_id()) - 1));
    total = 0;
#pragma unroll
    for (int w = 0; w < THREADS / WARP; w++) {
        if (w < warp) before += shared[w];
        total += shared[w];
    }
    block_barrier();
    return before;
}

// The sum over the block, for every thread. Shared memory: 8 numbers. For the whole block.
DEVICE int sum_of_block(int value, int* shared) {
#pragma unroll
    for (int mask = 1; mask < WARP; mask *= 2) value += shuffle_xor(value, mask);
    if (lane_id() == 0) shared[threadIdx.x / WARP] = value;
    block_barrier();
    int total = 0;
#pragma unroll
    for (int w = 0; w < THREADS / WARP; w++) total += shared[w];
    block_barrier();
    return total;
}
