// The functions of kernels/instructions.cuh in plain C++: with them and device.hpp, the kernels' own text runs on the CPU.
//
// What an instruction does to its warp is done by exchanging values through device.hpp; what it rounds is rounded to nearest even. The
// tensor cores' sums are taken in f64 and rounded once, which a card does not promise.
#pragma once

#include "device.hpp"

#define DEVICE inline

inline u16 f16_bits(float x) {
  u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, a = bits & 0x7FFFFFFFu;
  if (a > 0x7F800000u) return 0x7FFFu;
  if (a >= 0x477FF000u) return sign | 0x7C00u;  // from 65520 on
  if (a < 0x38800000u) return sign | (u16)rintf(fabsf(x) * 16777216.0f);  // the subnormal grid, 2^-24
  a += 0xFFFu + (a >> 13 & 1u);
  return sign | (u16)((a - 0x38000000u) >> 13);
}
inline float f16_to_f32(u16 bits) {
  u32 magnitude = bits & 0x7FFFu;
  float value = magnitude < 0x400u ? (float)magnitude * 5.9604644775390625e-8f
                                   : __uint_as_float(magnitude >= 0x7C00u ? (magnitude << 13) + 0x70000000u : (magnitude << 13) + 0x38000000u);
  return bits & 0x8000u ? -value : value;
}
inline u16 bf16_bits(float x) {
  u32 bits = __float_as_uint(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFFu;
  return (u16)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}
inline u32 pack_f16(float low, float high) { return f16_bits(low) | (u32)f16_bits(high) << 16; }
inline u32 pack_bf16(float low, float high) { return bf16_bits(low) | (u32)bf16_bits(high) << 16; }
inline void convert_codes(u32, u32 (&)[4]) { fail("this target has no conversion from E2M1"); }

// ----------------------------------------------------------------------------------------------------------- tensor cores

template <typename Widen> void multiply_tiles(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, Widen widen) {
  const u32 words[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const u32(*lanes)[6] = exchange_words(words);
  const u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (u32 i = 0; i < 4; i++) {
    const u32 column = 2 * t + i % 2, upper = i / 2;  // row g or g + 8
    double sum = 0.0;
    for (u32 k = 0; k < 16; k++) {
      const u32 quad = k % 8 / 2, high = k / 8;
      const u32 x = lanes[4 * g + quad][upper + 2 * high], y = lanes[4 * column + quad][4 + high];
      sum += (double)widen((u16)(x >> 16 * (k % 2))) * (double)widen((u16)(y >> 16 * (k % 2)));
    }
    c[i] = (float)((double)c[i] + sum);
  }
}
inline void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { multiply_tiles(c, a, b0, b1, f16_to_f32); }
inline void mma_bf16(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  const u32 a[4] = {a0, a1, a2, a3};
  multiply_tiles(c, a, b0, b1, [](u16 x) { return __uint_as_float((u32)x << 16); });
}
inline u32 multiply_by(u32 a, float s) { return pack_f16(f16_to_f32((u16)a) * s, f16_to_f32((u16)(a >> 16)) * s); }
inline u32 multiply_low(u32 a, u32 s) { return multiply_by(a, f16_to_f32((u16)s)); }
inline u32 multiply_high(u32 a, u32 s) { return multiply_by(a, f16_to_f32((u16)(s >> 16))); }

// ---------------------------------------------------------------------------------------------------------- memory and order

inline uint4 load_stream(const uint4* p) { return *p; }
inline void wait_for_previous() {}
inline void allow_next() {}
inline void barrier_init(u64* barrier, u32) { *barrier = 0; }  // phases completed
inline void barrier_init_done() {}
inline void bulk_copy(void* to, const void* from, u32 bytes, u64* barrier) {
  if (((u64)to | (u64)from | bytes) % 16) fail("a bulk copy off its alignment");
  start_copy({to, from, bytes, barrier});
}
inline void barrier_wait(u64* barrier, u32 parity) {
  finish_copies(barrier);
  while ((*barrier & 1) == parity) yield();
}
inline void copy_async(void* to, const void* from) {
  if (((u64)to | (u64)from) % 16) fail("a copy off its alignment");
  start_copy({to, from, 16, 0});
}
inline void copy_commit() { commit_copies(); }
template <int N> void copy_wait() { finish_copies_but(N); }
inline void store_release_system(u32* to, u32 value) { __atomic_store_n(to, value, __ATOMIC_RELEASE); }
