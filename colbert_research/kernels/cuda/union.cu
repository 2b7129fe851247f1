// The documents in any of some inverted lists, rising: a bit a document, then the bits' places.
#include "order.cuh"

// bits (words), zeros before. A block a list; what names no list, no entry or no document is passed over.
__global__ void __launch_bounds__(THREADS, 4)
    mark_listed(const int* __restrict__ documents, i64 n_entries, const i64* __restrict__ offsets, i64 n_lists,
                const i64* __restrict__ chosen, i64 n_chosen, i64 n_documents, u32* bits) {
#pragma unroll 1
    for (i64 which = blockIdx.x; which < n_chosen; which += gridDim.x) {
        const i64 list = chosen[which];
        if (list < 0 || list >= n_lists) continue;
        const i64 low = max(i64(0), offsets[list]), high = min(offsets[list + 1], n_entries);
#pragma unroll 4
        for (i64 i = low + threadIdx.x; i < high; i += THREADS) {
            const int document = read_only(documents + i);
            if (document >= 0 && document < n_documents) atomic_or(bits + document / 32, 1u << document % 32);
        }
    }
}

// counts (gridDim.x): bits set in each block's share of the words.
__global__ void __launch_bounds__(THREADS, 4) count_marks(const u32* __restrict__ bits, i64 words, i64* counts) {
    int* shared = reinterpret_cast<int*>(shared_memory());
    const Share share = share_of(words, blockIdx.x, gridDim.x);
    int mine = 0;
    for (i64 i = share.low + threadIdx.x; i < share.high; i += THREADS) mine += count_bits(read_only(bits + i));
    mine = sum_of_block(mine, shared);
    if (threadIdx.x == 0) counts[blockIdx.x] = mine;
}

// places (n_documents): those of set bits, rising; found: how many there are.
__global__ void __launch_bounds__(THREADS, 4)
    collect_marks(const u32* __restrict__ bits, i64 words, const i64* __restrict__ counts, i64* places, i64* found) {
    int* shared = reinterpret_cast<int*>(shared_memory());
    const Share share = share_of(words, blockIdx.x, gridDim.x);
    int before = 0, all = 0;  // below 2^31, as documents are
    for (int block = threadIdx.x; block < int(gridDim.x); block += THREADS) {
        all += int(counts[block]);
        if (block < int(blockIdx.x)) before += int(counts[block]);
    }
    before = sum_of_block(before, shared);
    all = sum_of_block(all, shared);
    if (blockIdx.x == 0 && threadIdx.x == 0) *found = all;
    i64 at = before;
#pragma unroll 1
    for (i64 first = share.low; first < share.high; first += THREADS) {
        const i64 i = first + threadIdx.x;
        const u32 word = i < share.high ? read_only(bits + i) : 0;
        if (!block_any(word != 0)) continue;
        // places before this thread's: of the warps before, and of the lanes before
        int count = count_bits(word), rank = count;
#pragma unroll
        for (int step = 1; step < WARP; step *= 2) {
            const int other = shuffle(rank, lane_id() - step);
            if (lane_id() >= step) rank += other;
        }
        if (lane_id() == WARP - 1) shared[threadIdx.x / WARP] = rank;
        block_barrier();
        int total = 0, warps = 0;
#pragma unroll
        for (int w = 0; w < THREADS / WARP; w++) {
            if (w < int(threadIdx.x) / WARP) warps += shared[w];
            total += shared[w];
        }
        i64 to = at + warps + rank - count;
        for (u32 left = word; left; left &= left - 1) places[to++] = i * 32 + first_bit(left);
        at += total;  // the next block_any lets no thread write over what others still read
    }
}
