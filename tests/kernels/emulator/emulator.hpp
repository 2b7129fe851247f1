// A GPU's block of threads in one thread of the processor: what warp.cuh declares, for kernels compiled by g++.
//
// Threads are fibers that run until they meet a barrier or an operation of the whole warp. The scheduler starts with the first
// or with the last thread (`descending`): a kernel whose result depends on that lacks a barrier. Shared memory starts as NaNs,
// asynchronous copies arrive only when they are waited for, and lanes that meet different operations, or leave before the
// others, stop the launch with a message. Fragments follow the tables at the top of warp.cuh.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define DEVICE inline

struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct dim3 { unsigned x, y, z; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }

namespace emulator {

constexpr int STACK = 64 * 1024;
constexpr int ROOM = 64;  // bytes that a lane brings to, or takes from, an operation of its warp

#if defined(__x86_64__)
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
struct Context {
    void* pointer = nullptr;
    void start(char* stack, void (*entry)()) {
        void** top = reinterpret_cast<void**>(stack + STACK - 64);  // 16 byte aligned; the entry finds it as after a call
        *--top = nullptr;
        *--top = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; i++) *--top = nullptr;
        pointer = top;
    }
    void to(Context& other) { emulator_switch(&pointer, other.pointer); }
};
#else
struct Context {
    ucontext_t context;
    void start(char* stack, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    void to(Context& other) { swapcontext(&context, &other.context); }
};
#endif

struct Copy { void* to; const void* from; };
struct Thread {
    Context context;
    dim3 index;
    int lane, warp;
    bool done;
    const unsigned long long* waits_for;  // runnable when it is null or no longer `seen`
    unsigned long long seen;
    std::vector<Copy> uncommitted;
    std::vector<std::vector<Copy>> committed;
};
struct Warp {
    alignas(16) char in[32][ROOM], out[32][ROOM];
    const char* operation;
    int size, arrived;
    unsigned long long generation;
};
struct Block {
    dim3 index, grid, size;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<char> stacks;
    std::vector<uint4> shared;
    int arrived, any, result;
    unsigned long long generation;
    Context scheduler;
    void (*body)(void**) = nullptr;
    void** arguments;
    std::string failure;
};
inline Block block;
inline Thread* current;
inline bool descending;

inline void leave() { current->context.to(block.scheduler); }
[[noreturn]] inline void fail(const std::string& why) {
    if (block.failure.empty()) block.failure = why;
    for (;;) leave();
}
inline void wait_while(const unsigned long long& generation, unsigned long long seen) {
    current->waits_for = &generation;
    current->seen = seen;
    leave();
    current->waits_for = nullptr;
}
inline void entry() {
    block.body(block.arguments);
    current->done = true;
    if (!current->uncommitted.empty() || !current->committed.empty()) fail("a thread ended before its asynchronous copies did");
    for (;;) leave();
}

// Every lane brings `in`; when all have come, `compute(warp)` turns warp.in into warp.out, and each takes its own.
template <class In, class Out, class Compute>
Out of_warp(const char* operation, const In& in, Compute compute) {
    static_assert(sizeof(In) <= ROOM && sizeof(Out) <= ROOM);
    Warp& warp = block.warps[current->warp];
    const int lane = current->lane;
    if (warp.arrived == 0) warp.operation = operation;
    if (std::strcmp(warp.operation, operation) != 0)
        fail(std::string("lanes of one warp meet ") + warp.operation + " and " + operation);
    std::memcpy(warp.in[lane], &in, sizeof(In));
    if (++warp.arrived == warp.size) {
        compute(warp);
        warp.arrived = 0;
        warp.generation++;
    } else {
        wait_while(warp.generation, warp.generation);
    }
    Out out;
    std::memcpy(&out, warp.out[lane], sizeof(Out));
    return out;
}
template <class T>
T& in_of(Warp& warp, int lane) { return *reinterpret_cast<T*>(warp.in[lane]); }
template <class T>
T& out_of(Warp& warp, int lane) { return *reinterpret_cast<T*>(warp.out[lane]); }

inline bool run_warp(int w) {
    const int first = w * 32, n = block.warps[w].size;
    bool moved = false;
    for (int i = 0; i < n; i++) {
        Thread& thread = block.threads[first + (descending ? n - 1 - i : i)];
        if (thread.done || (thread.waits_for && *thread.waits_for == thread.seen)) continue;
        current = &thread;
        block.scheduler.to(thread.context);
        moved = true;
        if (!block.failure.empty()) return false;
    }
    return moved;
}

inline void run_block(dim3 index) {
    const int n = block.size.x * block.size.y * block.size.z;
    block.index = index;
    block.arrived = block.any = 0;
    std::memset(block.shared.data(), 0xff, block.shared.size() * sizeof(uint4));
    for (size_t w = 0; w < block.warps.size(); w++) {
        block.warps[w].size = n - int(w) * 32 < 32 ? n - int(w) * 32 : 32;
        block.warps[w].arrived = 0;
    }
    for (int i = 0; i < n; i++) {
        Thread& thread = block.threads[i];
        thread.index = {i % block.size.x, i / block.size.x % block.size.y, i / block.size.x / block.size.y};
        thread.lane = i % 32;
        thread.warp = i / 32;
        thread.done = false;
        thread.waits_for = nullptr;
        thread.uncommitted.clear();
        thread.committed.clear();
        thread.context.start(block.stacks.data() + size_t(i) * STACK, entry);
    }
    for (bool moved = true; moved && block.failure.empty();) {
        moved = false;
        const int warps = int(block.warps.size());
        for (int i = 0; i < warps; i++)
            while (run_warp(descending ? warps - 1 - i : i)) moved = true;
    }
    for (const Thread& thread : block.threads)
        if (!thread.done && block.failure.empty())
            block.failure = "threads wait for others that have left or wait elsewhere";
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
}

// Runs a kernel over a grid; the message of the first failure, or nullptr.
template <auto Kernel>
struct Launch;
template <class... P, void (*Kernel)(P...)>
struct Launch<Kernel> {
    static void body(void** arguments) { call(Kernel, arguments, std::index_sequence_for<P...>()); }
    static const char* run(const unsigned* grid, const unsigned* size, unsigned long long shared, void** arguments, int backwards) {
        block.grid = {grid[0], grid[1], grid[2]};
        block.size = {size[0], size[1], size[2]};
        const size_t n = size_t(size[0]) * size[1] * size[2];
        block.threads.resize(n);
        block.warps.resize((n + 31) / 32);
        block.stacks.resize(n * STACK + 64);
        block.shared.assign((shared + 15) / 16, uint4{});
        block.body = body;
        block.arguments = arguments;
        block.failure.clear();
        descending = backwards;
        const long long blocks = (long long)grid[0] * grid[1] * grid[2];
        for (long long i = 0; i < blocks && block.failure.empty(); i++) {
            const long long b = descending ? blocks - 1 - i : i;
            run_block({unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])});
        }
        return block.failure.empty() ? nullptr : block.failure.c_str();
    }
};

inline float half_to_float(unsigned short h) {
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const float sign = h & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
    return sign * (exponent ? std::ldexp(float(fraction | 1024), exponent - 25) : std::ldexp(float(fraction), -24));
}
inline const float* half_table() {
    static const std::vector<float> table = [] {
        std::vector<float> values(65536);
        for (int i = 0; i < 65536; i++) values[i] = half_to_float((unsigned short)i);
        return values;
    }();
    return table.data();
}

}  // namespace emulator

#define threadIdx (emulator::current->index)
#define blockIdx (emulator::block.index)
#define blockDim (emulator::block.size)
#define gridDim (emulator::block.grid)

#include "warp.cuh"

DEVICE float infinity() { return INFINITY; }
DEVICE int lane_id() { return emulator::current->lane; }
DEVICE char* shared_memory() { return reinterpret_cast<char*>(emulator::block.shared.data()); }
DEVICE bool block_any(bool value) {
    using namespace emulator;
    block.any |= value;
    if (++block.arrived == int(block.threads.size())) {
        block.result = block.any;
        block.arrived = block.any = 0;
        block.generation++;
    } else {
        wait_while(block.generation, block.generation);
    }
    return block.result;
}
DEVICE void block_barrier() { block_any(false); }
DEVICE void warp_barrier() { emulator::of_warp<int, int>("a barrier", 0, [](emulator::Warp&) {}); }

template <class T>
DEVICE T shuffle_xor(T value, int mask) {
    struct In { T value; int mask; };
    return emulator::of_warp<In, T>("shuffle_xor", {value, mask}, [](emulator::Warp& warp) {
        for (int l = 0; l < warp.size; l++)
            emulator::out_of<T>(warp, l) = emulator::in_of<In>(warp, l ^ emulator::in_of<In>(warp, l).mask).value;
    });
}
template <class T>
DEVICE T shuffle(T value, int lane) {
    struct In { T value; int lane; };
    return emulator::of_warp<In, T>("shuffle", {value, lane}, [](emulator::Warp& warp) {
        for (int l = 0; l < warp.size; l++)
            emulator::out_of<T>(warp, l) = emulator::in_of<In>(warp, emulator::in_of<In>(warp, l).lane & 31).value;
    });
}
template <class T>
DEVICE T shuffle_group(T value, int g) {
    return shuffle(value, 4 * g + lane_id() % 4);
}
DEVICE u32 ballot(bool value) {
    return emulator::of_warp<int, u32>("ballot", value, [](emulator::Warp& warp) {
        u32 bits = 0;
        for (int l = 0; l < warp.size; l++) bits |= u32(emulator::in_of<int>(warp, l) != 0) << l;
        for (int l = 0; l < warp.size; l++) emulator::out_of<u32>(warp, l) = bits;
    });
}
DEVICE u32 permute_bytes(u32 low, u32 high, u32 selector) {
    if (selector & 0x8888) emulator::fail("permute_bytes with a selector that asks for signs");
    const u64 bytes = u64(high) << 32 | low;
    u32 out = 0;
    for (int i = 0; i < 4; i++) out |= u32(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
    return out;
}
DEVICE int first_bit(u32 value) { return __builtin_ffs(int(value)) - 1; }
DEVICE u32 max_bytes(u32 x, u32 y) {
    u32 out = 0;
    for (int i = 0; i < 32; i += 8) out |= max(x >> i & 255, y >> i & 255) << i;
    return out;
}
DEVICE u32 sum_bytes(u32 x, u32 sum) {
    for (int i = 0; i < 32; i += 8) sum += x >> i & 255;
    return sum;
}

template <class T>
DEVICE T load_aligned(const void* from) {
    if (reinterpret_cast<unsigned long>(from) % sizeof(T)) emulator::fail("a load of a misaligned address");
    T v;
    std::memcpy(&v, from, sizeof(T));
    return v;
}
DEVICE uint4 stream16(const void* from) { return load_aligned<uint4>(from); }
DEVICE uint2 stream8(const void* from) { return load_aligned<uint2>(from); }
DEVICE uint4 load16(const void* from) { return load_aligned<uint4>(from); }
DEVICE u32 stream4(const void* from) { return load_aligned<u32>(from); }
template <class T>
DEVICE T read_only(const T* from) {
    return load_aligned<T>(from);
}

DEVICE void copy_async16(void* shared, const void* global) {
    if ((reinterpret_cast<unsigned long>(shared) | reinterpret_cast<unsigned long>(global)) % 16)
        emulator::fail("a copy of a misaligned address");
    std::memset(shared, 0xff, 16);
    emulator::current->uncommitted.push_back({shared, global});
}
DEVICE void copies_commit() {
    emulator::current->committed.push_back(std::move(emulator::current->uncommitted));
    emulator::current->uncommitted.clear();
}
template <int LEFT>
DEVICE void copies_wait() {
    auto& groups = emulator::current->committed;
    while (groups.size() > LEFT) {
        for (const emulator::Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, 16);
        groups.erase(groups.begin());
    }
}

template <class T>
DEVICE T opaque(T x) {
    return x;
}
DEVICE u32 bits_of(float x) {
    u32 y;
    std::memcpy(&y, &x, 4);
    return y;
}
DEVICE float float_of(u32 x) {
    float y;
    std::memcpy(&y, &x, 4);
    return y;
}
DEVICE float to_float(half x) { return emulator::half_table()[x.bits]; }
DEVICE float to_float(bfloat x) { return float_of(u32(x.bits) << 16); }
DEVICE float to_float(float x) { return x; }
DEVICE void from_float(float x, half& y) {
    const u16 sign = u16(bits_of(x) >> 16 & 0x8000);
    const float size = std::fabs(x);
    if (size != size) {
        y.bits = 0x7fff;
    } else if (size >= 65520.0f) {
        y.bits = sign | 0x7c00;
    } else {  // steps of 2^-24 below 2^-14, then 1024 a power of two; nearbyint rounds ties to even
        int exponent;
        std::frexp(size, &exponent);
        if (size < 0x1p-14f) exponent = -13;
        const int steps = int(std::nearbyint(std::ldexp(size, 11 - exponent)));
        y.bits = sign | u16(steps + (exponent + 13) * 1024);
    }
}
DEVICE void from_float(float x, bfloat& y) {
    const u32 bits = bits_of(x);
    y.bits = x != x ? 0x7fff : u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
DEVICE void from_float(float x, float& y) { y = x; }
DEVICE u32 to_tf32(float x) {
    const u32 bits = bits_of(x);
    return (bits & 0x7f800000) == 0x7f800000 ? bits & 0xffffe000 : (bits + 0x1000) & 0xffffe000;
}
DEVICE float max_or_nan(float x, float y) { return x != x || y != y ? std::nanf("") : x < y ? y : x; }
DEVICE float multiply(float x, float y) { return x * y; }
DEVICE float add(float x, float y) { return x + y; }
DEVICE float fused(float x, float y, float z) { return std::fma(x, y, z); }
DEVICE float divide(float x, float y) { return x / y; }
DEVICE float absolute(float x) { return std::fabs(x); }
DEVICE double multiply(double x, double y) { return x * y; }
DEVICE double add(double x, double y) { return x + y; }
DEVICE int round_to_int(float x) { return int(std::nearbyintf(x)); }
DEVICE void atomic_max(int* at, int value) { *at = max(*at, value); }
DEVICE int atomic_add(int* at, int value) { return std::exchange(*at, *at + value); }

namespace emulator {

// One product of a warp: A 16 x K, B K x 8, elements of B1 bytes of which PER lie in a register; C is float or int.
template <class C, int PER, class A, class B>
void mma(const char* name, C (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, A element_a, B element_b) {
    struct In { u32 a[4], b[2]; C c[4]; };
    struct Out { C c[4]; };
    In in{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    const Out out = of_warp<In, Out>(name, in, [&](Warp& warp) {
        constexpr int K = 8 * PER;  // 4 lanes, 2 registers, PER elements
        C left[16][K], right[8][K];
        for (int lane = 0; lane < 32; lane++) {
            const In& mine = in_of<In>(warp, lane);
            const int g = lane / 4, t = lane % 4;
            for (int r = 0; r < 4; r++)
                for (int e = 0; e < PER; e++) {
                    const int k = PER * t + e + 4 * PER * (r / 2);
                    left[g + 8 * (r % 2)][k] = element_a(mine.a[r], e);
                    if (r % 2 == 0) right[g][k] = element_b(mine.b[r / 2], e);
                }
        }
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < 4; r++) {
                const int row = lane / 4 + 8 * (r / 2), column = lane % 4 * 2 + r % 2;
                C sum = 0;
                for (int k = 0; k < K; k++) sum += left[row][k] * right[column][k];
                out_of<Out>(warp, lane).c[r] = in_of<In>(warp, lane).c[r] + sum;
            }
    });
    for (int r = 0; r < 4; r++) c[r] = out.c[r];
}
inline float f16_at(u32 w, int e) { return half_table()[u16(w >> 16 * e)]; }
inline float bf16_at(u32 w, int e) { return float_of(e ? w & 0xffff0000u : w << 16); }
inline float tf32_at(u32 w, int) { return float_of(w & 0xffffe000u); }
inline int s8_at(u32 w, int e) { return s8(w >> 8 * e); }
inline int u8_at(u32 w, int e) { return u8(w >> 8 * e); }

}  // namespace emulator

#define EMULATED_MMA(name, C, PER, A, B)                                           \
    DEVICE void name(C(&c)[4], const u32(&a)[4], u32 b0, u32 b1) {                 \
        emulator::mma<C, PER>(#name, c, a, b0, b1, emulator::A, emulator::B);      \
    }
EMULATED_MMA(mma_f16, float, 2, f16_at, f16_at)
EMULATED_MMA(mma_bf16, float, 2, bf16_at, bf16_at)
EMULATED_MMA(mma_tf32, float, 1, tf32_at, tf32_at)
EMULATED_MMA(mma_s8s8, int, 4, s8_at, s8_at)
EMULATED_MMA(mma_s8u8, int, 4, s8_at, u8_at)
EMULATED_MMA(mma_u8s8, int, 4, u8_at, s8_at)
EMULATED_MMA(mma_u8u8, int, 4, u8_at, u8_at)
#undef EMULATED_MMA
