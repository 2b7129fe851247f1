// Gradients of MaxSim from the tokens that won: each is one sum in a fixed order, by one owner. No atomics.
//
// With score[q, d] = sum over the tokens s of q of <query_s, document_best(d, s)>, and `grad` the gradient of the scores:
//   d query_s = sum over d of grad[q(s), d] * document_best(d, s),   d document_j = sum over the s whose best j is of grad * query_s
#include "maxsim.cuh"

constexpr int PART = 4 * WARP;  // numbers of a row that a warp holds at once, four per lane

template <class T>
struct alignas(4 * sizeof(T)) Four {  // four numbers as they lie in memory, read at once
    T value[4];
};

// The item whose rows hold `row`: the last offset that is not above it.
DEVICE i64 item_of_row(const i64* offsets, i64 n, i64 row) {
    i64 low = 0, high = n;
    while (low < high) {
        const i64 middle = (low + high + 1) / 2;
        if (read_only(offsets + middle) <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return min(low, n - 1);
}

// What argmax says of query row `row` and document `d`, trusted for nothing: a row of `documents`, or -1.
DEVICE i64 best_row(const int* argmax, const Items& documents, i64 n_query_rows, i64 d, i64 row) {
    i64 low;
    int length;
    documents.span(d, low, length);
    const int token = read_only(argmax + d * n_query_rows + row);
    return token >= 0 && token < length ? low + token : -1;
}

// grad (n_queries, n_documents), argmax (n_documents, query rows), documents (document rows, dim); gradient (query rows, dim)
// and `owner` (query rows,), the query of each row. A block of eight warps for a row, each with an eighth of the documents.
template <class T>
__global__ void __launch_bounds__(WARPS* WARP, 4)
    gradient_of_queries(const float* __restrict__ grad, const int* __restrict__ argmax, const i64* __restrict__ query_offsets,
                        i64 n_queries, i64 n_query_rows, const T* __restrict__ documents, const i64* __restrict__ offsets,
                        i64 n_documents, i64 n_rows, int dim, T* __restrict__ gradient, int* __restrict__ owner) {
    float* shared = reinterpret_cast<float*>(shared_memory());  // (WARPS, PART)
    const int warp = threadIdx.x / WARP, lane = lane_id();
    const Items items{offsets, n_documents, n_rows, nullptr};
    const i64 part = (n_documents + WARPS - 1) / WARPS, from = min(warp * part, n_documents), to = min(from + part, n_documents);
    for (i64 row = blockIdx.x; row < n_query_rows; row += gridDim.x) {
        const i64 query = item_of_row(query_offsets, n_queries, row);
        if (threadIdx.x == 0) owner[row] = int(query);
        for (int first = 0; first < dim; first += PART) {
            const int column = first + 4 * lane;
            float sum[4] = {};
            for (i64 d = from; d < to; d += WARP) {  // a lane looks up a document, then all lanes add the rows
                const bool mine = d + lane < to;
                const i64 at = mine ? best_row(argmax, items, n_query_rows, d + lane, row) : -1;
                const float weight = mine ? read_only(grad + query * n_documents + d + lane) : 0;
                const int count = int(min(to - d, i64(WARP)));
#pragma unroll 4
                for (int i = 0; i < count; i++) {
                    const i64 row_i = shuffle(at, i);
                    const float weight_i = shuffle(weight, i);
                    if (row_i < 0 || column >= dim) continue;
                    const Four<T> four = *reinterpret_cast<const Four<T>*>(documents + row_i * dim + column);
#pragma unroll
                    for (int k = 0; k < 4; k++) sum[k] = fused(weight_i, to_float(four.value[k]), sum[k]);
                }
            }
            block_barrier();
#pragma unroll
            for (int k = 0; k < 4; k++) shared[warp * PART + 4 * lane + k] = sum[k];
            block_barrier();
            if (threadIdx.x < PART && first + int(threadIdx.x) < dim) {
                float total = 0;
                for (int w = 0; w < WARPS; w++) total += shared[w * PART + threadIdx.x];
                from_float(total, gradient[row * dim + first + threadIdx.x]);
            }
        }
    }
}

// queries (query rows, dim), owner (query rows,) as above; gradient (document rows, dim). A warp for each document token.
template <class T>
__global__ void __launch_bounds__(WARPS* WARP, 4)
    gradient_of_documents(const float* __restrict__ grad, const int* __restrict__ argmax, const T* __restrict__ queries,
                          const int* __restrict__ owner, i64 n_query_rows, const i64* __restrict__ offsets, i64 n_documents,
                          i64 n_rows, int dim, T* __restrict__ gradient) {
    const int lane = lane_id();
    const Items items{offsets, n_documents, n_rows, nullptr};
    for (i64 row = i64(blockIdx.x) * WARPS + threadIdx.x / WARP; row < n_rows; row += i64(gridDim.x) * WARPS) {
        const i64 document = item_of_row(offsets, n_documents, row);
        i64 low;
        int length;
        items.span(document, low, length);
        const i64 token = row - low;
        for (int first = 0; first < dim; first += PART) {
            const int column = first + 4 * lane;
            float sum[4] = {};
#pragma unroll 2
            for (i64 s = 0; s < n_query_rows; s += WARP) {
                const bool mine = s + lane < n_query_rows && read_only(argmax + document * n_query_rows + s + lane) == token;
                u32 wins = ballot(mine && token >= 0);
                if (!wins) continue;
                const float weight = mine ? read_only(grad + read_only(owner + s + lane) * n_documents + document) : 0;
                while (wins) {
                    const int i = first_bit(wins);
                    wins &= wins - 1;
                    const float weight_i = shuffle(weight, i);
                    if (column >= dim) continue;
                    const Four<T> four = *reinterpret_cast<const Four<T>*>(queries + (s + i) * dim + column);
#pragma unroll
                    for (int k = 0; k < 4; k++) sum[k] = fused(weight_i, to_float(four.value[k]), sum[k]);
                }
            }
            if (column < dim) {
                Four<T> four;
#pragma unroll
                for (int k = 0; k < 4; k++) from_float(sum[k], four.value[k]);
                *reinterpret_cast<Four<T>*>(gradient + row * dim + column) = four;
            }
        }
    }
}
