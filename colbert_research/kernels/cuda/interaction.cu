// Centroid interaction in bytes: the formula, and every rounding, of cpu/interaction.py.
//
// The scores of a query with all centroids become a byte each, 1 + round(254 (score - low) / (high - low)), 0 for a centroid
// that was left out; a document's score is the sum over query tokens of the greatest byte among its tokens, turned back.
#include "maxsim.cuh"

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int LEAST = int(0x80000000);

// Floats as whole numbers of the same order, and back.
DEVICE int ordered(float x) {
    const int bits = int(bits_of(add(x, 0.0f)));
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}
DEVICE float restored(int x) { return float_of(u32(x < 0 ? x ^ 0x7fffffff : x)); }

__global__ void clear_ends(int* ends) {
    if (threadIdx.x < 2) ends[threadIdx.x] = LEAST;
}

// ends: the greatest score, and the greatest of the negated scores, both as whole numbers of the same order.
__global__ void __launch_bounds__(THREADS, 4) find_ends(const float* __restrict__ scores, i64 n, int* ends) {
    float high = -infinity(), low = -infinity();
#pragma unroll 4
    for (i64 i = i64(blockIdx.x) * THREADS + threadIdx.x; i < n; i += i64(gridDim.x) * THREADS) {
        const float x = read_only(scores + i);
        high = max(high, x);
        low = max(low, -x);
    }
#pragma unroll
    for (int mask = 1; mask < WARP; mask *= 2) {
        high = max(high, shuffle_xor(high, mask));
        low = max(low, shuffle_xor(low, mask));
    }
    if (lane_id() == 0) {
        atomic_max(ends, ordered(high));
        atomic_max(ends + 1, ordered(low));
    }
}

struct Scale {
    double low, unit;
    DEVICE Scale(const int* ends) {
        const double high = restored(ends[0]);
        low = -double(restored(ends[1]));
        unit = high > low ? (high - low) / 254.0 : 1.0;
    }
};

// table (n_centroids, row_bytes) from scores (n_tokens, n_centroids); row_bytes is a multiple of 16 and at least n_tokens.
__global__ void __launch_bounds__(THREADS, 4)
    scores_to_bytes(const float* __restrict__ scores, int n_tokens, i64 n_centroids, const u8* __restrict__ kept,
                    const int* __restrict__ ends, int row_bytes, u32* table) {
    const Scale scale(ends);
    const float low = float(scale.low), inverse = float(1.0 / scale.unit);
    for (i64 i = i64(blockIdx.x) * THREADS + threadIdx.x; i < n_centroids * (row_bytes / 4); i += i64(gridDim.x) * THREADS) {
        const i64 centroid = i % n_centroids;  // along the threads, as the scores lie
        const int first = int(i / n_centroids) * 4;
        u32 word = 0;
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (first + e < n_tokens && (!kept || kept[centroid])) {
                const float x = read_only(scores + (first + e) * n_centroids + centroid);
                word |= (u32(int(add(multiply(add(x, -low), inverse), 0.5f)) + 1) & 255) << 8 * e;
            }
        table[centroid * (row_bytes / 4) + first / 4] = word;
    }
}

DEVICE uint4 greater(uint4 a, uint4 b) {
    return make_uint4(max_bytes(a.x, b.x), max_bytes(a.y, b.y), max_bytes(a.z, b.z), max_bytes(a.w, b.w));
}

// scores (n): a warp a document. PIECES lanes read 16 bytes each of a token's row; the next ones in another pass.
template <class Id, int PIECES>
__global__ void __launch_bounds__(THREADS, 4)
    sum_maxima(const Id* __restrict__ ids, const i64* __restrict__ offsets, i64 n_documents, i64 n_rows,
               const i64* __restrict__ only, i64 n, const uint4* __restrict__ table, i64 n_centroids, int pieces, int n_tokens,
               const int* __restrict__ ends, float* found) {
    constexpr int TOKENS = WARP / PIECES;  // side by side
    const Items items{offsets, n_documents, n_rows, only};
    const int piece = lane_id() % PIECES, place = lane_id() / PIECES;
#pragma unroll 1
    for (i64 item = i64(blockIdx.x) * WARPS + threadIdx.x / WARP; item < n; item += i64(gridDim.x) * WARPS) {
        i64 low;
        int length;
        items.span(item, low, length);
        int total = 0;
#pragma unroll 1
        for (int from = 0; from < pieces; from += PIECES) {
            const char* column = opaque(reinterpret_cast<const char*>(table + min(from + piece, pieces - 1)));
            const Id* mine = opaque(ids + low);
            uint4 best = make_uint4(0, 0, 0, 0);
#pragma unroll 1
            for (int first = 0; first < length; first += 4 * TOKENS) {
                u32 id[4];
#pragma unroll
                for (int i = 0; i < 4; i++) id[i] = u32(read_only(mine + min(first + i * TOKENS + place, length - 1)));
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const u64 row_bytes = 16 * u32(pieces);
                    const uint4 row = read_only(reinterpret_cast<const uint4*>(column + min(id[i], u32(n_centroids - 1)) * row_bytes));
                    best = greater(best, row);
                }
            }
#pragma unroll
            for (int mask = PIECES; mask < WARP; mask *= 2)
                best = greater(best, make_uint4(shuffle_xor(best.x, mask), shuffle_xor(best.y, mask), shuffle_xor(best.z, mask),
                                                shuffle_xor(best.w, mask)));
            const u32 words[4] = {best.x, best.y, best.z, best.w};
            const int tokens = n_tokens - (from + piece) * 16;  // of the query, in this lane's piece
#pragma unroll
            for (int q = 0; q < 16; q++)
                if (q < tokens && place == 0) total += words[q / 4] >> q % 4 * 8 & 255;
        }
        if (PIECES == 2) total += shuffle_xor(total, 1);
        const Scale scale(ends);
        const double sum = add(multiply(double(total - n_tokens), scale.unit), multiply(double(n_tokens), scale.low));
        if (lane_id() == 0) found[item] = total > 0 ? float(sum) : -infinity();  // 0: no token was kept
    }
}
