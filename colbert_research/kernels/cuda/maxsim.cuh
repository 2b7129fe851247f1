// What the kernels over token vectors share: products of 32 query tokens with 8 document tokens, running maxima, documents.
//
// A dot product does not care in which order its terms come. So a step takes 64 bytes of each row, lane (g, t) the bytes 16t to
// 16t+15 of row g, and these are, as they lie in memory, the fragments of two successive products, for the queries and for the
// documents alike: no transposition, no shared memory for documents. Where 32 bytes are left (16 numbers of 2 bytes), a lane
// has 8 bytes, and zeros.
#pragma once
#include "warp.cuh"

constexpr int WARPS = 8;    // of a block that scores documents
constexpr int LONG = 1024;  // tokens of a document that a block's warps score together, a part each
constexpr int GROUP = 32;   // query tokens that a warp scores at once, as two halves of 16 rows
constexpr int STEP = 64;    // bytes of a row that a step takes

template <class T>
DEVICE int row_steps(int dim) {
    return (dim * int(sizeof(T)) + STEP - 1) / STEP;
}

// A lane's part of a step of a row, from memory; `half` where only 32 are left.
template <class T>
DEVICE uint4 load_step(const char* row, int step, int t, bool half) {
    if (sizeof(T) == 2 && half) {
        const uint2 v = stream8(row + step * STEP + t * 8);
        return make_uint4(v.x, v.y, 0, 0);
    }
    return stream16(row + step * STEP + t * 16);
}

DEVICE void mma_of(half, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_f16(c, a, b0, b1); }
DEVICE void mma_of(bfloat, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); }

// c += queries x documents over one step of a tile of 8 tokens. a[m][0], a[m][1]: rows g and g+8 of half m; b: token g.
template <class T>
DEVICE void multiply_step(T, float (&c)[2][4], const uint4 (&a)[2][2], const uint4& b) {
#pragma unroll
    for (int m = 0; m < 2; m++) {
        const u32 first[4] = {a[m][0].x, a[m][1].x, a[m][0].y, a[m][1].y};
        const u32 second[4] = {a[m][0].z, a[m][1].z, a[m][0].w, a[m][1].w};
        mma_of(T(), c[m], first, b.x, b.y);
        mma_of(T(), c[m], second, b.z, b.w);
    }
}

// x = big + small + rest, with 11 bits in each of the two and |rest| <= 2^-22 |x|
DEVICE void split(u32 x, u32& big, u32& small) {
    big = to_tf32(float_of(x));
    small = to_tf32(float_of(x) - float_of(big));
}

// Numbers of 4 bytes: three products of parts for each, without small x small, so that |error| is at most
// (3 dim + 6) 2^-23 |q| |d|: a tensor core adds each of 3 dim terms to 2^-23 of the largest, and what is left out is 3 * 2^-22.
DEVICE void multiply_step(float, float (&c)[2][4], const uint4 (&a)[2][2], const uint4& b) {
#pragma unroll
    for (int second = 0; second < 2; second++) {
        u32 big[2], small[2];
        split(second ? b.z : b.x, big[0], small[0]);
        split(second ? b.w : b.y, big[1], small[1]);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            u32 query_big[4], query_small[4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                split(second ? a[m][i].z : a[m][i].x, query_big[i], query_small[i]);
                split(second ? a[m][i].w : a[m][i].y, query_big[i + 2], query_small[i + 2]);
            }
            mma_tf32(c[m], query_small, big[0], big[1]);
            mma_tf32(c[m], query_big, small[0], small[1]);
            mma_tf32(c[m], query_big, big[0], big[1]);
        }
    }
}

// The best token so far for the query tokens 8i + g, i = 0 .. 3, of a group. A NaN is better than everything, and the first of
// equals is kept. Without ARGMAX the tokens' numbers are not followed.
template <bool ARGMAX>
struct Best {
    float value[4];
    int token[4];

    DEVICE void reset() {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            value[i] = -infinity();
            token[i] = -1;
        }
    }

    // A token that comes after all that were taken.
    DEVICE void take(int i, float x, int at) {
        if (!ARGMAX) {
            value[i] = max_or_nan(value[i], x);
        } else if (!(x <= value[i]) && value[i] == value[i]) {
            value[i] = x;
            token[i] = at;
        }
    }

    // The best of other tokens, whichever come first.
    DEVICE void join(int i, float x, int at) {
        const bool same = x == value[i] || (x != x && value[i] != value[i]);
        if (ARGMAX && same)
            token[i] = int(min(u32(token[i]), u32(at)));  // no token, -1, is the largest unsigned number
        else
            take(i, x, at);
    }

    // The products of a tile: tokens `first` to `first + 7`. Those after the last repeat it, and never win: it comes before them.
    DEVICE void take_tile(const float (&c)[2][4], int first) {
        const int column = first + 2 * (lane_id() % 4);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            take(i, c[i / 2][i % 2 * 2], column);
            take(i, c[i / 2][i % 2 * 2 + 1], column + 1);
        }
    }

    // Over the four lanes that share the rows; afterwards all four hold the result.
    DEVICE void combine_lanes() {
#pragma unroll
        for (int mask = 1; mask <= 2; mask *= 2)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float x = shuffle_xor(value[i], mask);
                const int at = ARGMAX ? shuffle_xor(token[i], mask) : 0;
                join(i, x, at);
            }
    }

    // The sum over the first `rows` query tokens of the group, in every lane, always added in the same order.
    DEVICE float sum(int rows) const {
        const int g = lane_id() / 4;
        float total = 0;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (8 * i + g < rows) total += value[i];
#pragma unroll
        for (int mask = 4; mask <= 16; mask *= 2) total += shuffle_xor(total, mask);
        return total;
    }

    // Token numbers of the first `rows` query tokens, one lane each.
    DEVICE void write_tokens(int* to, int rows) const {
        const int t = lane_id() % 4, row = 8 * t + lane_id() / 4;
        if (row < rows) to[row] = t == 0 ? token[0] : t == 1 ? token[1] : t == 2 ? token[2] : token[3];
    }
};

// Items of a packed array, trusted for nothing: whatever the offsets and positions are, no row outside 0 .. n_rows - 1 is named.
struct Items {
    const i64* offsets;
    i64 n;       // items that offsets tell of
    i64 n_rows;  // rows that there are
    const i64* only;  // positions of the items that are meant, or null for all

    DEVICE void span(i64 i, i64& low, int& length) const {
        const i64 place = only ? read_only(only + i) : i;
        low = 0;
        length = 0;
        if (place < 0 || place >= n) return;
        low = max(i64(0), min(read_only(offsets + place), n_rows));
        const i64 high = max(low, min(read_only(offsets + place + 1), n_rows));
        length = int(min(high - low, i64(1) << 30));  // so that counting tokens never overflows
    }
};

// The documents of a block, of n items that are dealt out to all blocks eight at a time: first each warp its own, then all warps
// each long one, an eighth each, which they find 32 documents at a time.
struct Turns {
    const Items& items;
    const i64 n;
    const int warp = threadIdx.x / WARP;
    bool together = false;
    int turn = warp;
    u32 found = 0;  // among the last 32 documents that were looked at
    i64 item, low;  // the document, and its first row
    int from, to;   // the tokens that this warp scores

    DEVICE Turns(const Items& given, i64 count) : items(given), n(count) {}

    DEVICE static i64 item_of(int turn) { return (i64(turn / WARPS) * gridDim.x + blockIdx.x) * WARPS + turn % WARPS; }

    DEVICE bool next() {
#pragma unroll 1
        for (;;) {
            if (!together) {
                item = item_of(turn);
                turn += WARPS;
                if (item < n) {
                    items.span(item, low, to);
                    from = 0;
                    if (to <= LONG) return true;
                    continue;
                }
                together = true;
                turn = 0;
            }
            if (found == 0) {
                if (item_of(turn) >= n) return false;
                int length = 0;
                if (item_of(turn + lane_id()) < n) items.span(item_of(turn + lane_id()), low, length);
                found = ballot(length > LONG);
                turn += WARP;
            } else {
                item = item_of(turn - WARP + first_bit(found));
                found &= found - 1;
                items.span(item, low, to);
                const int part = (to / WARPS + 8) / 8 * 8;
                from = min(warp * part, to);
                to = min(from + part, to);
                return true;
            }
        }
    }
};
