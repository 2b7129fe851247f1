// Scores as integers in their order, and counts of them by steps.
#pragma once
#include "warp.cuh"

constexpr int BINS = 2048;  // steps that are counted, and values of a digit in select.cuh
constexpr int STEP_BITS = 15;

// Greater for a greater score, equal for equal ones (0 and -0), and 0 for what is not a number.
DEVICE u32 key_of(float x) {
    if (x != x) return 0;
    const u32 bits = bits_of(add(x, 0.0f));  // -0 + 0 is 0
    return bits ^ (u32(int(bits) >> 31) | 0x80000000u);
}

// Steps of scores, 256 for each power of two: BINS of them from `first` on; what is below counts to the first, what is above to
// the last.
DEVICE int step_of(u32 key, int first) { return min(max(int(key >> STEP_BITS) - first, 0), BINS - 1); }

// Counts a score of a row for whoever chooses the best later (tally.cu); where `tally` is null, nobody does.
DEVICE void count_score(int* tally, i64 row, int first, float score) {
    if (tally) atomic_add(tally + row * BINS + step_of(key_of(score), first), 1);
}
