// The nearest centroid of every vector by dot product, in float32: each product is summed in the order of the dimensions by
// fused multiply-adds, so that the ids are those of the backend cpu. A block takes 128 vectors, and all centroids, 128 at a
// time.
#include "warp.cuh"

constexpr int THREADS = 256;
constexpr int SIDE = 128;  // vectors, and centroids, of a tile
constexpr int PART = 8;    // dimensions in shared memory at a time
constexpr int EACH = 8;    // vectors, and centroids, of a thread: 4 t .. 4 t + 3 of both halves of the tile

DEVICE int place_of(int thread, int i) { return i / 4 * (SIDE / 2) + thread * 4 + i % 4; }

// PART dimensions of SIDE rows from `first` on into shared memory, a dimension after the other; zeros past the ends.
DEVICE void load_part(float* shared, const float* rows, i64 first, i64 n, int dim, int part) {
    const int row = threadIdx.x / 2, from = part + threadIdx.x % 2 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
        shared[(threadIdx.x % 2 * 4 + i) * SIDE + row] =
            first + row < n && from + i < dim ? read_only(rows + (first + row) * dim + from + i) : 0;
}

DEVICE void load_four(float (&x)[EACH], int i, const float* shared) {
    const float4 v = *reinterpret_cast<const float4*>(shared);
    x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
}

__global__ void __launch_bounds__(THREADS, 2)
    assign(const float* __restrict__ vectors, i64 n, const float* __restrict__ centroids, i64 n_centroids, int dim, int* ids) {
    float* mine = reinterpret_cast<float*>(shared_memory());
    float* others = mine + PART * SIDE;
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
#pragma unroll 1
    for (i64 first = i64(blockIdx.x) * SIDE; first < n; first += i64(gridDim.x) * SIDE) {
        float best[EACH];
        int which[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            best[i] = -infinity();
            which[i] = 0;
        }
#pragma unroll 1
        for (i64 tile = 0; tile < n_centroids; tile += SIDE) {
            float sums[EACH][EACH] = {};
#pragma unroll 1
            for (int part = 0; part < dim; part += PART) {
                block_barrier();
                load_part(mine, vectors, first, n, dim, part);
                load_part(others, centroids, tile, n_centroids, dim, part);
                block_barrier();
#pragma unroll
                for (int d = 0; d < PART; d++) {
                    // past the last dimension both are 0, and a sum stays as it is
                    float x[EACH], y[EACH];
#pragma unroll
                    for (int i = 0; i < EACH; i += 4) {
                        load_four(x, i, mine + d * SIDE + place_of(down, i));
                        load_four(y, i, others + d * SIDE + place_of(across, i));
                    }
#pragma unroll
                    for (int i = 0; i < EACH; i++)
#pragma unroll
                        for (int j = 0; j < EACH; j++) sums[i][j] = fused(x[i], y[j], sums[i][j]);
                }
            }
            // centroids come with rising ids, so the first of equals is kept
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                const i64 id = tile + place_of(across, j);
                if (id < n_centroids)
#pragma unroll
                    for (int i = 0; i < EACH; i++)
                        if (sums[i][j] > best[i]) {
                            best[i] = sums[i][j];
                            which[i] = int(id);
                        }
            }
        }
        // the 16 threads that share a vector are half a warp
#pragma unroll
        for (int mask = 1; mask < 16; mask *= 2)
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                const float value = shuffle_xor(best[i], mask);
                const int id = shuffle_xor(which[i], mask);
                if (value > best[i] || (value == best[i] && id < which[i])) {
                    best[i] = value;
                    which[i] = id;
                }
            }
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (across == i && first + place_of(down, i) < n) ids[first + place_of(down, i)] = which[i];
    }
}
