// The greatest scores of each of several rows, in order: a block takes a row.
#include "select.cuh"

constexpr int THREADS = 512;
constexpr int SCRATCH = THREADS / WARP + 2;

// scores (n_rows, width); positions (n_rows, k), -1 where there are fewer above `least`; state (n_rows, 2), or null: how many were
// found, and how many scores are not numbers.
__global__ void __launch_bounds__(THREADS, 2)
    greatest(const float* __restrict__ scores, i64 n_rows, i64 width, int k, int size, u32 least, i64* positions, int* state) {
    u64* ranks = reinterpret_cast<u64*>(shared_memory());
    int* scratch = reinterpret_cast<int*>(ranks + size);
#pragma unroll 1
    for (i64 row = blockIdx.x; row < n_rows; row += gridDim.x) {
        int nans;
        const int found = choose_from<THREADS>(scores + row * width, width, k, least, ranks, scratch, scratch + SCRATCH, nans);
        write_positions<THREADS>(ranks, found, k, size, positions + row * k);
        if (state && threadIdx.x == 0) {
            state[2 * row] = found;
            state[2 * row + 1] = nans;
        }
    }
}
