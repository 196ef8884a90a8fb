// What CUDA C++ has and C++ lacks, as far as the kernels use it. A block's threads are fibers on one thread of the host (device.cpp): they run
// one after another and change places where they meet, at barriers and in the exchanges of a warp.
#pragma once

#include <math.h>
#include <string.h>

#include <utility>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Dim { u32 x, y, z; };
extern Dim threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static __attribute__((section("shared_memory")))
#define __align__(n) __attribute__((aligned(n)))

// ------------------------------------------------------------------------------------------------------- meeting other threads

[[noreturn]] void fail(const char* what);
void yield();
u32 meet_block(u32 value);                          // a barrier; the sum of all values
const u64* exchange(u64 value);                     // of the warp, by lane
const u32 (*exchange_words(const u32 (&words)[6]))[6];

struct Copy { void* to; const void* from; u32 bytes; u64* barrier; };
void start_copy(Copy copy);         // at once, or as late as it may be
void finish_copies(u64* barrier);
void commit_copies();
void finish_copies_but(u32 groups); // of this thread, but for the newest

inline void __syncthreads() { meet_block(0); }
inline int __syncthreads_or(int p) { return meet_block(p != 0) != 0; }
inline int __syncthreads_count(int p) { return (int)meet_block(p != 0); }
inline void __syncwarp() { exchange(0); }
inline void __threadfence() {}

template <typename T> T shuffle(T x, u32 from) {
  u64 bits = 0;
  memcpy(&bits, &x, sizeof x);
  bits = exchange(bits)[from < 32 ? from : threadIdx.x % 32];
  memcpy(&x, &bits, sizeof x);
  return x;
}
template <typename T> T __shfl_xor_sync(u32, T x, u32 d) { return shuffle(x, (threadIdx.x % 32) ^ d); }
template <typename T> T __shfl_down_sync(u32, T x, u32 d, u32 = 32) { return shuffle(x, threadIdx.x % 32 + d); }
template <typename T> T __shfl_sync(u32, T x, u32 from) { return shuffle(x, from); }
inline u32 __ballot_sync(u32, int p) {
  const u64* votes = exchange(p != 0);
  u32 all = 0;
  for (u32 i = 0; i < 32; i++) all |= (u32)votes[i] << i;
  return all;
}

// ------------------------------------------------------------------------------------------------------------------ numbers

inline float __uint_as_float(u32 bits) { float x; memcpy(&x, &bits, 4); return x; }
inline u32 __float_as_uint(float x) { u32 bits; memcpy(&bits, &x, 4); return bits; }
inline double __longlong_as_double(long long bits) { double x; memcpy(&x, &bits, 8); return x; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline u64 __double2ull_rn(double x) { return (u64)rint(x); }
inline u64 __double2ull_ru(double x) { return (u64)ceil(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline u32 __popc(u32 x) { return (u32)__builtin_popcount(x); }

template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> T __ldcg(const T* p) { return *p; }
template <typename T, typename V> T atomicAdd(T* p, V v) { T old = *p; *p = old + (T)v; return old; }
template <typename T, typename V> T atomicOr(T* p, V v) { T old = *p; *p = old | (T)v; return old; }
template <typename T, typename V> T atomicExch(T* p, V v) { T old = *p; *p = (T)v; return old; }

// ----------------------------------------------------------------------------------------------------------- kernels by name

struct Kernel {
  const char* name;
  int count;
  unsigned sizes[40];                        // of the arguments
  void (*call)(void* function, void** arguments);
  void* function;
  void* shared;                              // what `extern __shared__` names, or null
  Kernel* next;
};
extern Kernel* kernels;

template <typename... A, size_t... I> void invoke(void* function, void** p, std::index_sequence<I...>) {
  ((void (*)(A...))function)(*(A*)p[I]...);
}
template <typename... A> struct Register {
  Kernel kernel;
  Register(const char* name, void (*function)(A...), void* shared)
      : kernel{name, sizeof...(A), {sizeof(A)...}, [](void* f, void** p) { invoke<A...>(f, p, std::index_sequence_for<A...>()); },
               (void*)function, shared, kernels} {
    kernels = &kernel;
  }
};
