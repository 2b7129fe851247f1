// What the kernels that choose share: radix histograms, sums over a block, a sort.
//
// The k-th greatest of n numbers is found digit by digit, the highest first: a histogram of the digits of those that have the
// digits found so far. Sums and counts are of integers, so no result depends on the order of threads.
#pragma once
#include "scores.cuh"

constexpr int DIGITS = 3;  // of 11, 11 and 10 bits, so that BINS count one
constexpr u32 FINITE = 0x00800000u;  // the least key of a number above minus infinity

DEVICE int digit_of(u32 key, int pass) { return pass == 0 ? key >> 21 : pass == 1 ? key >> 10 & 2047 : key & 1023; }
DEVICE bool begins_with(u32 key, int pass, u32 prefix) {
    return pass == 0 || key >> (pass == 1 ? 21 : 10) == prefix;
}

// Ascending for descending scores; of equal scores for ascending positions.
DEVICE u64 rank_of(u32 key, u32 place) { return u64(~key) << 32 | place; }

// Equal digits one after another are added as one number: most scores of a collection share a few first digits.
struct Run {
    int digit = 0, count = 0;
    DEVICE void flush(int* bins) {
        if (count) atomic_add(bins + digit, count);
        count = 0;
    }
    DEVICE void take(int* bins, int next) {
        if (next != digit) flush(bins);
        digit = next;
        count++;
    }
};

// The sum of `value` over the threads before this one, and over all of them. `scratch`: an int a warp, in shared memory.
template <int THREADS>
DEVICE int sum_before(int value, int& total, int* scratch) {
    const int lane = lane_id(), warp = threadIdx.x / WARP;
    int sum = value;
#pragma unroll
    for (int step = 1; step < WARP; step *= 2) {
        const int other = shuffle(sum, (lane - step) & 31);
        if (lane >= step) sum += other;
    }
    block_barrier();  // who read `scratch` before has done so
    if (lane == WARP - 1) scratch[warp] = sum;
    block_barrier();
    int before = 0;
    total = 0;
#pragma unroll
    for (int w = 0; w < THREADS / WARP; w++) {
        const int other = scratch[w];
        if (w < warp) before += other;
        total += other;
    }
    return before + sum - value;
}

// The digit of the `wanted`-th greatest, where `bins` count digits; afterwards `wanted` tells how many of those with this digit
// are. Where they count fewer, the last digit, 0. `scratch`: an int a warp and two more.
template <int THREADS>
DEVICE int choose(const int* bins, int& wanted, int* scratch) {
    constexpr int EACH = BINS / THREADS;
    const int top = BINS - 1 - threadIdx.x * EACH;
    int* chosen = scratch + THREADS / WARP;
    int own = 0, total;
#pragma unroll
    for (int i = 0; i < EACH; i++) own += bins[top - i];
    int before = sum_before<THREADS>(own, total, scratch);
    if (total < wanted && threadIdx.x == 0) chosen[0] = 0, chosen[1] = wanted;
    if (before < wanted && wanted <= before + own) {  // in one thread
        int digit = top;
        while (wanted > before + bins[digit]) before += bins[digit--];
        chosen[0] = digit;
        chosen[1] = wanted - before;
    }
    block_barrier();
    wanted = chosen[1];
    return chosen[0];
}

DEVICE u32 with_digit(u32 prefix, int pass, int digit) { return prefix << (pass == 2 ? 10 : 11) | u32(digit); }

// What of equal keys is taken: all above `key`, and the first `ties` of those equal to it. None below `least` is.
struct Threshold {
    u32 key;
    int ties;
    DEVICE Threshold(u32 found, int wanted, u32 least) : key(found), ties(wanted) {
        if (key < least) {  // there are fewer than were wanted
            key = least - 1;
            ties = 0;
        }
    }
    DEVICE bool above(u32 other) const { return other > key; }
    DEVICE bool tied(u32 other) const { return other == key && ties > 0; }
};

// Sorts `size` numbers in shared memory, a power of two; the block has met before, and meets at the end.
template <int THREADS>
DEVICE void sort(u64* values, int size) {
#pragma unroll 1
    for (int span = 2; span <= size; span *= 2)
#pragma unroll 1
        for (int step = span / 2; step > 0; step /= 2) {
            for (int i = threadIdx.x; i < size / 2; i += THREADS) {
                const int low = 2 * i - (i & (step - 1)), high = low + step;
                const u64 one = values[low], other = values[high];
                if ((one > other) != ((low & span) != 0)) {
                    values[low] = other;
                    values[high] = one;
                }
            }
            block_barrier();
        }
}

constexpr int LOADS = 4;  // loads under way in a thread

// Calls take(score, place) for this block's part of the row, THREADS neighbours at a time.
template <int THREADS, class Take>
DEVICE void each_score(const float* scores, i64 from, i64 to, Take take) {
#pragma unroll 1
    for (i64 first = from + threadIdx.x; first < to; first += LOADS * THREADS) {
        float x[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; i++) x[i] = read_only(scores + min(first + i * THREADS, to - 1));
#pragma unroll
        for (int i = 0; i < LOADS; i++)
            if (first + i * THREADS < to) take(x[i], first + i * THREADS);
    }
}

// Writes the ranks of what the threshold takes of a row into `ranks`, in order of place: those above from the first on, those tied
// from `wanted - ties` on.
template <int THREADS>
DEVICE void gather(const float* scores, i64 n, const Threshold& threshold, int wanted, u64* ranks, int* scratch) {
    int above = 0, tied = 0;
#pragma unroll 1
    for (i64 first = 0; first < n; first += LOADS * THREADS) {
        bool some = false;
#pragma unroll
        for (int i = 0; i < LOADS; i++)  // past the end, the last once more
            some |= key_of(read_only(scores + min(first + i * THREADS + threadIdx.x, n - 1))) >= threshold.key;
        if (!block_any(some)) continue;
#pragma unroll 1
        for (int i = 0; i < LOADS; i++) {
            const i64 at = first + i * THREADS + threadIdx.x;
            const u32 key = at < n ? key_of(read_only(scores + at)) : 0;
            const bool is_above = at < n && threshold.above(key), is_tied = at < n && threshold.tied(key);
            int total;
            const int before = sum_before<THREADS>(int(is_above) + (int(is_tied) << 16), total, scratch);
            const int rank = is_above ? above + (before & 0xffff) : tied + (before >> 16);
            if (is_above && rank < wanted) ranks[rank] = rank_of(key, u32(at));
            if (is_tied && rank < threshold.ties) ranks[wanted - threshold.ties + rank] = rank_of(key, u32(at));
            above += total & 0xffff;
            tied += total >> 16;
        }
    }
}

// Sorts the first `found` of `size` ranks in shared memory, a power of two; all the threads may write them until here.
template <int THREADS>
DEVICE void sort_ranks(u64* ranks, int found, int size) {
    for (int i = found + threadIdx.x; i < size; i += THREADS) ranks[i] = ~u64(0);
    block_barrier();
    sort<THREADS>(ranks, size);
}

// The positions of ranks in shared memory, sorted, then -1.
template <int THREADS>
DEVICE void write_positions(u64* ranks, int found, int k, int size, i64* positions) {
    sort_ranks<THREADS>(ranks, found, size);
    for (int i = threadIdx.x; i < k; i += THREADS) positions[i] = i < found ? i64(u32(ranks[i])) : -1;
}

// The ranks of a row's `k` greatest, not sorted yet, into `ranks` in shared memory: how many there are from `least` on. `nans`: how
// many are not numbers. `bins`: BINS integers in shared memory.
template <int THREADS>
DEVICE int choose_from(const float* own, i64 width, int k, u32 least, u64* ranks, int* scratch, int* bins, int& nans) {
    u32 prefix = 0;
    int wanted = k, not_numbers = 0, above = 0;
#pragma unroll 1
    for (int pass = 0; pass < DIGITS; pass++) {
        for (int i = threadIdx.x; i < BINS; i += THREADS) bins[i] = 0;
        block_barrier();
        Run run;
        each_score<THREADS>(own, 0, width, [&](float x, i64) {
            const u32 key = key_of(x);
            if (pass == 0) not_numbers += x != x;
            if (begins_with(key, pass, prefix)) run.take(bins, digit_of(key, pass));
        });
        run.flush(bins);
        block_barrier();
        prefix = with_digit(prefix, pass, choose<THREADS>(bins, wanted, scratch));
    }
    const Threshold threshold(prefix, wanted, least);
    int found = k;
    if (prefix < least) {
        each_score<THREADS>(own, 0, width, [&](float x, i64) { above += threshold.above(key_of(x)); });
        sum_before<THREADS>(above, found, scratch);
    }
    gather<THREADS>(own, width, threshold, k, ranks, scratch);
    sum_before<THREADS>(not_numbers, nans, scratch);
    return found;
}
