// A query for the integer kernels: rounded to whole numbers, and multiplied with every centroid. The formulas, and the order of
// every sum, are those of cpu/prepare.py and cpu/products.py: the results are the same bits.
#include "maxsim.cuh"

constexpr int GREATEST = 63;  // of a query's whole numbers
constexpr int PART = 64;      // dimensions that are multiplied before the next ones are fetched

// A block a query. For each group of 16 halves tokens: weights (products, halves, 32 lanes) of 16 bytes, in the fragments of A;
// factors and base (16 halves). `dims` (products, 2, 4, 4): the dimension of each byte of an operand, or -1. Tokens that pad a
// group are zeros. Factors are NaN where a number of the query is not finite.
__global__ void __launch_bounds__(WARPS* WARP, 2)
    round_queries(const float* __restrict__ queries, const i64* __restrict__ query_offsets, i64 n_queries, i64 n_rows, int dim,
                  const float* __restrict__ lowest, const float* __restrict__ step, const int* __restrict__ dims, int products,
                  int groups, int halves, u32* weights, float* factors, float* base) {
    const Items asked{query_offsets, n_queries, n_rows, nullptr};
    const int group_rows = 16 * halves, lane = lane_id();
#pragma unroll 1
    for (i64 query = blockIdx.x; query < n_queries; query += gridDim.x) {
        i64 low;
        int rows;
        asked.span(query, low, rows);
        rows = min(rows, groups * group_rows);
        bool endless = false;
        for (i64 i = threadIdx.x; i < i64(rows) * dim; i += WARPS * WARP) {
            const float x = queries[low * dim + i];
            endless = endless || add(x, -x) != 0;  // infinities and NaN
        }
        endless = block_any(endless);
#pragma unroll 1
        for (int row = threadIdx.x / WARP; row < groups * group_rows; row += WARPS) {
            const float* token = queries + (low + row) * dim;
            float greatest = 0, sum = 0;
            if (row < rows) {
                for (int d = lane; d < dim; d += WARP) greatest = max(greatest, absolute(multiply(token[d], step[d])));
                for (int d = 0; d < dim; d++) sum = add(sum, multiply(token[d], lowest[d]));
            }
#pragma unroll
            for (int mask = 1; mask < WARP; mask *= 2) greatest = max(greatest, shuffle_xor(greatest, mask));
            const float factor = divide(greatest, float(GREATEST)), unit = factor > 0 ? factor : 1;
            const i64 at = query * groups * group_rows + row;
            if (lane == 0) {
                factors[at] = endless ? infinity() - infinity() : factor;
                base[at] = sum;
            }
            const i64 group = query * groups + row / group_rows;
            const int half = row % group_rows / 16, upper = row % 16 / 8, g = row % 8;
            for (int i = lane; i < products * 8; i += WARP) {  // product, operand, t
                u32 word = 0;
#pragma unroll 1
                for (int e = 0; e < 4; e++) {
                    const int d = dims[i * 4 + e];
                    if (row < rows && d >= 0 && !endless)
                        word |= (u32(round_to_int(divide(multiply(token[d], step[d]), unit))) & 255) << 8 * e;
                }
                const i64 fragment = ((group * products + i / 8) * halves + half) * WARP + 4 * g + i % 4;
                weights[fragment * 4 + upper + i / 4 % 2 * 2] = word;
            }
        }
    }
}

// Products of 32 rows of `a` along the lanes with `b`'s rows, summed in the order of the dimensions by fused multiply-adds.
constexpr int EACH = 4;     // rows of b for a warp
constexpr int STRIDE = 33;  // of a dimension's 32 numbers in shared memory: neither side meets one bank

struct Products {
    float* shared;  // (PART, STRIDE)

    // To be entered by the whole block: rows first_a .. + 31 of a, which has n_a; a warp's rows from first_b on, of n_b.
    DEVICE void run(float (&sums)[EACH], const float* a, i64 first_a, i64 n_a, const float* b, i64 first_b, i64 n_b, int dim) {
        const int lane = lane_id();
#pragma unroll
        for (int j = 0; j < EACH; j++) sums[j] = 0;
#pragma unroll 1
        for (int part = 0; part < dim; part += PART) {
            const int width = min(PART, dim - part);
            block_barrier();
            for (int i = threadIdx.x; i < 32 * PART; i += WARPS * WARP) {
                const int row = i / PART, d = i % PART;
                shared[d * STRIDE + row] = first_a + row < n_a && d < width ? a[(first_a + row) * dim + part + d] : 0;
            }
            block_barrier();
            const float* rows[EACH];
#pragma unroll
            for (int j = 0; j < EACH; j++) rows[j] = opaque(b + min(first_b + j, n_b - 1) * dim + part);
            int d = 0;
            if (dim % 4 == 0 && u64(b) % 16 == 0)
#pragma unroll 2
                for (; d < width; d += 4) {
                    float4 y[EACH];
#pragma unroll
                    for (int j = 0; j < EACH; j++) y[j] = read_only(reinterpret_cast<const float4*>(rows[j] + d));
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const float x = shared[(d + e) * STRIDE + lane];
#pragma unroll
                        for (int j = 0; j < EACH; j++)
                            sums[j] = fused(e == 0 ? y[j].x : e == 1 ? y[j].y : e == 2 ? y[j].z : y[j].w, x, sums[j]);
                    }
                }
#pragma unroll 1
            for (; d < width; d++) {
                const float x = shared[d * STRIDE + lane];
#pragma unroll
                for (int j = 0; j < EACH; j++) sums[j] = fused(read_only(rows[j] + d), x, sums[j]);
            }
        }
    }
};

// Centroid scores of type T (n_queries, groups, n_centroids, 8, 2 halves): of query token 8i + g at (g, i), q . centroid + base.
// Without centroids, n_centroids is 1 and `centroids` null.
template <class T>
__global__ void __launch_bounds__(WARPS* WARP, 2)
    score_centroids(const float* __restrict__ queries, const i64* __restrict__ query_offsets, i64 n_queries, i64 n_rows, int dim,
                 const float* __restrict__ centroids, i64 n_centroids, const float* __restrict__ base, int groups, int halves,
                 T* table) {
    const Items asked{query_offsets, n_queries, n_rows, nullptr};
    Products products{reinterpret_cast<float*>(shared_memory())};
    const int group_rows = 16 * halves, row = lane_id();
#pragma unroll 1
    for (i64 which = blockIdx.y; which < n_queries * groups; which += gridDim.y) {
        i64 low;
        int rows;
        asked.span(which / groups, low, rows);
        const i64 first = low + which % groups * group_rows, stop = low + min(rows, int(which % groups + 1) * group_rows);
        const float own_base = row < group_rows ? base[which * group_rows + row] : 0;
#pragma unroll 1
        for (i64 block = i64(blockIdx.x) * WARPS * EACH; block < n_centroids; block += i64(gridDim.x) * WARPS * EACH) {
            const i64 centroid = block + threadIdx.x / WARP * EACH;
            float sums[EACH] = {};
            if (centroids) products.run(sums, queries, first, stop, centroids, centroid, n_centroids, dim);
            if (row < group_rows)
#pragma unroll
                for (int j = 0; j < EACH; j++)
                    if (centroid + j < n_centroids)
                        from_float(add(sums[j], own_base),
                                   table[((which * n_centroids + centroid + j) * 8 + row % 8) * 2 * halves + row / 8]);
        }
    }
}
