// The greatest of many scores, in order: of one long row by all blocks, of each of several rows by one block.
#include "select.cuh"

constexpr int THREADS = 512;
constexpr int SCRATCH = THREADS / WARP + 2;

// The digits found so far, from the histograms of `passes` passes over all scores.
DEVICE u32 prefix_of(const int* histograms, int passes, int& wanted, int* scratch) {
    u32 prefix = 0;
#pragma unroll 1
    for (int pass = 0; pass < passes; pass++)
        prefix = with_digit(prefix, pass, choose<THREADS>(histograms + pass * BINS, wanted, scratch));
    return prefix;
}

// histograms (3, BINS), zero at first; state: [1] counts what is not a number.
template <int PASS>
__global__ void __launch_bounds__(THREADS, 2)
    count_digits(const float* __restrict__ scores, i64 n, i64 per_block, int wanted, int* histograms, int* state) {
    int* scratch = reinterpret_cast<int*>(shared_memory());
    int* bins = scratch + SCRATCH;
    const u32 prefix = prefix_of(histograms, PASS, wanted, scratch);
    for (int i = threadIdx.x; i < BINS; i += THREADS) bins[i] = 0;
    block_barrier();
    Run run;
    int nans = 0;
    const i64 from = blockIdx.x * per_block;
    each_score<THREADS>(scores, from, min(from + per_block, n), [&](float x, i64) {
        const u32 key = key_of(x);
        if (PASS == 0) nans += x != x;
        if (begins_with(key, PASS, prefix)) run.take(bins, digit_of(key, PASS));
    });
    run.flush(bins);
    if (PASS == 0 && nans) atomic_add(state + 1, nans);
    block_barrier();
    for (int i = threadIdx.x; i < BINS; i += THREADS)
        if (bins[i]) atomic_add(histograms + PASS * BINS + i, bins[i]);
}

// counts (2, blocks): of each block's part, how many are above the threshold, and how many equal to it.
__global__ void __launch_bounds__(THREADS, 2)
    count_chosen(const float* __restrict__ scores, i64 n, i64 per_block, int wanted, const int* histograms, int* counts) {
    int* scratch = reinterpret_cast<int*>(shared_memory());
    const u32 key = prefix_of(histograms, DIGITS, wanted, scratch);
    const Threshold threshold(key, wanted, FINITE);
    int above = 0, tied = 0, total;
    const i64 from = blockIdx.x * per_block;
    each_score<THREADS>(scores, from, min(from + per_block, n), [&](float x, i64) {
        above += threshold.above(key_of(x));
        tied += threshold.tied(key_of(x));
    });
    sum_before<THREADS>(above, total, scratch);
    if (threadIdx.x == 0) counts[blockIdx.x] = total;
    sum_before<THREADS>(tied, total, scratch);
    if (threadIdx.x == 0) counts[gridDim.x + blockIdx.x] = total;
}

// ranks (k,): in no order but always the same one.
__global__ void __launch_bounds__(THREADS, 2)
    gather_chosen(const float* __restrict__ scores, i64 n, i64 per_block, int k, const int* histograms, const int* counts,
                  u64* ranks) {
    int* scratch = reinterpret_cast<int*>(shared_memory());
    if (counts[blockIdx.x] + counts[gridDim.x + blockIdx.x] == 0) return;
    int wanted = k;
    const u32 key = prefix_of(histograms, DIGITS, wanted, scratch);
    const Threshold threshold(key, wanted, FINITE);
    const int above = sum_of<THREADS>(counts, blockIdx.x, scratch);
    const int tied = sum_of<THREADS>(counts + gridDim.x, blockIdx.x, scratch);
    const i64 from = blockIdx.x * per_block;
    gather<THREADS>(scores, from, min(from + per_block, n), threshold, k, above, tied, ranks, scratch);
}

// One block. state: [0] becomes the number that were found. size: the least power of two that is not below k.
__global__ void __launch_bounds__(THREADS, 2)
    sort_chosen(const u64* __restrict__ chosen, const int* counts, int blocks, int k, int size, i64* positions, int* state) {
    u64* ranks = reinterpret_cast<u64*>(shared_memory());
    int* scratch = reinterpret_cast<int*>(ranks + size);
    const int found = min(k, sum_of<THREADS>(counts, 2 * blocks, scratch));
    for (int i = threadIdx.x; i < found; i += THREADS) ranks[i] = chosen[i];
    write_positions<THREADS>(ranks, found, k, size, positions);
    if (threadIdx.x == 0) state[0] = found;
}

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
