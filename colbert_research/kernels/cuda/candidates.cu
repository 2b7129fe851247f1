// The documents in any of some inverted lists: a bit each, then the positions of the bits that are set, ascending.
#include "maxsim.cuh"
#include "select.cuh"

constexpr int THREADS = 256;

// values (n_values,) documents, packed by list; bits (words,), zero at first. A list is shared by the blocks of a column.
__global__ void __launch_bounds__(THREADS)
    mark(const int* __restrict__ values, const i64* __restrict__ offsets, i64 n_lists, i64 n_values,
         const i64* __restrict__ chosen, i64 n_chosen, i64 n_documents, u32* bits) {
    const Items lists{offsets, n_lists, n_values, chosen};
#pragma unroll 1
    for (i64 i = blockIdx.x; i < n_chosen; i += gridDim.x) {
        i64 low;
        int length;
        lists.span(i, low, length);
        for (i64 at = i64(blockIdx.y) * THREADS + threadIdx.x; at < length; at += i64(gridDim.y) * THREADS) {
            const int document = read_only(values + low + at);
            if (document < 0 || document >= n_documents) continue;
            const u32 bit = 1u << document % 32;
            if (!(bits[document / 32] & bit)) atomic_or(bits + document / 32, bit);  // what was read may be old: then once more
        }
    }
}

// counts (blocks,): bits that are set in each block's words.
__global__ void __launch_bounds__(THREADS) count_marks(const u32* __restrict__ bits, i64 words, i64 per_block, int* counts) {
    int* scratch = reinterpret_cast<int*>(shared_memory());
    const i64 from = blockIdx.x * per_block, to = min(from + per_block, words);
    int own = 0, total;
    for (i64 at = from + threadIdx.x; at < to; at += THREADS) own += count_bits(read_only(bits + at));
    sum_before<THREADS>(own, total, scratch);
    if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

// positions: as many as there is room for; state: [0] becomes their number.
__global__ void __launch_bounds__(THREADS)
    gather_marks(const u32* __restrict__ bits, i64 words, i64 per_block, const int* counts, i64* positions, i64 room, int* state) {
    int* scratch = reinterpret_cast<int*>(shared_memory());
    const i64 from = blockIdx.x * per_block, to = min(from + per_block, words);
    int before = sum_of<THREADS>(counts, blockIdx.x, scratch);
#pragma unroll 1
    for (i64 first = from; first < to; first += THREADS) {
        const i64 at = first + threadIdx.x;
        u32 word = at < to ? read_only(bits + at) : 0;
        int total, rank = before + sum_before<THREADS>(count_bits(word), total, scratch);
        for (; word; word &= word - 1, rank++)
            if (rank < room) positions[rank] = 32 * at + first_bit(word);
        before += total;
    }
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) state[0] = before;
}
