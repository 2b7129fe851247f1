// What the kernels ask of a GPU, one small function each: PTX under NVRTC, an emulator under g++.
//
// Fragments are those of the PTX manual ("Matrix fragments for mma"), with g = lane / 4 and t = lane % 4:
//   m16n8k16, 2 bytes: a0 (row g, k 2t 2t+1)     a1 (row g+8, same k)   a2 (row g, k 2t+8 2t+9)     a3 (row g+8, same k)
//   m16n8k8, tf32:     a0 (row g, k t)           a1 (row g+8, same k)   a2 (row g, k t+4)           a3 (row g+8, same k)
//   m16n8k32, 1 byte:  a0 (row g, k 4t .. 4t+3)  a1 (row g+8, same k)   a2 (row g, k 4t+16 ..)      a3 (row g+8, same k)
//   b0, b1: the k of a0 and a2, column g;        c0, c1: row g, columns 2t and 2t+1;                c2, c3: row g+8
#pragma once

using u8 = unsigned char;
using s8 = signed char;
using u16 = unsigned short;
using s16 = short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

struct half {  // IEEE binary16
    u16 bits;
};
struct bfloat {  // the upper half of a float
    u16 bits;
};

constexpr int WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__

DEVICE float infinity() { return __int_as_float(0x7f800000); }
DEVICE int lane_id() { return threadIdx.x % WARP; }
DEVICE void block_barrier() { __syncthreads(); }
DEVICE bool block_any(bool value) { return __syncthreads_or(value); }
DEVICE void warp_barrier() { __syncwarp(); }

// The block's dynamic shared memory, 16 byte aligned.
DEVICE char* shared_memory() {
    extern __shared__ uint4 dynamic_shared[];
    return reinterpret_cast<char*>(dynamic_shared);
}

template <class T>
DEVICE T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(ALL_LANES, value, mask);
}
template <class T>
DEVICE T shuffle(T value, int lane) {
    return __shfl_sync(ALL_LANES, value, lane);
}
template <class T>
DEVICE T shuffle_group(T value, int g) {  // of lane (g, t), for each lane (g', t): the segments of shfl are the columns t
    static_assert(sizeof(T) == 4, "one register");
    union {
        T value;
        u32 bits;
    } x = {value};
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x31f, 0xffffffff;" : "=r"(x.bits) : "r"(x.bits), "r"(4 * g));
    return x.value;
}
DEVICE u32 ballot(bool value) { return __ballot_sync(ALL_LANES, value); }
// Byte i is the one that bits 4i to 4i+2 of the selector name, of eight; its bits 4i+3 must be 0 (i < 4; others do not matter).
DEVICE u32 permute_bytes(u32 low, u32 high, u32 selector) {
    u32 v;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(v) : "r"(low), "r"(high), "r"(selector));
    return v;
}
DEVICE int first_bit(u32 value) { return __ffs(value) - 1; }
DEVICE u32 max_bytes(u32 x, u32 y) { return __vmaxu4(x, y); }                            // of each of four bytes
DEVICE u32 sum_bytes(u32 x, u32 sum) { return __dp4a(x, 0x01010101u, sum); }             // sum + the four bytes of x

// Read once and not written by this kernel: past the first level of cache.
DEVICE uint4 stream16(const void* from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}
DEVICE uint2 stream8(const void* from) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
    return v;
}
DEVICE u32 stream4(const void* from) {
    u32 v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
    return v;
}
// Kept in the first level of cache, and loaded where it is written: not earlier, into registers that there are not.
DEVICE uint4 load16(const void* from) {
    uint4 v;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}
template <class T>
DEVICE T read_only(const T* from) {
    return __ldg(from);
}

// 16 bytes from global to shared memory behind the program's back, until copies_wait.
DEVICE void copy_async16(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(u32(__cvta_generic_to_shared(shared))), "l"(global) : "memory");
}
DEVICE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT>  // until at most LEFT of the committed groups are on their way
DEVICE void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// The same value, of which the compiler knows nothing: it stays in one register instead of being taken apart again.
template <class T>
DEVICE const T* opaque(const T* x) {
    asm("" : "+l"(x));
    return x;
}
DEVICE u32 opaque(u32 x) {
    asm("" : "+r"(x));
    return x;
}

DEVICE u32 bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(u32 x) { return __uint_as_float(x); }
DEVICE float to_float(half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
DEVICE float to_float(bfloat x) { return float_of(u32(x.bits) << 16); }
DEVICE float to_float(float x) { return x; }
DEVICE void from_float(float x, half& y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
DEVICE void from_float(float x, bfloat& y) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
DEVICE void from_float(float x, float& y) { y = x; }
DEVICE u32 to_tf32(float x) {  // to nearest, ties away from zero
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}
DEVICE float max_or_nan(float x, float y) {  // NaN if either is
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
// Rounded products and sums that no compiler fuses, where results must be the same bits everywhere.
DEVICE float multiply(float x, float y) { return __fmul_rn(x, y); }
DEVICE float add(float x, float y) { return __fadd_rn(x, y); }
DEVICE float fused(float x, float y, float z) { return __fmaf_rn(x, y, z); }
DEVICE float divide(float x, float y) { return __fdiv_rn(x, y); }
DEVICE float absolute(float x) { return fabsf(x); }
DEVICE double multiply(double x, double y) { return __dmul_rn(x, y); }
DEVICE double add(double x, double y) { return __dadd_rn(x, y); }
DEVICE int round_to_int(float x) { return __float2int_rn(x); }  // ties to even

// Integer maxima and sums alone: whatever order the threads come in, the result is the same.
DEVICE void atomic_max(int* at, int value) { atomicMax(at, value); }
DEVICE int atomic_add(int* at, int value) { return atomicAdd(at, value); }

#define MMA(name, shape, C, constraint)                                                                        \
    DEVICE void name(C(&c)[4], const u32(&a)[4], u32 b0, u32 b1) {                                             \
        asm("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"       \
            : "+" constraint(c[0]), "+" constraint(c[1]), "+" constraint(c[2]), "+" constraint(c[3])           \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                   \
    }
MMA(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32", float, "f")
MMA(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32", float, "f")
MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32", float, "f")
MMA(mma_s8s8, "m16n8k32.row.col.s32.s8.s8.s32", int, "r")
MMA(mma_s8u8, "m16n8k32.row.col.s32.s8.u8.s32", int, "r")
MMA(mma_u8s8, "m16n8k32.row.col.s32.u8.s8.s32", int, "r")
MMA(mma_u8u8, "m16n8k32.row.col.s32.u8.u8.s32", int, "r")
#undef MMA

#endif  // __CUDACC__; the emulator defines the same names before this header's users are read
