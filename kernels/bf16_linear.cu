// A linear layer with bf16 weights for a few tokens: the language model's head, layers left unquantized.
//
//   out[m][n] = Σ_k w[n][k] · x[m][k]  + bias[n] + residual[m][n]
//
// Weights are the 16-row operand of mma m16n8k16, straight from row-major memory (an embedding table can serve as it is). Activations enter
// as three bf16 terms each, together 24 significand bits, so products are those of f32 activations; three columns a token.
//
// Layouts
//   weights   [rows][cols] bf16, row-major, 16-byte aligned; cols a multiple of 8
//   x         form BF16X3 of common.cuh: bf16 [chunk of 32 columns][column][32], columns = 3 · tokens <= 24, zeros beyond cols
//   bias      [rows] f32 or null;  residual, out [tokens][rows] f32, residual may be null or out itself
// Launch      grid (ceil(rows / 32)), 256 threads, dynamic shared memory 8 · columns · 36 · 4 bytes (plan.rs, `bf16_linear`)
//             bf16_linear_1, _2, _3 for up to 8, 16, 24 columns
// Order       warp w adds chunks w, w + 8, … of 32 columns; warps one after another; terms large to small. It depends on cols alone.
// Oracle      the CPU backend's bf16 layers, within the roundings of other sums.

#include "common.cuh"

constexpr u32 WARPS = 8, ROWS = 32, PADDED_ROWS = 36, CHUNK = 32;

template <u32 TILES>
DEVICE void linear(const u16* __restrict__ weights, const float* __restrict__ bias, const uint4* x, const float* residual, float* out,
                   u32 rows, u32 cols, u32 columns) {
  extern __shared__ __align__(16) float sums[];  // [warp][column][36]
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const u32 chunks = ceil_div(cols, CHUNK), first_row = blockIdx.x * ROWS, tokens = columns / 3;

  // Lane (g, t) reads eight consecutive columns of rows g, g + 8, g + 16, g + 24: the first four are one step of 16, the others the next.
  const u16* from[4];
  bool there[4];
  #pragma unroll
  for (u32 r = 0; r < 4; r++) {
    u32 row = first_row + g + 8 * r;
    there[r] = row < rows;
    from[r] = weights + (u64)(there[r] ? row : 0) * cols + 8 * t;
  }
  auto fetch = [&](u32 chunk, uint4 (&w)[4]) {
    const bool inside = chunk < chunks && chunk * CHUNK + 8 * t < cols;
    #pragma unroll
    for (u32 r = 0; r < 4; r++) w[r] = inside && there[r] ? load_stream((const uint4*)(from[r] + chunk * CHUNK)) : make_uint4(0, 0, 0, 0);
  };

  float c[2][TILES][4] = {};
  uint4 next[2][4];
  // Weights depend on no other kernel: two chunks are on their way before the wait.
  fetch(warp, next[0]);
  fetch(warp + WARPS, next[1]);
  allow_next();
  wait_for_previous();
  for (u32 chunk = warp; chunk < chunks; chunk += 2 * WARPS) {
    #pragma unroll
    for (u32 i = 0; i < 2; i++) {
      const u32 now = chunk + i * WARPS;
      uint4 w[4] = {next[i][0], next[i][1], next[i][2], next[i][3]};
      fetch(now + 2 * WARPS, next[i]);
      if (now < chunks) {
        #pragma unroll
        for (u32 n = 0; n < TILES; n++) {
          uint4 b = make_uint4(0, 0, 0, 0);
          if (8 * n + g < columns) b = x[((u64)now * columns + 8 * n + g) * 4 + t];
          #pragma unroll
          for (u32 r = 0; r < 2; r++) {
            mma_bf16(c[r][n], w[2 * r].x, w[2 * r + 1].x, w[2 * r].y, w[2 * r + 1].y, b.x, b.y);
            mma_bf16(c[r][n], w[2 * r].z, w[2 * r + 1].z, w[2 * r].w, w[2 * r + 1].w, b.z, b.w);
          }
        }
      }
    }
  }
  #pragma unroll
  for (u32 r = 0; r < 2; r++) {
    #pragma unroll
    for (u32 n = 0; n < TILES; n++) {
      #pragma unroll
      for (u32 i = 0; i < 4; i++) {
        u32 row = 16 * r + g + i / 2 * 8, column = 8 * n + 2 * t + i % 2;
        if (column < columns) sums[(warp * columns + column) * PADDED_ROWS + row] = c[r][n][i];
      }
    }
  }
  __syncthreads();
  const u32 n = first_row + lane;
  if (n >= rows || warp >= tokens) return;
  float y = 0.0f;
  #pragma unroll
  for (u32 term = 0; term < 3; term++) {
    float v = 0.0f;
    #pragma unroll
    for (u32 w = 0; w < WARPS; w++) v += sums[(w * columns + warp + term * tokens) * PADDED_ROWS + lane];
    y += v;
  }
  if (bias) y = __fadd_rn(y, bias[n]);
  const u64 at = (u64)warp * rows + n;
  out[at] = residual ? __fadd_rn(residual[at], y) : y;
}

#define LINEAR(NAME, TILES)                                                                                                              \
  extern "C" __global__ __launch_bounds__(256) void NAME(const u16* weights, const float* bias, const uint4* x, const float* residual,   \
                                                         float* out, u32 rows, u32 cols, u32 columns) {                                  \
    linear<TILES>(weights, bias, x, residual, out, rows, cols, columns);                                                                 \
  }
LINEAR(bf16_linear_1, 1)
LINEAR(bf16_linear_2, 2)
LINEAR(bf16_linear_3, 3)
