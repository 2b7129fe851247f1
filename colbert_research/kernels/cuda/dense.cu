// MaxSim of one or a few queries with many documents: every document's tokens are read once from memory for each query.
//
// A warp scores a document. The query lies in shared memory, as groups of 32 tokens; documents go from memory straight into
// fragments. Tokens past a document's end repeat its last one, which changes no maximum: there are no masks and no padding.
#include "maxsim.cuh"
#include "scores.cuh"

// Rows that lie 64 bytes into 128 keep the lanes of a 16 byte load on different banks.
DEVICE int shared_stride(int row_bytes) { return (row_bytes + 63) / 128 * 128 + 64; }

// Query rows `first` to `first + groups * 32` into shared memory, zeros after the query's end and after a row's.
template <class T>
DEVICE void load_query(char* shared, const T* queries, i64 first, i64 rows, int groups, int dim) {
    const int bytes = dim * int(sizeof(T)), units = row_steps<T>(dim) * STEP / 8, stride = shared_stride(bytes);
    for (int i = threadIdx.x; i < groups * GROUP * units; i += WARPS * WARP) {
        const int row = i / units, unit = i % units, step = unit / 8;
        const bool half = step * STEP + STEP > bytes;  // 8 bytes of each 16 are filled
        const int from = half ? step * STEP + unit % 8 / 2 * 8 : unit * 8;
        uint2 v = make_uint2(0, 0);
        if (row < rows && !(half && unit % 2)) v = stream8(reinterpret_cast<const char*>(queries + (first + row) * dim) + from);
        *reinterpret_cast<uint2*>(shared + row * stride + unit * 8) = v;
    }
}

// The best of tokens `from` to `to` (exclusive) of a document for a group of query tokens in shared memory.
template <class T, bool ARGMAX>
DEVICE void scan(Best<ARGMAX>& best, const char* query, const char* document, int from, int to, int dim) {
    constexpr int TILES = (sizeof(T) == 2 ? 4 : 2) - ARGMAX;  // tiles of 8 tokens under way, as registers allow
    const int bytes = dim * int(sizeof(T)), steps = row_steps<T>(dim), stride = shared_stride(bytes);
    const int g = lane_id() / 4, t = lane_id() % 4;
    if (from >= to) return;
    const auto load = [&](int token, int step) {
        return load_step<T>(document + i64(min(token + g, to - 1)) * bytes, step, t, (step + 1) * STEP > bytes);
    };
    uint4 b[TILES];
#pragma unroll
    for (int n = 0; n < TILES; n++) b[n] = load(from + 8 * n, 0);
    query += g * stride + t * 16;
#pragma unroll 1
    for (int first = from; first < to; first += 8 * TILES) {
        float c[TILES][2][4] = {};
#pragma unroll 1  // unrolled, it would take more registers than half of a multiprocessor has
        for (int step = 0; step < steps; step++) {
            uint4 a[2][2];
#pragma unroll
            for (int i = 0; i < 4; i++) a[i / 2][i % 2] = *reinterpret_cast<const uint4*>(query + 8 * i * stride + step * STEP);
            const bool last = step + 1 == steps;
#pragma unroll
            for (int n = 0; n < TILES; n++) {  // each tile's next bytes are asked for as soon as it is multiplied
                multiply_step(T(), c[n], a, b[n]);
                b[n] = load(first + 8 * (last ? TILES + n : n), last ? 0 : step + 1);
            }
        }
#pragma unroll
        for (int n = 0; n < TILES; n++) best.take_tile(c[n], first + 8 * n);
    }
}

// queries (query rows, dim), documents (document rows, dim); scores (n_queries, n); argmax (n, query rows), or null; tally
// (n_queries, BINS), or null: counts of their steps, without ARGMAX.
// Shared memory: `groups` groups of 32 rows, then 8 warps' maxima of a group. A query with more is taken in several passes.
template <class T, bool ARGMAX>
__global__ void __launch_bounds__(WARPS* WARP, 2)
    maxsim(const T* __restrict__ queries, const i64* __restrict__ query_offsets, i64 n_queries, i64 n_query_rows,
           const T* __restrict__ documents, const i64* __restrict__ offsets, i64 n_documents, i64 n_rows,
           const i64* __restrict__ only, i64 n, int dim, int groups, float* scores, int* argmax, int* tally, int first_step) {
    const int group_bytes = GROUP * shared_stride(dim * int(sizeof(T)));
    const int g = lane_id() / 4;
    char* shared = shared_memory();
    float* values = reinterpret_cast<float*>(shared + groups * group_bytes);
    int* tokens = reinterpret_cast<int*>(values + WARPS * GROUP);
    const Items asked{query_offsets, n_queries, n_query_rows, nullptr}, items{offsets, n_documents, n_rows, only};

#pragma unroll 1
    for (i64 query = blockIdx.y; query < n_queries; query += gridDim.y) {
        i64 query_low;
        int query_rows;
        asked.span(query, query_low, query_rows);
#pragma unroll 1
        for (int done = 0; done == 0 || done < query_rows; done += groups * GROUP) {
            const int rows = min(query_rows - done, groups * GROUP);
            block_barrier();  // no warp reads the query before this one any more
            load_query(shared, queries, query_low + done, rows, (rows + GROUP - 1) / GROUP, dim);
            block_barrier();
            Turns turns(items, n);
#pragma unroll 1
            while (turns.next()) {
                float total = done ? scores[query * n + turns.item] : 0;
#pragma unroll 1
                for (int row = 0; row < rows; row += GROUP) {
                    Best<ARGMAX> best;
                    best.reset();
                    scan<T, ARGMAX>(best, shared + row / GROUP * group_bytes,
                                    reinterpret_cast<const char*>(documents + turns.low * dim), turns.from, turns.to, dim);
                    best.combine_lanes();
                    if (turns.together) {
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            values[turns.warp * GROUP + 8 * i + g] = best.value[i];  // four lanes write the same
                            if (ARGMAX) tokens[turns.warp * GROUP + 8 * i + g] = best.token[i];
                        }
                        block_barrier();
#pragma unroll 1
                        for (int other = 0; other < WARPS; other++)
#pragma unroll
                            for (int i = 0; i < 4; i++) {
                                const int place = other * GROUP + 8 * i + g;
                                best.join(i, values[place], ARGMAX ? tokens[place] : 0);
                            }
                        block_barrier();
                    }
                    total += best.sum(rows - row);
                    if (ARGMAX && (!turns.together || turns.warp == 0))
                        best.write_tokens(argmax + turns.item * n_query_rows + query_low + done + row, rows - row);
                }
                if (lane_id() == 0 && (!turns.together || turns.warp == 0)) {
                    scores[query * n + turns.item] = total;
                    if (!ARGMAX && done + rows >= query_rows) count_score(tally, query, first_step, total);
                }
            }
        }
    }
}
