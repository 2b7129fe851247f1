// Centroid interaction in bytes: the maxima of a document's rows of a table, one byte for each query token, and their sum.
//
// A byte is 1 + round(254 (score - low) / (high - low)) with the query's least and greatest score, and 0 for a centroid that was
// left out, as in cpu/interaction.py: operation by operation, so results are the same bits.
#include "maxsim.cuh"
#include "scores.cuh"

constexpr int PIECE = 16;  // query tokens whose bytes a lane takes
constexpr int AHEAD = 4;

// Signed integers in the order of the scores, and back.
DEVICE int ordered(float x) { return int(key_of(x) ^ 0x80000000u); }
DEVICE float unordered(int x) {
    const u32 key = u32(x) ^ 0x80000000u;
    return float_of(key ^ (key >> 31 ? 0x80000000u : 0xffffffffu));
}

struct Steps {  // of the query's scores
    double low, unit;
    float scale;
    DEVICE Steps(const int* ends) {
        const double high = unordered(ends[1]);
        low = unordered(~ends[0]);
        unit = high > low ? add(high, -low) / 254.0 : 1.0;
        scale = float(1.0 / unit);
    }
};

// ends: [0] the complement of the least score, [1] the greatest, as ordered integers; the least integer at first.
__global__ void __launch_bounds__(WARPS* WARP) range(const float* __restrict__ scores, i64 n, int* ends) {
    int least = -2147483647 - 1, greatest = least;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += i64(gridDim.x) * blockDim.x) {
        const float x = read_only(scores + i);
        if (x != x) continue;
        greatest = max(greatest, ordered(x));
        least = max(least, ~ordered(x));
    }
#pragma unroll
    for (int mask = 1; mask < WARP; mask *= 2) {
        greatest = max(greatest, shuffle_xor(greatest, mask));
        least = max(least, shuffle_xor(least, mask));
    }
    if (lane_id() == 0) {
        atomic_max(ends, least);
        atomic_max(ends + 1, greatest);
    }
}

// scores (n_tokens, n_centroids); kept (n_centroids,) bytes, or null; table (n_centroids + 1, pieces): the last row is zeros.
__global__ void __launch_bounds__(WARPS* WARP)
    to_bytes(const float* __restrict__ scores, i64 n_centroids, int n_tokens, int pieces, const u8* __restrict__ kept,
             const int* ends, uint4* table) {
    const Steps steps(ends);
    const float below = -float(steps.low);
    const i64 n = (n_centroids + 1) * pieces;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += i64(gridDim.x) * blockDim.x) {
        const i64 centroid = i % (n_centroids + 1);  // neighbours read neighbouring scores
        const int piece = int(i / (n_centroids + 1));
        u32 words[4] = {};
        if (centroid < n_centroids && (!kept || read_only(kept + centroid))) {
#pragma unroll
            for (int q = 0; q < PIECE; q++) {
                const int token = piece * PIECE + q;
                if (token >= n_tokens) continue;
                const float x = read_only(scores + token * n_centroids + centroid);
                const float step = add(multiply(add(x, below), steps.scale), 0.5f);
                const u32 byte = step >= 0 && step < 256 ? 1 + u32(step) : 1;  // 1 for what is not a number, too
                words[q / 4] |= (byte & 255) << q % 4 * 8;
            }
        }
        table[centroid * pieces + piece] = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

DEVICE void take_maxima(uint4& best, const uint4& other) {
    best.x = max_bytes(best.x, other.x);
    best.y = max_bytes(best.y, other.y);
    best.z = max_bytes(best.z, other.z);
    best.w = max_bytes(best.w, other.w);
}

// ids (n_rows,): each token's centroid; one outside is left out. totals (n,); tally (BINS,), or null. A warp takes a document:
// `wide` lanes, the least power of two that is not below `pieces` but at most 32, take a token's row, so 32 / wide tokens are
// taken at once.
template <class Id>
__global__ void __launch_bounds__(WARPS* WARP, 4)
    interact(const Id* __restrict__ ids, const i64* __restrict__ offsets, i64 n_documents, i64 n_rows,
             const i64* __restrict__ only, i64 n, const uint4* __restrict__ table, i64 n_centroids, int n_tokens, int pieces,
             int wide, const int* ends, float* totals, int* tally, int first_step) {
    const Steps steps(ends);
    const Items items{offsets, n_documents, n_rows, only};
    const int lane = lane_id(), slots = WARP / wide, slot = lane / wide;
#pragma unroll 1
    for (i64 item = i64(blockIdx.x) * WARPS + threadIdx.x / WARP; item < n; item += i64(gridDim.x) * WARPS) {
        i64 low;
        int length, sum = 0;
        items.span(item, low, length);
#pragma unroll 1
        for (int first = 0; first < pieces; first += wide) {
            const int piece = min(first + lane % wide, pieces - 1);  // those beyond the last repeat it, and are not summed
            uint4 best = make_uint4(0, 0, 0, 0);
#pragma unroll 1
            for (int token = slot; token < length; token += AHEAD * slots) {
                u32 id[AHEAD];
#pragma unroll
                for (int i = 0; i < AHEAD; i++)  // tokens past the end repeat the last
                    id[i] = u32(min(i64(u32(read_only(ids + low + min(token + i * slots, length - 1)))), n_centroids));
#pragma unroll
                for (int i = 0; i < AHEAD; i++) take_maxima(best, read_only(table + i64(id[i]) * pieces + piece));
            }
#pragma unroll 1
            for (int mask = wide; mask < WARP; mask *= 2) {
                const uint4 other = make_uint4(shuffle_xor(best.x, mask), shuffle_xor(best.y, mask),
                                               shuffle_xor(best.z, mask), shuffle_xor(best.w, mask));
                take_maxima(best, other);
            }
            if (lane < wide && first + lane < pieces)
                sum = int(sum_bytes(best.x, sum_bytes(best.y, sum_bytes(best.z, sum_bytes(best.w, u32(sum))))));
        }
#pragma unroll
        for (int mask = 1; mask < WARP; mask *= 2) sum += shuffle_xor(sum, mask);
        if (lane == 0) {
            const double total = add(multiply(double(sum - n_tokens), steps.unit), multiply(double(n_tokens), steps.low));
            const float score = sum ? float(total) : -infinity();
            totals[item] = score;
            count_score(tally, 0, first_step, score);
        }
    }
}
