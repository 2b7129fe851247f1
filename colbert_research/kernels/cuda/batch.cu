// MaxSim of many queries with many documents: a stream of documents is read once for 8 groups of 32 query tokens.
//
// Each of a block's eight warps keeps one group of query tokens in registers. Tiles of 64 document tokens come into a ring in
// shared memory by asynchronous copies, two tiles ahead, and every warp multiplies with all of them (mma.sync; not wgmma).
// Blocks that share documents are neighbours in the grid, so that all but the first find them in the second level of cache.
#include "maxsim.cuh"
#include "scores.cuh"

constexpr int TOKENS = 64;  // of a document in one stage of the ring
constexpr int STAGES = 3;
constexpr int MOST = 64;  // documents of a block; two blocks fit where a multiprocessor has 100 KiB

struct Results {  // where a warp writes its group's, for the block's first document; in shared memory, as registers are scarce
    float* scores;
    int* argmax;
    float none;  // what a group without rows adds to a score
    int padding;
};

// A stage's row `token`, 16 bytes `chunk`; lanes of neighbouring rows meet different banks.
template <int ROW>
DEVICE int place_in_stage(int token, int chunk) {
    return token * ROW + (ROW % 128 ? chunk : chunk ^ (token & 1) << 2) * 16;
}

// queries (query rows, DIM), documents (document rows, DIM); scores (n_queries * groups, n): group k of query q has its tokens
// 32k to 32k + 31. A query with more tokens than its groups scores NaN. argmax (n, query rows), or null. A block takes 8 groups
// and `per_block` documents; the number of blocks is that of the first times that of the second.
template <class T, int DIM, bool ARGMAX>
__global__ void __launch_bounds__(WARPS* WARP, 2)
    maxsim_batch(const T* __restrict__ queries, const i64* __restrict__ query_offsets, i64 n_queries, i64 n_query_rows,
                 int groups, const T* __restrict__ documents, const i64* __restrict__ offsets, i64 n_documents, i64 n_rows,
                 const i64* __restrict__ only, i64 n, int per_block, float* scores, int* argmax, int* tally, int first_step) {
    constexpr int TILES = ARGMAX ? 1 : 2;  // tiles of 8 tokens that a warp multiplies at once, as registers allow
    constexpr int BYTES = DIM * int(sizeof(T)), STEPS = (BYTES + STEP - 1) / STEP, ROW = STEPS * STEP;
    const int warp = threadIdx.x / WARP, g = lane_id() / 4, t = lane_id() % 4;
    char* ring = shared_memory();
    i64* lows = reinterpret_cast<i64*>(ring + STAGES * TOKENS * ROW);
    int* lengths = reinterpret_cast<int*>(lows + MOST);
    Results& results = reinterpret_cast<Results*>(lengths + MOST)[warp];

    const u32 n_groups = u32(n_queries) * groups, sets = (n_groups + WARPS - 1) / WARPS;
    const u32 group = blockIdx.x % sets * WARPS + warp;
    const i64 first_item = i64(blockIdx.x / sets) * per_block;
    const int count = int(min(n - first_item, i64(per_block)));

    const Items items{offsets, n_documents, n_rows, only};
    for (int i = threadIdx.x; i < count; i += WARPS * WARP) items.span(first_item + i, lows[i], lengths[i]);

    i64 query_row = 0;
    int rows = 0;
    float none = 0;
    if (group < n_groups) {
        int query_rows;
        Items{query_offsets, n_queries, n_query_rows, nullptr}.span(group / groups, query_row, query_rows);
        const int before = int(group % groups) * GROUP;
        if (query_rows > groups * GROUP) none = float_of(0x7fc00000);
        query_row += before;
        rows = max(0, min(query_rows - before, GROUP));
    }
    uint4 a[STEPS][2][2];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const char* row = reinterpret_cast<const char*>(queries + (query_row + 8 * i + g) * DIM);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            uint4& v = a[step][i / 2][i % 2];
            v = make_uint4(0, 0, 0, 0);
            if (8 * i + g < rows) v = load_step<T>(row, step, t, (step + 1) * STEP > BYTES);
        }
    }
    if (lane_id() == 0) results = {scores + group * n + first_item, argmax + first_item * n_query_rows + query_row, none, 0};
    block_barrier();  // lows, lengths and results are there

    // the document and its first token that are copied next
    int ahead = 0, ahead_first = 0;
    const auto copy_next = [&](int stage) {
        while (ahead < count && lengths[ahead] == 0) ahead++;
        if (ahead < count) {
            const int length = lengths[ahead], wanted = min((length - ahead_first + 15) / 16 * 16, TOKENS);
            const char* document = reinterpret_cast<const char*>(documents) + lows[ahead] * BYTES;
            for (int i = threadIdx.x; i < wanted * (BYTES / 16); i += WARPS * WARP) {
                const int token = i / (BYTES / 16), chunk = i % (BYTES / 16);
                copy_async16(ring + stage * TOKENS * ROW + place_in_stage<ROW>(token, chunk),
                             document + i64(min(ahead_first + token, length - 1)) * BYTES + chunk * 16);
            }
            ahead_first += TOKENS;
            if (ahead_first >= length) {
                ahead_first = 0;
                ahead++;
            }
        }
        copies_commit();
    };
    for (int i = 0; i < STAGES - 1; i++) copy_next(i);

    int stage = 0;
#pragma unroll 1
    for (int item = 0; item < count; item++) {
        Best<ARGMAX> best;
        best.reset();
        const int length = lengths[item];
#pragma unroll 1
        for (int first = 0; first < length; first += TOKENS) {
            copies_wait<STAGES - 2>();
            block_barrier();  // this stage has come for all, and all are done with the one before, which is copied to next
            copy_next(stage ? stage - 1 : STAGES - 1);
            const char* tile = ring + stage * TOKENS * ROW;
            if (rows > 0) {
#pragma unroll 1
                for (int token = 0; token < min(length - first, TOKENS); token += 8 * TILES) {
                    float c[TILES][2][4] = {};
#pragma unroll
                    for (int step = 0; step < STEPS; step++)
#pragma unroll
                        for (int n = 0; n < TILES; n++) {
                            const int row = token + 8 * n + g;
                            uint4 b;
                            if ((step + 1) * STEP <= BYTES) {
                                b = *reinterpret_cast<const uint4*>(tile + place_in_stage<ROW>(row, step * 4 + t));
                            } else {
                                const char* at = tile + place_in_stage<ROW>(row, step * 4 + t / 2) + t % 2 * 8;
                                const uint2 eight = *reinterpret_cast<const uint2*>(at);
                                b = make_uint4(eight.x, eight.y, 0, 0);
                            }
                            multiply_step(T(), c[n], a[step], b);
                        }
#pragma unroll
                    for (int n = 0; n < TILES; n++) best.take_tile(c[n], first + token + 8 * n);
                }
            }
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
        best.combine_lanes();
        const float total = results.none + best.sum(rows);
        if (group < n_groups && lane_id() == 0) {
            results.scores[item] = total;
            if (!ARGMAX) count_score(tally, group, first_step, total);
        }
        if (ARGMAX) best.write_tokens(results.argmax + item * n_query_rows, rows);
    }
    copies_wait<0>();
}

// scores (n_queries, n) from the scores (n_queries * groups, n) of groups, added in their order.
__global__ void sum_groups(const float* __restrict__ parts, float* __restrict__ scores, i64 n_queries, int groups, i64 n,
                           int* tally, int first_step) {
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < n_queries * n; i += i64(gridDim.x) * blockDim.x) {
        const float* part = parts + i / n * groups * n + i % n;
        float total = 0;
        for (int group = 0; group < groups; group++) total += part[group * n];
        scores[i] = total;
        count_score(tally, i / n, first_step, total);
    }
}
