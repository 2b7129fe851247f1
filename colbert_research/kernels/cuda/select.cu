// The k best of every row of scores: greater first, then smaller place. Always the same, whatever order the threads come in.
//
// Scores become whole numbers of the same order. Three passes count them by 11, 11 and 10 of their bits, from the highest on,
// and so find the k-th best of all; what is better is taken, and of its equals the first. What was taken is put in order by
// counting, for each, those that are better.
#include "order.cuh"

constexpr int BINS = 2048;
constexpr u32 NOTHING = 0x007fffff;  // the key of minus infinity; NaN has 0

struct State {
    u32 key;   // the bits of the k-th best that are known, others 0
    int left;  // how many with exactly these bits are among the best
};

// Rows of `scores` (n_rows, width), of which only what is above minus infinity counts, where `above` is set.
struct Rows {
    const float* scores;
    i64 width;
    bool above;

    DEVICE u32 key(i64 row, i64 place) const {
        const float x = add(read_only(scores + row * width + place), 0.0f);  // -0 becomes 0
        if (x != x) return 0;
        const u32 bits = bits_of(x);
        return bits >> 31 ? ~bits : bits | 0x80000000u;
    }
    DEVICE bool counts(u32 key) const { return !above || key > NOTHING; }
};

DEVICE int shift_of(int pass) { return pass == 0 ? 21 : pass == 1 ? 10 : 0; }
DEVICE u32 digit_of(u32 key, int pass) { return key >> shift_of(pass) & (pass == 2 ? 1023 : 2047); }

// Which of the bins, from the highest on, holds the `before.left`-th. Shared memory: 256 + 2 numbers. For the whole block.
DEVICE State next_state(State before, const int* bins, int pass, int* shared) {
    constexpr int EACH = BINS / THREADS;
    const int high = BINS - 1 - int(threadIdx.x) * EACH;
    int mine = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) mine += bins[high - i];
    shared[threadIdx.x] = mine;
    if (threadIdx.x == 0) {  // fewer in all than are asked for: everything
        shared[THREADS] = 0;
        shared[THREADS + 1] = 0;
    }
    block_barrier();
#pragma unroll 1
    for (int step = 1; step < THREADS; step *= 2) {
        const int other = int(threadIdx.x) >= step ? shared[threadIdx.x - step] : 0;
        block_barrier();
        shared[threadIdx.x] += other;
        block_barrier();
    }
    int above = shared[threadIdx.x] - mine;
    if (above < before.left && before.left <= above + mine) {
        int bin = high;
        while (above + bins[bin] < before.left) above += bins[bin--];
        shared[THREADS] = bin;
        shared[THREADS + 1] = before.left - above;
    }
    block_barrier();
    const State found{before.key | u32(shared[THREADS]) << shift_of(pass), shared[THREADS + 1]};
    block_barrier();
    return found;
}

DEVICE State state_before(int pass, const State* states, const int* bins, i64 row, int k, int* shared) {
    if (pass == 0) return {0, k};
    const State before = pass == 1 ? State{0, k} : states[row * 3 + pass - 2];
    return next_state(before, bins + (row * 3 + pass - 1) * BINS, pass - 1, shared);
}

__global__ void clear(u32* numbers, i64 n) {
    for (i64 i = i64(blockIdx.x) * THREADS + threadIdx.x; i < n; i += i64(gridDim.x) * THREADS) numbers[i] = 0;
}

// bins (n_rows, 3, BINS), zeros before the first pass; states (n_rows, 3), of which those before `pass` are read, and the one
// of the pass before is written. nan (n_rows): set where a score is not a number.
__global__ void __launch_bounds__(THREADS, 4)
    count_digits(const float* __restrict__ scores, i64 n_rows, i64 width, int k, int above, int pass, int* bins, State* states,
                 u32* nan) {
    int* mine = reinterpret_cast<int*>(shared_memory());
    int* shared = mine + BINS;
    const Rows rows{scores, width, above != 0};
#pragma unroll 1
    for (i64 row = blockIdx.y; row < n_rows; row += gridDim.y) {
        for (int i = threadIdx.x; i < BINS; i += THREADS) mine[i] = 0;
        const State state = state_before(pass, states, bins, row, k, shared);
        block_barrier();
        if (pass && blockIdx.x == 0 && threadIdx.x == 0) states[row * 3 + pass - 1] = state;
        bool wrong = false;
        const u32 known = pass == 0 ? 0 : 0xffffffffu << shift_of(pass - 1);
#pragma unroll 4
        for (i64 i = i64(blockIdx.x) * THREADS + threadIdx.x; i < width; i += i64(gridDim.x) * THREADS) {
            const u32 key = rows.key(row, i);
            wrong = wrong || key == 0;
            if (rows.counts(key) && (key & known) == state.key) atomic_add(mine + digit_of(key, pass), 1);
        }
        if (pass == 0 && wrong) atomic_or(nan + row, 1);
        block_barrier();
        for (int i = threadIdx.x; i < BINS; i += THREADS)
            if (mine[i]) atomic_add(bins + (row * 3 + pass) * BINS + i, mine[i]);
        block_barrier();
    }
}

// counts (n_rows, gridDim.x, 2): how many in each block's share are better than the k-th best, and how many equal to it.
__global__ void __launch_bounds__(THREADS, 4)
    count_best(const float* __restrict__ scores, i64 n_rows, i64 width, int k, int above, const int* __restrict__ bins,
               State* states, int* counts) {
    int* shared = reinterpret_cast<int*>(shared_memory());
    const Rows rows{scores, width, above != 0};
    const Share share = share_of(width, blockIdx.x, gridDim.x);
#pragma unroll 1
    for (i64 row = blockIdx.y; row < n_rows; row += gridDim.y) {
        const State state = state_before(3, states, bins, row, k, shared);
        if (blockIdx.x == 0 && threadIdx.x == 0) states[row * 3 + 2] = state;
        int better = 0, equal = 0;
#pragma unroll 4
        for (i64 i = share.low + threadIdx.x; i < share.high; i += THREADS) {
            const u32 key = rows.key(row, i);
            better += rows.counts(key) && (key > state.key || state.left == 0);
            equal += rows.counts(key) && key == state.key && state.left > 0;
        }
        better = sum_of_block(better, shared);
        equal = sum_of_block(equal, shared);
        if (threadIdx.x == 0) {
            counts[(row * gridDim.x + blockIdx.x) * 2] = better;
            counts[(row * gridDim.x + blockIdx.x) * 2 + 1] = equal;
        }
    }
}

// keys, places (n_rows, k): the better ones by place, then their equals by place. found (n_rows): how many.
__global__ void __launch_bounds__(THREADS, 4)
    collect_best(const float* __restrict__ scores, i64 n_rows, i64 width, int k, int above, const State* __restrict__ states,
                 const int* __restrict__ counts, const u32* __restrict__ nan, u32* keys, i64* places, i64* found) {
    int* shared = reinterpret_cast<int*>(shared_memory());
    const Rows rows{scores, width, above != 0};
    const Share share = share_of(width, blockIdx.x, gridDim.x);
#pragma unroll 1
    for (i64 row = blockIdx.y; row < n_rows; row += gridDim.y) {
        const State state = states[row * 3 + 2];
        int before[2] = {0, 0}, all[2] = {0, 0};
        for (int block = threadIdx.x; block < int(gridDim.x); block += THREADS)
#pragma unroll
            for (int side = 0; side < 2; side++) {
                const int n = counts[(row * gridDim.x + block) * 2 + side];
                all[side] += n;
                if (block < int(blockIdx.x)) before[side] += n;
            }
#pragma unroll
        for (int side = 0; side < 2; side++) {
            before[side] = sum_of_block(before[side], shared);
            all[side] = sum_of_block(all[side], shared);
        }
        if (blockIdx.x == 0 && threadIdx.x == 0) found[row] = above && nan[row] ? -1 : all[0] + min(all[1], state.left);
#pragma unroll 1
        for (i64 first = share.low; first < share.high; first += THREADS) {
            const i64 i = first + threadIdx.x;
            const u32 key = i < share.high ? rows.key(row, i) : 0;
            const bool counts_here = i < share.high && rows.counts(key);
            const bool better = counts_here && (key > state.key || state.left == 0);
            const bool equal = counts_here && key == state.key && state.left > 0;
            if (!block_any(better || equal)) continue;
            int total[2];
            const int rank[2] = {rank_in_block(better, shared, total[0]), rank_in_block(equal, shared, total[1])};
            const int at = better ? before[0] + rank[0] : all[0] + before[1] + rank[1];
            if (better || (equal && before[1] + rank[1] < state.left)) {
                keys[row * k + at] = key;
                places[row * k + at] = i;
            }
            before[0] += total[0];
            before[1] += total[1];
        }
    }
}

// ordered (n_rows, k): the places, best first; -1 after the last.
__global__ void __launch_bounds__(THREADS, 4)
    order_best(const u32* __restrict__ keys, const i64* __restrict__ places, const i64* __restrict__ found, i64 n_rows, int k,
               i64* ordered) {
    u32* shared = reinterpret_cast<u32*>(shared_memory());
#pragma unroll 1
    for (i64 row = blockIdx.y; row < n_rows; row += gridDim.y) {
        const int n = int(max(found[row], i64(0)));
#pragma unroll 1
        for (int first = blockIdx.x * THREADS; first < k; first += gridDim.x * THREADS) {
            const int i = first + threadIdx.x;
            const u32 key = i < n ? keys[row * k + i] : 0;
            int rank = 0;
#pragma unroll 1
            for (int part = 0; part < n; part += THREADS) {
                block_barrier();
                shared[threadIdx.x] = part + int(threadIdx.x) < n ? keys[row * k + part + threadIdx.x] : 0;
                block_barrier();
                const int count = min(THREADS, n - part);
#pragma unroll 4
                for (int j = 0; j < count; j++) rank += shared[j] > key || (shared[j] == key && part + j < i);
            }
            if (i < n) ordered[row * k + rank] = places[row * k + i];
            if (i >= n && i < k) ordered[row * k + i] = -1;
        }
    }
}
