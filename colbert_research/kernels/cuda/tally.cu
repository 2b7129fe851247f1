// The best of each of many rows of scores whose steps were counted when they were made: one read of them, and a sort.
//
// Counts tell which step the k-th best is in. What reaches that step, seldom much more than k scores, is collected in any order
// and sorted; ranks differ for all scores of a row, so the result is always the same. Where too many share a step, the row is
// chosen from digit by digit instead, as in topk.cu.
#include "select.cuh"

constexpr int THREADS = 512;
constexpr int SCRATCH = THREADS / WARP + 2;

// The step of a row's k-th best score, and how many scores are in it or above.
struct Reach {
    int step, count;
    DEVICE Reach(const int* tally, int k, int* scratch) {
        int wanted = k;
        step = choose<THREADS>(tally, wanted, scratch);
        count = k - wanted + tally[step];
    }
};

// scores (n_rows, n); tally (n_rows, BINS). ranks (n_rows, held): of each row, in any order, those that reach the step of the k-th
// best, unless they are more than `held`; counts (n_rows, 2), zero at first: how many, and how many scores are not numbers.
__global__ void __launch_bounds__(THREADS, 2)
    gather_reaching(const float* __restrict__ scores, i64 n_rows, i64 n, i64 per_block, int k, const int* __restrict__ tally,
                    int first, int held, u64* ranks, int* counts) {
    int* scratch = reinterpret_cast<int*>(shared_memory());
    const i64 from = blockIdx.x * per_block;
#pragma unroll 1
    for (i64 row = blockIdx.y; row < n_rows; row += gridDim.y) {
        const Reach reach(tally + row * BINS, k, scratch);
        const bool fits = reach.count <= held;
        int nans = 0;
        each_score<THREADS>(scores + row * n, from, min(from + per_block, n), [&](float x, i64 at) {
            const u32 key = key_of(x);
            nans += x != x;
            if (!fits || step_of(key, first) < reach.step) return;
            const int place = atomic_add(counts + 2 * row, 1);
            if (place < held) ranks[row * held + place] = rank_of(key, u32(at));
        });
        if (nans) atomic_add(counts + 2 * row + 1, nans);
    }
}

// positions (n_rows, k), -1 after the last, and values (n_rows, k), their scores; state (n_rows, 2): how many were found, and how
// many scores are not numbers. ranks, counts: of gather_reaching, or null, and the block that takes a row collects by itself.
// `size`: the least power of two that is not below k; `held` is not below it.
__global__ void __launch_bounds__(THREADS, 2)
    best_of_tally(const float* __restrict__ scores, i64 n_rows, i64 n, int k, int size, const int* __restrict__ tally, int first,
                  int held, const u64* __restrict__ ranks, const int* __restrict__ counts, i64* positions, float* values,
                  int* state) {
    u64* chosen = reinterpret_cast<u64*>(shared_memory());
    int* scratch = reinterpret_cast<int*>(chosen + held);
    int* bins = scratch + SCRATCH;
    int& collected = bins[0];
#pragma unroll 1
    for (i64 row = blockIdx.x; row < n_rows; row += gridDim.x) {
        const float* own = scores + row * n;
        const Reach reach(tally + row * BINS, k, scratch);
        int found, nans = 0;
        if (reach.count > held) {
            found = choose_from<THREADS>(own, n, k, FINITE, chosen, scratch, bins, nans);
            sort_ranks<THREADS>(chosen, found, size);
        } else {
            if (ranks) {
                found = min(counts[2 * row], held);
                nans = counts[2 * row + 1];
                for (int i = threadIdx.x; i < found; i += THREADS) chosen[i] = ranks[row * held + i];
            } else {
                if (threadIdx.x == 0) collected = 0;
                block_barrier();
                int not_numbers = 0;
                each_score<THREADS>(own, 0, n, [&](float x, i64 at) {
                    const u32 key = key_of(x);
                    not_numbers += x != x;
                    if (step_of(key, first) < reach.step) return;
                    const int place = atomic_add(&collected, 1);
                    if (place < held) chosen[place] = rank_of(key, u32(at));
                });
                sum_before<THREADS>(not_numbers, nans, scratch);
                found = min(collected, held);
            }
            int padded = 1;
            while (padded < found) padded *= 2;
            sort_ranks<THREADS>(chosen, found, padded);
            int finite = 0;
            for (int i = threadIdx.x; i < min(found, k); i += THREADS) finite += u32(~chosen[i] >> 32) >= FINITE;
            sum_before<THREADS>(finite, found, scratch);
        }
        for (int i = threadIdx.x; i < k; i += THREADS) {
            const i64 place = i < found ? i64(u32(chosen[i])) : -1;
            positions[row * k + i] = place;
            values[row * k + i] = place < 0 ? -infinity() : own[place];
        }
        if (threadIdx.x == 0) {
            state[2 * row] = found;
            state[2 * row + 1] = nans;
        }
        block_barrier();  // all have read `chosen`
    }
}
