// What the kernels that choose share: scores as integers in their order, radix histograms, sums over a block, a sort.
//
// The k-th greatest of n numbers is found digit by digit, the highest first: a histogram of the digits of those that have the
// digits found so far. Sums and counts are of integers, so no result depends on the order of threads.
#pragma once
#include "warp.cuh"

constexpr int BINS = 2048;  // of one digit: 11, 11 and 10 bits
constexpr int DIGITS = 3;
constexpr u32 FINITE = 0x00800000u;  // the least key of a number above minus infinity

// Greater for a greater score, equal for equal ones (0 and -0), and 0 for what is not a number.
DEVICE u32 key_of(float x) {
    if (x != x) return 0;
    const u32 bits = bits_of(add(x, 0.0f));  // -0 + 0 is 0
    return bits ^ (u32(int(bits) >> 31) | 0x80000000u);
}

DEVICE int digit_of(u32 key, int pass) { return pass == 0 ? key >> 21 : pass == 1 ? key >> 10 & 2047 : key & 1023; }
DEVICE bool begins_with(u32 key, int pass, u32 prefix) {
    return pass == 0 || key >> (pass == 1 ? 21 : 10) == prefix;
}

// Rising for falling scores; of equal scores for rising places.
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

// The sum of the first `n` of `counts`, in every thread.
template <int THREADS>
DEVICE int sum_of(const int* counts, int n, int* scratch) {
    int sum = 0, total;
    for (int i = threadIdx.x; i < n; i += THREADS) sum += counts[i];
    sum_before<THREADS>(sum, total, scratch);
    return total;
}

// The digit of the `wanted`-th greatest, where `bins` count digits and at least so many in all; afterwards `wanted` tells how
// many of those with this digit are. `scratch`: an int a warp and two more.
template <int THREADS>
DEVICE int choose(const int* bins, int& wanted, int* scratch) {
    constexpr int EACH = BINS / THREADS;
    const int top = BINS - 1 - threadIdx.x * EACH;
    int* chosen = scratch + THREADS / WARP;
    int own = 0, total;
#pragma unroll
    for (int i = 0; i < EACH; i++) own += bins[top - i];
    int before = sum_before<THREADS>(own, total, scratch);
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
