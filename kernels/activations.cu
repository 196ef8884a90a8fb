// Elementwise work before a linear layer, and the layer's operand made from it.
//
//   activations   p = x in the form asked for
//   swiglu        h = gate / (1 + exp(-gate)) · up;   out = h (f32, may be null, may be gate where stride is cols), p = h in the form asked for
//   add           x += y
//
// Layouts   x [rows][cols] f32; gate, up [rows][stride] f32, of which cols are used; out [rows][cols] f32; p: common.cuh, activations
// Launch    activations, swiglu: grid (parts, rows), 256 threads; parts = 1 where the form needs the whole row (DYNAMIC, FLOAT)
//           add: grid (ceil(n / 1024)), 256 threads (plan.rs, `elementwise`)
// Oracle    the CPU backend: the same bits, elementwise and in the form.

#include "common.cuh"

extern "C" __global__ __launch_bounds__(256) void activations(const float* x, const __grid_constant__ Prepared p, u32 cols) {
  __shared__ u32 shared[32];
  allow_next();
  wait_for_previous();
  const float* from = x + (u64)blockIdx.y * cols;
  produce(p, (float*)0, blockIdx.y, cols, shared, [&](u32 k) { return load_row(from, k, cols); });
}

extern "C" __global__ __launch_bounds__(256) void swiglu(const float* gate, const float* up, float* out,
                                                         const __grid_constant__ Prepared p, u32 cols, u32 stride) {
  __shared__ u32 shared[32];
  allow_next();
  wait_for_previous();
  const u64 row = blockIdx.y;
  const float *gates = gate + row * stride, *ups = up + row * stride;
  // Strides that are no multiple of four would misalign the rows' pieces; then every element is read alone.
  const bool aligned = stride % 4 == 0 && cols % 4 == 0;
  auto value = [&](u32 k) {
    float g[4], u[4], h[4];
    if (aligned && k < cols) {
      float4 a = *(const float4*)(gates + k), b = *(const float4*)(ups + k);
      g[0] = a.x, g[1] = a.y, g[2] = a.z, g[3] = a.w, u[0] = b.x, u[1] = b.y, u[2] = b.z, u[3] = b.w;
    } else {
      #pragma unroll
      for (u32 i = 0; i < 4; i++) g[i] = k + i < cols ? gates[k + i] : 0.0f, u[i] = k + i < cols ? ups[k + i] : 0.0f;
    }
    #pragma unroll
    for (u32 i = 0; i < 4; i++) h[i] = k + i < cols ? silu_mul(g[i], u[i]) : 0.0f;
    return make_float4(h[0], h[1], h[2], h[3]);
  };
  produce(p, out ? out + row * cols : out, blockIdx.y, cols, shared, value);
}

extern "C" __global__ __launch_bounds__(256) void add(float* x, const float* y, u32 n) {
  allow_next();
  wait_for_previous();
  const u32 k = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (k + 4 <= n) {
    float4 a = *(float4*)(x + k), b = *(const float4*)(y + k);
    *(float4*)(x + k) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
  } else {
    for (u32 i = k; i < n; i++) x[i] += y[i];
  }
}
