// Root-mean-square norm of rows, and the linear layer's operand made from it.
//
//   h = weight · (x · (1 / √(Σ x² / cols + eps)))        out[row] = h (f32, may be null), p = h in the form asked for
//
// Layouts   x, out [rows][cols] f32; weight [cols] f32; p: common.cuh, activations
// Launch    grid (1, rows), 512 threads, no dynamic shared memory (plan.rs, `rms_norm`)
// Order     thread i adds x[4 (i + 512 j) ..] for j = 0, 1, …; then lanes by halves, then warps one after another. It depends on cols alone.
// Oracle    the CPU backend's rms_norm, whose sum of squares has another order: h may differ in its last places. The form is bit for bit
//           that of the h found here.

#include "common.cuh"

extern "C" __global__ __launch_bounds__(512) void rms_norm(const float* x, const float* __restrict__ weight, float eps, float* out,
                                                           const __grid_constant__ Prepared p, u32 cols) {
  __shared__ float sums[32];
  allow_next();
  wait_for_previous();
  const u32 row = blockIdx.y;
  const float* from = x + (u64)row * cols;
  float sum = 0.0f;
  for (u32 k = 4 * threadIdx.x; k < cols; k += 4 * blockDim.x) {
    float4 v = load_row(from, k, cols);
    sum = fmaf(v.x, v.x, sum);
    sum = fmaf(v.y, v.y, sum);
    sum = fmaf(v.z, v.z, sum);
    sum = fmaf(v.w, v.w, sum);
  }
  sum = block_sum(sum, sums);
  const float factor = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, (float)cols), eps)));
  produce(p, out ? out + (u64)row * cols : out, row, cols, (u32*)sums, [&](u32 k) {
    float4 v = load_row(from, k, cols), w = load_row(weight, k, cols);
    return make_float4(__fmul_rn(w.x, __fmul_rn(v.x, factor)), __fmul_rn(w.y, __fmul_rn(v.y, factor)),
                       __fmul_rn(w.z, __fmul_rn(v.z, factor)), __fmul_rn(w.w, __fmul_rn(v.w, factor)));
  });
}
