// Dot products of float32 rows with float32 rows, each summed over the dimensions in order by fused multiply-adds: the same
// bits as cpu/products.py and cpu/nearest.py. No tensor cores, which sum otherwise.
#include "warp.cuh"

constexpr int THREADS = 256;
constexpr int DEPTH = 8;  // dimensions that lie in shared memory at a time, twice

// A block's tile of products: TALL x WIDE threads with L x R products each, of LEFT rows with RIGHT rows.
template <int TALL, int L, int R>
struct Tile {
    static constexpr int WIDE = THREADS / TALL, LEFT = TALL * L, RIGHT = WIDE * R;
    static constexpr int LEFT_STRIDE = LEFT + 4, RIGHT_STRIDE = RIGHT + 4;  // 4 d + row: different banks for a warp's stores
    static constexpr int STAGE = DEPTH * (LEFT_STRIDE + RIGHT_STRIDE);      // floats
    float sums[L][R];

    // Row i of a thread's L, and column j of its R, counted from the tile's first.
    static DEVICE int row(int i) { return i / 4 * 4 * TALL + threadIdx.x / WIDE * 4 + i % 4; }
    static DEVICE int column(int j) { return j / 4 * 4 * WIDE + threadIdx.x % WIDE * 4 + j % 4; }

    template <int ROWS>
    static DEVICE void load(float (&held)[ROWS * DEPTH / THREADS], const float* rows, int n, int dim, int start) {
        const int d = start + threadIdx.x % DEPTH;
#pragma unroll
        for (int i = 0; i < ROWS * DEPTH / THREADS; i++) {
            const int row = threadIdx.x / DEPTH + i * (THREADS / DEPTH);
            held[i] = row < n && d < dim ? read_only(rows + (row * dim + d)) : 0.0f;
        }
    }
    template <int ROWS>
    static DEVICE void store(float* shared, const float (&held)[ROWS * DEPTH / THREADS]) {
#pragma unroll
        for (int i = 0; i < ROWS * DEPTH / THREADS; i++)
            shared[threadIdx.x % DEPTH * (ROWS + 4) + threadIdx.x / DEPTH + i * (THREADS / DEPTH)] = held[i];
    }

    DEVICE void multiply_dimension(const float* left, const float* right) {
        float a[L], b[R];
#pragma unroll
        for (int i = 0; i < L; i += 4) {
            const float4 v = *reinterpret_cast<const float4*>(left + row(i));
            a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
        }
#pragma unroll
        for (int j = 0; j < R; j += 4) {
            const float4 v = *reinterpret_cast<const float4*>(right + column(j));
            b[j] = v.x, b[j + 1] = v.y, b[j + 2] = v.z, b[j + 3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < L; i++)
#pragma unroll
            for (int j = 0; j < R; j++) sums[i][j] = fused(a[i], b[j], sums[i][j]);
    }

    // sums = products of the first n_left rows of `left`, at most LEFT of them, with those of `right`. shared: two stages. The
    // block has met since `shared` was last used, and meets at the end.
    DEVICE void multiply_rows(float* shared, const float* left, int n_left, const float* right, int n_right, int dim) {
        float held_left[LEFT * DEPTH / THREADS], held_right[RIGHT * DEPTH / THREADS];
#pragma unroll
        for (int i = 0; i < L; i++)
#pragma unroll
            for (int j = 0; j < R; j++) sums[i][j] = 0;
        int stage = 0;
#pragma unroll 1
        for (int start = -DEPTH; start < dim; start += DEPTH) {  // the first turn only loads
            const bool more = start + DEPTH < dim;
            if (more) {
                load<LEFT>(held_left, left, n_left, dim, start + DEPTH);
                load<RIGHT>(held_right, right, n_right, dim, start + DEPTH);
            }
            const float* from = shared + stage * STAGE;
            if (start >= 0 && start + DEPTH <= dim) {
#pragma unroll
                for (int d = 0; d < DEPTH; d++)
                    multiply_dimension(from + d * LEFT_STRIDE, from + DEPTH * LEFT_STRIDE + d * RIGHT_STRIDE);
            } else if (start >= 0) {  // adding a product of zeros would turn -0 into 0
#pragma unroll 1
                for (int d = 0; d < dim - start; d++)
                    multiply_dimension(from + d * LEFT_STRIDE, from + DEPTH * LEFT_STRIDE + d * RIGHT_STRIDE);
            }
            stage ^= 1;
            if (more) {
                store<LEFT>(shared + stage * STAGE, held_left);
                store<RIGHT>(shared + stage * STAGE + DEPTH * LEFT_STRIDE, held_right);
            }
            block_barrier();
        }
    }
};

using Few = Tile<8, 4, 4>;    // 32 x 128: a query's tokens
using Many = Tile<16, 8, 8>;  // 128 x 128

// left (n_left, dim), right (n_right, dim); products (n_left, n_right). Shared memory: two stages of Few.
__global__ void __launch_bounds__(THREADS, 4)
    dot_products(const float* __restrict__ left, i64 n_left, const float* __restrict__ right, i64 n_right, int dim,
                 float* products) {
    float* shared = reinterpret_cast<float*>(shared_memory());
    Few tile;
#pragma unroll 1
    for (i64 top = i64(blockIdx.y) * Few::LEFT; top < n_left; top += i64(gridDim.y) * Few::LEFT) {
        const i64 first = i64(blockIdx.x) * Few::RIGHT;
        tile.multiply_rows(shared, left + top * dim, int(min(n_left - top, i64(Few::LEFT))), right + first * dim,
                           int(min(n_right - first, i64(Few::RIGHT))), dim);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const i64 row = top + Few::row(i), column = first + Few::column(0);
            float* out = products + row * n_right + column;
            if (row < n_left && n_right % 4 == 0 && column < n_right) {
                float4 v;
                v.x = tile.sums[i][0], v.y = tile.sums[i][1], v.z = tile.sums[i][2], v.w = tile.sums[i][3];
                *reinterpret_cast<float4*>(out) = v;
            } else if (row < n_left) {
#pragma unroll
                for (int j = 0; j < 4; j++)
                    if (column + j < n_right) out[j] = tile.sums[i][j];
            }
        }
    }
}

// vectors (n, dim), centroids (n_centroids, dim); ids (n,): the nearest, the first of equals, 0 where no product is above minus
// infinity. Shared memory: two stages of Many, then the best product and its centroid, 8 per thread.
__global__ void __launch_bounds__(THREADS, 2)
    assign(const float* __restrict__ vectors, i64 n, const float* __restrict__ centroids, int n_centroids, int dim, int* ids) {
    float* shared = reinterpret_cast<float*>(shared_memory());
    float* best = shared + 2 * Many::STAGE + threadIdx.x;
    int* chosen = reinterpret_cast<int*>(best + 8 * THREADS);
    Many tile;
#pragma unroll 1
    for (i64 top = i64(blockIdx.x) * Many::LEFT; top < n; top += i64(gridDim.x) * Many::LEFT) {
        const int n_left = int(min(n - top, i64(Many::LEFT)));
#pragma unroll
        for (int i = 0; i < 8; i++) {
            best[i * THREADS] = -infinity();
            chosen[i * THREADS] = 0;
        }
#pragma unroll 1
        for (int first = 0; first < n_centroids; first += Many::RIGHT) {
            const int n_right = min(n_centroids - first, int(Many::RIGHT));
            tile.multiply_rows(shared, vectors + top * dim, n_left, centroids + i64(first) * dim, n_right, dim);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float value = best[i * THREADS];
                int which = chosen[i * THREADS];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    if (tile.sums[i][j] > value && Many::column(j) < n_right) {
                        value = tile.sums[i][j];
                        which = first + Many::column(j);
                    }
                }
                best[i * THREADS] = value;
                chosen[i * THREADS] = which;
            }
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float value = best[i * THREADS];
            int which = chosen[i * THREADS];
#pragma unroll
            for (int mask = 1; mask < Many::WIDE; mask *= 2) {
                const float other = shuffle_xor(value, mask);
                const int whose = shuffle_xor(which, mask);
                if (other > value || (other == value && whose < which)) {
                    value = other;
                    which = whose;
                }
            }
            if (threadIdx.x % Many::WIDE == 0 && Many::row(i) < n_left) ids[top + Many::row(i)] = which;
        }
    }
}
