// A linear layer of f32, f16 or bf16 weights, any shape, in f32 arithmetic: plain, exact, and no faster than it has to be.
//
//   out[m][n] = Σ_k w[n][k] · x[m][k]  + bias[n] + residual[m][n]
//
// It serves storage formats that have no tensor-core kernel and shapes that those refuse, and it is the device's own oracle for them.
//
// Layouts   weights [rows][cols] row-major; x [tokens][cols], out, residual [tokens][rows] f32; bias [rows] f32; bias and residual may be null
// Launch    grid (ceil(rows / 8), tokens), 256 threads: one warp a row
// Order     lane i adds columns i, i + 32, …; then lanes by halves. It depends on cols alone.
// Oracle    the CPU backend's dense layers, within the roundings of another sum.

#include "common.cuh"

template <typename Load>
DEVICE void linear(const float* bias, const float* x, const float* residual, float* out, u32 rows, u32 cols, Load weight) {
  allow_next();
  wait_for_previous();
  const u32 n = blockIdx.x * 8 + threadIdx.x / 32, m = blockIdx.y;
  if (n >= rows) return;  // whole warps leave
  const float* from = x + (u64)m * cols;
  float sum = 0.0f;
  for (u32 k = threadIdx.x % 32; k < cols; k += 32) sum = fmaf(weight((u64)n * cols + k), from[k], sum);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 != 0) return;
  if (bias) sum = __fadd_rn(sum, bias[n]);
  const u64 at = (u64)m * rows + n;
  out[at] = residual ? __fadd_rn(residual[at], sum) : sum;
}

#define LINEAR(NAME, TYPE, VALUE)                                                                                                        \
  extern "C" __global__ __launch_bounds__(256) void NAME(const TYPE* __restrict__ weights, const float* __restrict__ bias, const float* x, \
                                                         const float* residual, float* out, u32 rows, u32 cols) {                        \
    linear(bias, x, residual, out, rows, cols, [&](u64 at) { return VALUE; });                                                           \
  }
LINEAR(dense_linear_f32, float, weights[at])
LINEAR(dense_linear_f16, u16, f16_to_f32(weights[at]))
LINEAR(dense_linear_bf16, u16, bf16_to_f32(weights[at]))
