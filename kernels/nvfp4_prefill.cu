// A linear layer with NVFP4 weights for the many tokens of a prompt, from the same tiles that decoding reads.
//
//   out[m][n] = (weight_scale[n] · x_scale[m]) · Σ_k e2m1[n][k] · e4m3[n][k/16] · x[m][k]  + bias[n] + residual[m][n]
//
// Each warp holds 32 weight rows and decodes them in registers, once for 64 operand columns; activations go through shared memory. The
// arithmetic of a product is that of nvfp4_linear.cu; sums run over the whole of K in one chain.
//
// Layouts   weights, weight_scales, bias, residual, out: as in nvfp4_linear.cu
//           x: activations (common.cuh) in groups of 8 operand columns (`columns` = 8), tokens = 8 / terms a group; with terms = 2 columns
//           0..4 are the first terms of four tokens and 4..8 the second. Columns of tokens beyond the last may hold anything.
// Launch    grid (ceil(rows / 256), ceil(groups / 8)), 256 threads, 65536 bytes of dynamic shared memory (plan.rs, `nvfp4_prefill`)
// Order     units, halves, steps ascending: it depends on cols alone.
// Oracle    nvfp4_linear.cu and the CPU backend, within the roundings of another sum.

#include "common.cuh"

constexpr u32 WARPS = 8, GROUPS = 8;                          // groups of 8 columns that a block works on
constexpr u32 GROUP_PIECES = 128, STAGE_PIECES = GROUPS * GROUP_PIECES;  // 16-byte pieces of one group's chunk: 2 KiB; 16 KiB a stage
constexpr u32 STAGES = 4;

extern "C" __global__ __launch_bounds__(256) void nvfp4_prefill(const u8* __restrict__ weights, const float* __restrict__ weight_scales,
                                                                const float* __restrict__ bias, const uint4* x, const float* x_scales,
                                                                const float* residual, float* out, u32 rows, u32 units, u32 tokens,
                                                                u32 terms) {
  extern __shared__ __align__(128) uint4 stages[];  // [STAGES][GROUPS][128]
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const u32 row_groups = ceil_div(rows, UNIT_ROWS), row_group = blockIdx.x * WARPS + warp;
  const u32 per_group = 8 / terms, groups = ceil_div(tokens, per_group), first_group = blockIdx.y * GROUPS;
  const u32 count = smaller(GROUPS, groups - first_group);
  const bool works = row_group < row_groups;
  allow_next();
  wait_for_previous();

  auto copy = [&](u32 unit) {
    if (unit < units) {
      uint4* to = stages + unit % STAGES * STAGE_PIECES;
      for (u32 i = threadIdx.x; i < count * GROUP_PIECES; i += WARPS * 32) {
        copy_async(to + i, x + ((u64)(first_group + i / GROUP_PIECES) * units + unit) * GROUP_PIECES + i % GROUP_PIECES);
      }
    }
    copy_commit();
  };
  const uint4* tile = (const uint4*)(weights + (u64)(works ? row_group : 0) * units * UNIT_BYTES);
  u32 scales[2], next_scales[2];
  uint4 words[2][2], next_words[2][2];  // [tile][half]
  auto fetch = [&](u32 unit, u32 (&s)[2], uint4 (&w)[2][2]) {
    #pragma unroll
    for (u32 r = 0; r < 2; r++) {
      const uint4* from = tile + ((u64)unit * 2 + r) * (TILE_BYTES / 16);
      s[r] = __ldg((const u32*)from + lane);
      w[r][0] = __ldg(from + 8 + lane);
      w[r][1] = __ldg(from + 40 + lane);
    }
  };
  for (u32 i = 0; i < STAGES - 1; i++) copy(i);
  fetch(0, scales, words);
  float c[2][GROUPS][4] = {};
  for (u32 unit = 0; unit < units; unit++) {
    copy_wait<STAGES - 2>();
    __syncthreads();  // this unit has arrived for all, and the stage of the one before is free
    copy(unit + STAGES - 1);
    fetch(unit + 1 < units ? unit + 1 : unit, next_scales, next_words);
    const uint4* input = stages + unit % STAGES * STAGE_PIECES + g * 4 + t;
    #pragma unroll
    for (u32 h = 0; h < 2; h++) {
      u32 a[2][4][4];
      #pragma unroll
      for (u32 r = 0; r < 2; r++) {
        const u32 pair = scale_pair(scales[r], h);
        const u32 codes[4] = {words[r][h].x, words[r][h].y, words[r][h].z, words[r][h].w};
        #pragma unroll
        for (u32 s = 0; s < 4; s++) decode_step(codes[s], pair, a[r][s]);
      }
      #pragma unroll
      for (u32 n = 0; n < GROUPS; n++) {
        if (n >= count) break;
        const uint4 low = input[n * GROUP_PIECES + 2 * h * 32], high = input[n * GROUP_PIECES + (2 * h + 1) * 32];
        #pragma unroll
        for (u32 r = 0; r < 2; r++) {
          mma_f16(c[r][n], a[r][0], low.x, low.y);
          mma_f16(c[r][n], a[r][1], low.z, low.w);
          mma_f16(c[r][n], a[r][2], high.x, high.y);
          mma_f16(c[r][n], a[r][3], high.z, high.w);
        }
      }
    }
    #pragma unroll
    for (u32 r = 0; r < 2; r++) scales[r] = next_scales[r], words[r][0] = next_words[r][0], words[r][1] = next_words[r][1];
  }
  #pragma unroll
  for (u32 n = 0; n < GROUPS; n++) {
    #pragma unroll
    for (u32 r = 0; r < 2; r++) {
      #pragma unroll
      for (u32 i = 0; i < 4; i++) {
        float total = c[r][n][i];
        // With two terms, the second of columns 2t, 2t + 1 (t = 0, 1) is two lanes on.
        float second = __shfl_xor_sync(0xFFFFFFFFu, total, 2);
        if (terms == 2) total += second * LOW_TERM;
        const u32 column = 2 * t + i % 2, row = row_group * UNIT_ROWS + 16 * r + g + i / 2 * 8;
        const u32 token = (first_group + n) * per_group + column;
        if (!works || n >= count || column >= per_group || token >= tokens || row >= rows) continue;
        float y = __fmul_rn(__fmul_rn(weight_scales[row], x_scales[token]), __fmul_rn(total, CODE_FACTOR));
        if (bias) y = __fadd_rn(y, bias[row]);
        const u64 at = (u64)token * rows + row;
        out[at] = residual ? __fadd_rn(residual[at], y) : y;
      }
    }
  }
}
