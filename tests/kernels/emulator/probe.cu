// Each primitive of warp.cuh by itself, for the tests of the emulator and, on a GPU, of the emulator's reading of the manual.
#include "warp.cuh"

struct F16 { static DEVICE void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_f16(c, a, b0, b1); } using C = float; };
struct BF16 { static DEVICE void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); } using C = float; };
struct TF32 { static DEVICE void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_tf32(c, a, b0, b1); } using C = float; };
struct S8S8 { static DEVICE void mma(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_s8s8(c, a, b0, b1); } using C = int; };
struct S8U8 { static DEVICE void mma(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_s8u8(c, a, b0, b1); } using C = int; };
struct U8S8 { static DEVICE void mma(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_u8s8(c, a, b0, b1); } using C = int; };
struct U8U8 { static DEVICE void mma(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_u8u8(c, a, b0, b1); } using C = int; };

// Registers of 32 lanes: a (32, 4), b (32, 2), c (32, 4), which is added to.
template <class M>
__global__ void product(const u32* a, const u32* b, typename M::C* c) {
    const int lane = lane_id();
    u32 fragment[4];
    typename M::C sum[4];
    for (int r = 0; r < 4; r++) {
        fragment[r] = a[lane * 4 + r];
        sum[r] = c[lane * 4 + r];
    }
    M::mma(sum, fragment, b[lane * 2], b[lane * 2 + 1]);
    for (int r = 0; r < 4; r++) c[lane * 4 + r] = sum[r];
}

// out (6, 32): neighbour's, lane 5's, ballot of the odd values, bytes permuted; of the lane of this column in the group that each
// lane asks for, as an integer and, the same for all lanes, as a float
__global__ void exchange(const u32* in, u32* out) {
    const int lane = lane_id();
    out[lane] = shuffle_xor(in[lane], 3);
    out[32 + lane] = shuffle(in[lane], 5);
    out[64 + lane] = ballot(in[lane] & 1);
    out[96 + lane] = permute_bytes(in[lane], in[lane ^ 1], 0x6145);
    out[128 + lane] = shuffle_group(in[lane], (3 * lane + 1) % 8);
    out[160 + lane] = bits_of(shuffle_group(float_of(in[lane]), 6));
}

// Threads of several blocks: counts [0] the greatest of 37 i % 101, [1] their number; seen (3, n): the number that each got, whether
// any thread of its block is thread 70 of block 1, and what its neighbour wrote into shared memory.
__global__ void meet(int* counts, int* seen, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    int* shared = reinterpret_cast<int*>(shared_memory());
    atomic_max(counts, 37 * i % 101);
    seen[i] = atomic_add(counts + 1, 1);
    seen[n + i] = block_any(i == int(blockDim.x) + 70);
    shared[threadIdx.x] = 5 * i;
    warp_barrier();
    seen[2 * n + i] = shared[threadIdx.x ^ 1];
}

// out (5, n): 16 bytes each, by each of the loads
__global__ void loads(const uint4* in, uint4* out, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const char* at = reinterpret_cast<const char*>(in + i);
        const uint2 low = stream8(at), high = stream8(at + 8);
        out[i] = stream16(at);
        out[n + i] = load16(at);
        out[2 * n + i] = make_uint4(low.x, low.y, high.x, high.y);
        out[3 * n + i] = make_uint4(stream4(at), stream4(at + 4), stream4(at + 8), stream4(at + 12));
        out[4 * n + i] = read_only(opaque(in + i));
    }
}

// out (6, n): x y + z rounded once, and twice, x / y, |x|, x, minus infinity; whole (2, n): x to the nearest, the lowest bit of x
__global__ void arithmetic(const float* x, const float* y, const float* z, float* out, int* whole, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        out[i] = fused(x[i], y[i], z[i]);
        out[n + i] = add(multiply(x[i], y[i]), z[i]);
        out[2 * n + i] = divide(x[i], y[i]);
        out[3 * n + i] = absolute(x[i]);
        out[4 * n + i] = float_of(opaque(bits_of(x[i])));
        out[5 * n + i] = -infinity();
        whole[i] = round_to_int(x[i]);
        whole[n + i] = first_bit(bits_of(x[i]));
    }
}

template <class T>
__global__ void round_trip(const float* in, T* narrow, float* wide, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        from_float(in[i], narrow[i]);
        wide[i] = to_float(narrow[i]);
    }
}

__global__ void rounding(const float* in, u32* tf32, float* maxima, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        tf32[i] = to_tf32(in[i]);
        maxima[i] = max_or_nan(in[i], in[n - 1 - i]);
    }
}

// bytes (n, 2): of each of four the greater; 1 + the sum of the four. products (n,): x y + x in double, rounded twice
__global__ void bytes_and_doubles(const u32* in, u32* bytes, const double* x, double* products, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        bytes[2 * i] = max_bytes(in[i], in[n - 1 - i]);
        bytes[2 * i + 1] = sum_bytes(in[i], 1);
        products[i] = add(multiply(x[i], x[n - 1 - i]), x[i]);
    }
}

// A block reverses what it copies: wrong without the barrier, and without the wait.
template <bool WAIT, bool BARRIER>
__global__ void reverse(const uint4* in, uint4* out) {
    uint4* shared = reinterpret_cast<uint4*>(shared_memory());
    const int i = threadIdx.x, n = blockDim.x;
    copy_async16(shared + i, in + blockIdx.x * n + i);
    copies_commit();
    if (WAIT) copies_wait<0>();
    if (BARRIER) block_barrier();
    out[blockIdx.x * n + i] = shared[n - 1 - i];
    if (!WAIT) copies_wait<0>();
}

// WRONG 0: nothing. 1: lanes meet different operations. 2: some lanes leave. 3: some threads skip a barrier.
template <int WRONG>
__global__ void quarrel(u32* out) {
    const int i = threadIdx.x;
    if (WRONG == 1 && i == 7) {
        out[i] = ballot(true);
        return;
    }
    if (WRONG == 2 && i == 7) return;
    const u32 other = shuffle_xor(u32(i), 1);
    if (WRONG != 3 || i != 40) block_barrier();
    out[i] = other;
}
