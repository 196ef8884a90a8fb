// What every kernel shares: small floats, the order in which activations lie, sums over a block, tiles of weights. Nothing here keeps state.
#pragma once

#include "instructions.cuh"

// Datacentre Blackwell (10.x) is compiled for its architecture-specific target, which converts pairs of E2M1 codes in one instruction.
// The packer then keeps codes as plain nibbles and scales as E4M3 bits (src/backend/cuda/pack.rs, CodeOrder::of is the same rule).
#if defined(__CUDA_ARCH_FEAT_SM100_ALL) || defined(__CUDA_ARCH_FEAT_SM103_ALL)
#define NIBBLE_ORDER 1
#else
#define NIBBLE_ORDER 0
#endif

// ---------------------------------------------------------------------------------------------------------------- numbers

DEVICE float from_bits(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 to_bits(float x) { return __float_as_uint(x); }
DEVICE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u32 larger(u32 a, u32 b) { return a > b ? a : b; }
DEVICE u32 ceil_div(u32 a, u32 b) { return (a + b - 1) / b; }

// Elements of a head in the cache: a multiple of 16, zeros beyond the head's own.
DEVICE u32 padded_head(u32 d) { return ceil_div(d, 16) * 16; }

DEVICE float bf16_to_f32(u32 bits) { return from_bits(bits << 16); }

// The nearest E4M3 value, ties to even, of x in [0, ∞]: saturates at 448, NaN stays NaN. The CPU's e4m3::decode(e4m3::encode(x)).
DEVICE float round_e4m3(float x) {
  if (!(x == x)) return x;
  x = fminf(x, 448.0f);
  if (x < 0.015625f) return rintf(x * 512.0f) * 0.001953125f;  // the subnormal grid, 2^-9
  u32 bits = to_bits(x);
  bits += 0x0007FFFFu + ((bits >> 20) & 1u);  // keep three mantissa bits; a carry moves into the exponent as it should
  return from_bits(bits & 0xFFF00000u);
}

// The value of E4M3 bits.
DEVICE float e4m3_to_f32(u32 bits) {
  u32 magnitude = bits & 0x7Fu;
  float value = magnitude < 8 ? (float)magnitude * 0.001953125f : from_bits((magnitude + (120u << 3)) << 20);
  if (magnitude == 0x7Fu) value = from_bits(0x7FC00000u);
  return from_bits(to_bits(value) | (bits & 0x80u) << 24);
}

// The nearest E2M1 value, ties to even, of x in [-6, 6]; the sign is kept. The grid's step doubles at 2 and at 4.
DEVICE float round_e2m1(float x) {
  float a = fabsf(x);
  float per_step = a < 2.0f ? 2.0f : (a < 4.0f ? 1.0f : 0.5f);
  float step = a < 2.0f ? 0.5f : (a < 4.0f ? 1.0f : 2.0f);
  return copysignf(rintf(a * per_step) * step, x);
}

// The value of an E2M1 code (low four bits).
DEVICE float e2m1_to_f32(u32 code) {
  u32 magnitude = code & 7u;
  // 0 0.5 | 1 1.5 | 2 3 | 4 6: exponent and mantissa bit of an f32, but for the two subnormals.
  float value = magnitude < 2 ? 0.5f * (float)magnitude : from_bits((magnitude + (126u << 1)) << 22);
  return from_bits(to_bits(value) | (code & 8u) << 28);
}

// E4M3 bits of x, nearest even, saturating; NaN gives 0x7F. The CPU's e4m3::encode.
DEVICE u32 e4m3_bits(float x) {
  if (!(x == x)) return 0x7Fu;
  float a = round_e4m3(fabsf(x));
  u32 magnitude = a < 0.015625f ? (u32)(a * 512.0f) : (to_bits(a) >> 20) - (120u << 3);
  return magnitude | (to_bits(x) >> 24 & 0x80u);
}

// The E2M1 code of x, nearest even, saturating. The CPU's e2m1::encode.
DEVICE u32 e2m1_code(float x) {
  float a = fabsf(round_e2m1(fminf(fmaxf(x, -6.0f), 6.0f)));
  u32 magnitude = a < 1.0f ? (u32)(2.0f * a) : (to_bits(a) >> 22) - (126u << 1);
  return magnitude | (to_bits(x) >> 28 & 8u);
}

// exp as the CPU's `vector` loops compute it, operation by operation: the same bits.
DEVICE float exp_f32(float x) {
  constexpr float ROUND = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, held in the low mantissa bits
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  float shifted = fmaf(x, 1.44269504f, ROUND);
  float n = __fsub_rn(shifted, ROUND);
  float r = fmaf(n, -0.69311523f, x);
  r = fmaf(n, -3.1946183e-5f, r);
  float p = fmaf(fmaf(fmaf(fmaf(0.0013813145f, r, 0.008369419f), r, 0.041668456f), r, 0.16666515f), r, 0.49999994f);
  float y = __fadd_rn(fmaf(__fmul_rn(r, r), p, r), 1.0f);
  int exponent = (int)(to_bits(shifted) - to_bits(ROUND)), half = exponent >> 1;
  return __fmul_rn(__fmul_rn(y, from_bits((u32)(half + 127) << 23)), from_bits((u32)(exponent - half + 127) << 23));
}

// gate / (1 + exp(-gate)) · up, as on the CPU.
DEVICE float silu_mul(float gate, float up) { return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0f, exp_f32(-gate))), up); }

// ------------------------------------------------------------------------------------------------------------ activations
//
// A linear layer's input lies in memory as its tensor-core operand wants it. Columns of K are taken in chunks of 128; a
// chunk is padded with zeros beyond the last column. Tokens are taken in groups; a group has `columns` operand columns
// (at most 8), `tokens` = columns / terms tokens of it, each `terms` times:
//
//   f16 [group][chunk][64-half h][octet o][column][t = 0..4][8]    element k = 128 chunk + 64 h + 16 t + 8 o + i
//
// so that the lane (g, t) of a warp finds the 16 elements of NVFP4 block 4h + t of column g in two 16-byte pieces.
//
//   forms     stored                                              row scale (one f32 per token)
//   STATIC    e2m1 · e4m3 of NVFP4 with the given tensor scale    that scale          exact in f16
//   DYNAMIC   the same with the row's own scale, max|x| / 2688    that scale
//   FLOAT     x · 2^-e as hi + lo · 2^-11, terms = 2              2^e                 22 significand bits
//   BF16X3    see `bf16_linear.cu`                                not used
//
// The arithmetic of STATIC and DYNAMIC is that of the CPU's `quantize`, operation by operation, so the rounded values agree bit for
// bit. NaN or infinity in a block makes the whole block NaN, and with it every output of that token.

enum Form : u32 { FORM_NONE = 0, FORM_STATIC = 1, FORM_DYNAMIC = 2, FORM_FLOAT = 3, FORM_BF16X3 = 4 };

constexpr u32 CHUNK_K = 128;            // columns of K per weight tile and activation chunk
constexpr float LARGEST_NVFP4 = 2688.0f;  // 6 * 448: what a tensor scale of 1 covers
constexpr float LOW_TERM = 0.00048828125f;  // 2^-11: weight of the second term of FLOAT

// Everything a producer needs to know about where and how it writes activations: 40 bytes, passed to kernels by value
// (src/backend/cuda/records.rs).
struct Prepared {
  uint4* x;               // operand order as above; bf16 [chunk of 32][column][32] for BF16X3
  float* row_scales;      // [tokens], not for BF16X3
  const float* pre_scale; // [cols] factors of the input before everything else (AWQ), or null
  float input_scale;      // tensor scale of STATIC
  u32 form;               // Form
  u32 columns;            // operand columns of a group
  u32 reserved;
};

// Index, in pieces of 8 elements, of the piece that holds element k (a multiple of 8) of a token's term.
DEVICE u64 piece_of(u32 token, u32 term, u32 k, u32 columns, u32 terms, u32 chunks) {
  u32 tokens = columns / terms;
  u32 group = token / tokens, column = token % tokens + term * tokens;
  u32 chunk = k / CHUNK_K, h = k / 64 % 2, t = k / 16 % 4, octet = k / 8 % 2;
  return (((u64)(group * chunks + chunk) * 4 + h * 2 + octet) * columns + column) * 4 + t;
}

// Largest of four magnitudes as bits: infinity and NaN are the largest.
DEVICE u32 magnitude_of(float4 v) {
  u32 a = larger(to_bits(v.x) & 0x7FFFFFFFu, to_bits(v.y) & 0x7FFFFFFFu);
  u32 b = larger(to_bits(v.z) & 0x7FFFFFFFu, to_bits(v.w) & 0x7FFFFFFFu);
  return larger(a, b);
}

DEVICE float quantized(float x, float inverse, float scale) {
  float q = __fmul_rn(x, inverse);
  return round_e2m1(fminf(fmaxf(q, -6.0f), 6.0f)) * scale;
}

// Four elements of a block of 16 whose four threads sit side by side in a warp; all lanes of the warp must call this.
// `divisor` is 1 / tensor scale. Returns e2m1 * e4m3 of each.
DEVICE float4 quantize_block(float4 v, float divisor) {
  u32 magnitude = magnitude_of(v);
  magnitude = larger(magnitude, __shfl_xor_sync(0xFFFFFFFFu, magnitude, 1));
  magnitude = larger(magnitude, __shfl_xor_sync(0xFFFFFFFFu, magnitude, 2));
  if (magnitude >= 0x7F800000u) {
    float nan = from_bits(0x7FC00000u);
    return make_float4(nan, nan, nan, nan);
  }
  float multiplier = __fdiv_rn(1.0f, divisor);
  float scale = round_e4m3(__fmul_rn(divisor, __fmul_rn(from_bits(magnitude), 1.0f / 6.0f)));
  float inverse = __fdiv_rn(1.0f, __fmul_rn(scale, multiplier));
  if (!(fabsf(inverse) < from_bits(0x7F800000u))) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);  // infinite or NaN
  return make_float4(quantized(v.x, inverse, scale), quantized(v.y, inverse, scale), quantized(v.z, inverse, scale),
                     quantized(v.w, inverse, scale));
}

// The power of two that brings a row of this magnitude (bits) to at most 2^14, and its inverse. A row of zeros gets 1; one
// with NaN or infinity stays broken.
DEVICE float float_row_scale(u32 magnitude) {
  if (magnitude == 0) return 1.0f;
  if (magnitude >= 0x7F800000u) return from_bits(0x7FC00000u);
  int exponent = (int)(magnitude >> 23) - 127 - 13;  // 2^13 <= |x| 2^-e < 2^14, less for subnormal rows
  exponent = exponent < -126 ? -126 : exponent;
  return from_bits((u32)(exponent + 127) << 23);
}

// The row's scale in its form; `magnitude` (bits) is the largest of the row, needed by DYNAMIC and FLOAT only.
DEVICE float row_scale_of(const Prepared& p, u32 magnitude) {
  if (p.form == FORM_STATIC) return p.input_scale;
  if (p.form == FORM_DYNAMIC) return __fdiv_rn(from_bits(magnitude), LARGEST_NVFP4);
  return float_row_scale(magnitude);
}

// Whether a form needs the magnitude of the whole row before the first element can be written.
DEVICE bool needs_row(u32 form) { return form == FORM_DYNAMIC || form == FORM_FLOAT; }

// Writes the elements k .. k + 4 (k a multiple of 4) of a token. Four neighbouring threads of a warp hold one block of 16, and
// all lanes of a warp must call this together; `valid` is false for lanes beyond the last chunk. Columns beyond the last are zeros
// that the caller supplies, up to `chunks` chunks.
DEVICE void write_prepared(const Prepared& p, float4 v, u32 token, u32 k, float row_scale, u32 chunks, bool valid) {
  if (p.form == FORM_BF16X3) {
    if (!valid) return;
    // x = a + b + c, each a bf16 of the rest: 24 significand bits.
    u32 tokens = p.columns / 3, group = token / tokens, chunk = k / 32;
    uint2* out = (uint2*)p.x;
    #pragma unroll
    for (u32 term = 0; term < 3; term++) {
      uint2 bits = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
      u32 column = token % tokens + term * tokens;
      out[((u64)(group * chunks * 4 + chunk) * p.columns + column) * 8 + k % 32 / 4] = bits;
      v.x -= from_bits(bits.x << 16), v.y -= from_bits(bits.x & 0xFFFF0000u);
      v.z -= from_bits(bits.y << 16), v.w -= from_bits(bits.y & 0xFFFF0000u);
    }
    return;
  }
  uint2* out = (uint2*)p.x;
  if (p.form == FORM_FLOAT) {
    if (!valid) return;
    float down = __fdiv_rn(1.0f, row_scale);
    v = make_float4(v.x * down, v.y * down, v.z * down, v.w * down);
    uint2 high = make_uint2(pack_f16(v.x, v.y), pack_f16(v.z, v.w));
    float up = 1.0f / LOW_TERM;
    v.x = (v.x - f16_to_f32((u16)high.x)) * up, v.y = (v.y - f16_to_f32((u16)(high.x >> 16))) * up;
    v.z = (v.z - f16_to_f32((u16)high.y)) * up, v.w = (v.w - f16_to_f32((u16)(high.y >> 16))) * up;
    out[piece_of(token, 0, k, p.columns, 2, chunks) * 2 + k / 4 % 2] = high;
    out[piece_of(token, 1, k, p.columns, 2, chunks) * 2 + k / 4 % 2] = make_uint2(pack_f16(v.x, v.y), pack_f16(v.z, v.w));
    return;
  }
  float4 q = quantize_block(v, __fdiv_rn(1.0f, row_scale));
  if (valid) out[piece_of(token, 0, k, p.columns, 1, chunks) * 2 + k / 4 % 2] = make_uint2(pack_f16(q.x, q.y), pack_f16(q.z, q.w));
}

// Four elements of a row; zeros from `cols` on. Rows of 16-byte multiples are read in one piece.
DEVICE float4 load_row(const float* row, u32 k, u32 cols) {
  if (k + 4 <= cols && cols % 4 == 0) return *(const float4*)(row + k);
  float v[4];
  #pragma unroll
  for (u32 i = 0; i < 4; i++) v[i] = k + i < cols ? row[k + i] : 0.0f;
  return make_float4(v[0], v[1], v[2], v[3]);
}

DEVICE void store_row(float* row, u32 k, u32 cols, float4 v) {
  if (k + 4 <= cols && cols % 4 == 0) {
    *(float4*)(row + k) = v;
  } else {
    float parts[4] = {v.x, v.y, v.z, v.w};
    #pragma unroll
    for (u32 i = 0; i < 4; i++) if (k + i < cols) row[k + i] = parts[i];
  }
}

// --------------------------------------------------------------------------------------------------------------- reductions

DEVICE float warp_sum(float x) {
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
  return x;
}

DEVICE float warp_max(float x) {
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
  return x;
}

DEVICE u32 warp_max(u32 x) {
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) x = larger(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
  return x;
}

// Sum over the block, the same bits in every thread: warps in order. `shared` holds one float per warp; two barriers.
DEVICE float block_sum(float x, float* shared) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0f;
  for (u32 w = 0; w < blockDim.x / 32; w++) sum += shared[w];
  __syncthreads();
  return sum;
}

DEVICE u32 block_max(u32 x, u32* shared) {
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  u32 most = 0;
  for (u32 w = 0; w < blockDim.x / 32; w++) most = larger(most, shared[w]);
  __syncthreads();
  return most;
}

// One row of a kernel that makes activations: `value(k)` gives elements k .. k + 4, zeros from `cols` on. They go to `out` (f32, may be
// null) and, in the form of `p`, to the operand buffer. Block x of several takes its share of the row where the form lets it.
// `shared` holds 32 words. Blocks have a multiple of 32 threads.
template <typename Value> DEVICE void produce(const Prepared& p, float* out, u32 row, u32 cols, u32* shared, Value value) {
  const u32 chunks = ceil_div(cols, CHUNK_K), quads = p.form == FORM_NONE ? ceil_div(ceil_div(cols, 4), 32) * 32 : chunks * 32;
  auto scaled = [&](float4 v, u32 k) {
    if (p.pre_scale) {
      float4 f = load_row(p.pre_scale, k, cols);
      v = make_float4(__fmul_rn(v.x, f.x), __fmul_rn(v.y, f.y), __fmul_rn(v.z, f.z), __fmul_rn(v.w, f.w));
    }
    return v;
  };
  u32 magnitude = 0;
  if (needs_row(p.form)) {
    for (u32 quad = threadIdx.x; quad < quads; quad += blockDim.x) magnitude = larger(magnitude, magnitude_of(scaled(value(4 * quad), 4 * quad)));
    magnitude = block_max(magnitude, shared);
  }
  float row_scale = row_scale_of(p, magnitude);
  for (u32 quad = blockIdx.x * blockDim.x + threadIdx.x; quad < quads; quad += gridDim.x * blockDim.x) {
    const float4 v = value(4 * quad);  // once: `out` may be what it is made from
    if (out) store_row(out, 4 * quad, cols, v);
    if (p.form != FORM_NONE) write_prepared(p, scaled(v, 4 * quad), row, 4 * quad, row_scale, chunks, true);
  }
  if (p.form != FORM_NONE && p.form != FORM_BF16X3 && blockIdx.x == 0 && threadIdx.x == 0) p.row_scales[row] = row_scale;
}

// ---------------------------------------------------------------------------------------------------------- NVFP4 weight tiles
//
// A tile is 16 rows × 128 columns in 1152 bytes: 32 lanes × 4 scale bytes, then two halves h of 32 lanes × 16 code bytes.
// Lane 4g + t holds rows g and g + 8 of columns 64h + 16t .. + 16, one NVFP4 block each: word s of its half has columns
// 4s .. 4s + 4 of both, as the four a-registers of one tensor-core step. A unit is two tiles, 32 rows, 2304 bytes.

constexpr u32 TILE_BYTES = 1152;
constexpr u32 UNIT_BYTES = 2 * TILE_BYTES;
constexpr u32 UNIT_ROWS = 32;

#if NIBBLE_ORDER
constexpr float CODE_FACTOR = 256.0f;  // codes decode to w, scale bytes shifted by 7 to s · 2^-8

DEVICE void decode_codes(u32 q, u32 (&a)[4]) { convert_codes(q, a); }
#else
constexpr float CODE_FACTOR = 128.0f;  // codes decode to w · 2^-14, scale bytes shifted by 7 to s · 2^7

// Sign, exponent and mantissa of an E2M1 code are bits 15, 11, 10, 9 of the f16 w · 2^-14. Four codes share 16 bits, so the
// later ones are stored combined with the bits above them, and one exclusive or takes them apart.
DEVICE void decode_codes(u32 q, u32 (&a)[4]) {
  constexpr u32 MASK = 0x8E008E00u;
  a[0] = q & MASK;
  a[1] = (q << 3) & MASK;
  a[2] = ((q << 6) ^ (q << 1)) & MASK;
  a[3] = ((q << 9) ^ (q << 2)) & MASK;
}
#endif

// Scales of the rows g (low half) and g + 8 (high half) for half h, as two f16.
DEVICE u32 scale_pair(u32 scales, u32 h) { return (h ? scales >> 1 : scales << 7) & 0x7F807F80u; }

// The operand a of one step: codes times scales, exact in f16.
DEVICE void decode_step(u32 codes, u32 scales, u32 (&a)[4]) {
  decode_codes(codes, a);
  a[0] = multiply_low(a[0], scales);
  a[1] = multiply_high(a[1], scales);
  a[2] = multiply_low(a[2], scales);
  a[3] = multiply_high(a[3], scales);
}
