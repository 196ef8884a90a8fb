// A linear layer with NVFP4 weights for a few tokens: the weights pass through the chip once, whatever their number.
//
//   out[m][n] = (weight_scale[n] · x_scale[m]) · Σ_k e2m1[n][k] · e4m3[n][k/16] · x[m][k]  + bias[n] + residual[m][n]
//
// Weights are the 16-row operand of mma m16n8k16 and tokens its 8 columns, so one to eight tokens cost the same. Products
// of codes, scales and activations are exact in f16 (common.cuh); sums are f32.
//
// Layouts
//   weights       [ceil(rows/32)][units][2304]  tiles of common.cuh, units = ceil(cols/128); rows and columns padded with zeros
//   weight_scales [rows] f32                    tensor scale of each row (layers may be stacked)
//   bias          [rows] f32 or null
//   x, x_scales   activations of one group (common.cuh); `columns` = terms · tokens <= 8
//   residual, out [tokens][rows] f32; residual may be null, and may be out itself
//   partials      [slices][ceil(rows/32)][columns][32] f32, arrivals [ceil(rows/32)] u32 zeros at first and afterwards;
//                 both unused for one slice
//
// Launch (plan.rs, `LinearPlan`)
//   grid (workers, slices), 256 threads, dynamic shared memory
//   STAGES · 18432 + slice_units · 256 · columns + 16 + 1152 · columns bytes
//   Worker i of slice j takes 32-row groups i, i + workers, …, and of those the units j · slice_units ..; every slice holds one at least.
//
// Order of summation: warp w of 8 adds units w, w + 8, … of a slice (in each 64-column half, steps ascending); then warps 0..8
// one after another, then slices. It depends on cols and slice_units, never on the tokens, workers or rows.
//
// Programmatic launch: the ring is filled with weights before the wait; everything else comes after it.
//
// Oracle: src/backend/cuda/emulator.rs executes this file's lane arithmetic; on a device, the CPU backend's linear layers.

#include "common.cuh"

// Ring depth of each warp; `stages` of plan.rs is the same rule. 18432 bytes a stage: cards with 99 KiB a block (8.6, 8.9, 12.x) get three.
#ifndef STAGES
#if (__CUDA_ARCH__ > 800 && __CUDA_ARCH__ < 900) || __CUDA_ARCH__ >= 1200
#define STAGES 3
#else
#define STAGES 4
#endif
#endif

constexpr u32 WARPS = 8;
constexpr u32 PADDED_ROWS = 36;  // row stride of the sums between warps: no two lanes of a store meet in a bank

// The units one warp streams: of every row group of its worker, every eighth unit of the slice.
struct Stream {
  const u8* next;   // the unit to copy next
  u64 to_group;     // from behind a group's last unit to the next group's first
  u32 left;         // units of the current group
  u32 per_group;
  u32 groups;       // groups not finished, the current one included
};

extern "C" __global__ __launch_bounds__(256) void nvfp4_linear(
    const u8* __restrict__ weights, const float* __restrict__ weight_scales, const float* __restrict__ bias, const uint4* x,
    const float* x_scales, const float* residual, float* out, float* partials, u32* arrivals, u32 rows, u32 units, u32 slice_units,
    u32 columns, u32 terms) {
  extern __shared__ __align__(128) u8 memory[];
#if __CUDA_ARCH__ >= 900
  __shared__ __align__(8) u64 full[WARPS][STAGES];
#endif
  __shared__ u32 last;
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const u32 groups = ceil_div(rows, UNIT_ROWS), slices = gridDim.y;
  const u32 first_unit = blockIdx.y * slice_units, count = smaller(slice_units, units - first_unit);

  u8* const ring = memory + warp * (STAGES * UNIT_BYTES);
  uint4* const inputs = (uint4*)(memory + WARPS * STAGES * UNIT_BYTES);  // [count][16 · columns]
  uint4* const zero = inputs + slice_units * 16 * columns;              // 16 zero bytes: what lanes without a column read
  float* const sums = (float*)(zero + 1);                                // [WARPS][columns][PADDED_ROWS]

  Stream stream;
  stream.per_group = count > warp ? (count - warp + WARPS - 1) / WARPS : 0;
  stream.groups = blockIdx.x < groups ? (groups - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;
  stream.next = weights + ((u64)blockIdx.x * units + first_unit + warp) * UNIT_BYTES;
  stream.to_group = ((u64)gridDim.x * units - (u64)stream.per_group * WARPS) * UNIT_BYTES;
  stream.left = stream.per_group;
  if (stream.per_group == 0) stream.groups = 0;

  // Starts the copy of the stream's next unit into a slot that all lanes have left.
  auto issue = [&](u32 slot) {
    if (stream.groups != 0) {
      u8* to = ring + slot * UNIT_BYTES;
#if __CUDA_ARCH__ >= 900
      if (lane == 0) bulk_copy(to, stream.next, UNIT_BYTES, &full[warp][slot]);
#else
      for (u32 i = lane; i < UNIT_BYTES / 16; i += 32) copy_async(to + 16 * i, stream.next + 16 * i);
#endif
      stream.next += WARPS * UNIT_BYTES;
      if (--stream.left == 0) {
        stream.left = stream.per_group;
        stream.next += stream.to_group;
        stream.groups--;
      }
    }
#if __CUDA_ARCH__ < 900
    copy_commit();  // empty groups too, so that the count of groups is the count of calls
#endif
  };

#if __CUDA_ARCH__ >= 900
  if (lane == 0) {
    for (u32 i = 0; i < STAGES; i++) barrier_init(&full[warp][i], 1);
    barrier_init_done();
  }
  __syncwarp();
#endif
  #pragma unroll
  for (u32 i = 0; i < STAGES - 1; i++) issue(i);

  wait_for_previous();
  for (u32 i = threadIdx.x; i < count * 16 * columns; i += WARPS * 32) inputs[i] = x[(u64)first_unit * 16 * columns + i];
  if (threadIdx.x == 0) *zero = make_uint4(0, 0, 0, 0);
  __syncthreads();

  const u32 tokens = columns / terms, per_group = stream.per_group;
  const uint4* const first_input = g < columns ? inputs + (warp * 4 * columns + g) * 4 + t : zero;
  const u32 to_piece = g < columns ? 4 * columns : 0, to_input = g < columns ? WARPS * 16 * columns : 0;
  u32 slot = 0, free_slot = STAGES - 1, parity = 0;
  for (u32 group = blockIdx.x; group < groups; group += gridDim.x) {
    if (group + gridDim.x >= groups) allow_next();
    float c[2][4] = {};
    const uint4* input = first_input;  // of the unit's pieces (h, octet) = (0, 0); the others follow
    for (u32 unit = 0; unit < per_group; unit++) {
      issue(free_slot);
#if __CUDA_ARCH__ >= 900
      barrier_wait(&full[warp][slot], parity);
#else
      copy_wait<STAGES - 1>();
#endif
      __syncwarp();  // lanes may leave the wait one by one, and the tensor cores take whole warps
      const u8* tile = ring + slot * UNIT_BYTES;
      #pragma unroll
      for (u32 h = 0; h < 2; h++) {
        uint4 low = input[2 * h * to_piece], high = input[(2 * h + 1) * to_piece];
        u32 b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        #pragma unroll
        for (u32 r = 0; r < 2; r++) {
          u32 scales = scale_pair(((const u32*)(tile + r * TILE_BYTES))[lane], h);
          uint4 words = ((const uint4*)(tile + r * TILE_BYTES + 128 + h * 512))[lane];
          u32 codes[4] = {words.x, words.y, words.z, words.w};
          #pragma unroll
          for (u32 s = 0; s < 4; s++) {
            u32 a[4];
            decode_step(codes[s], scales, a);
            mma_f16(c[r], a, b[2 * s], b[2 * s + 1]);
          }
        }
      }
      __syncwarp();  // all lanes have read the slot, which the next call of `issue` fills again
      input += to_input;
      free_slot = slot;
      if (++slot == STAGES) slot = 0, parity ^= 1;
    }

    // Sums of the warps, [warp][column][36].
    float* mine = sums + warp * columns * PADDED_ROWS;
    #pragma unroll
    for (u32 r = 0; r < 2; r++) {
      #pragma unroll
      for (u32 i = 0; i < 4; i++) {
        u32 row = 16 * r + g + i / 2 * 8, column = 2 * t + i % 2;
        if (column < columns) mine[column * PADDED_ROWS + row] = c[r][i];
      }
    }
    __syncthreads();
    const u32 row = lane, n = group * UNIT_ROWS + row;
    auto over_warps = [&](u32 column) {
      float v = 0.0f;
      #pragma unroll
      for (u32 w = 0; w < WARPS; w++) v += sums[(w * columns + column) * PADDED_ROWS + row];
      return v;
    };
    auto finish = [&](u32 token, float total) {
      if (n >= rows) return;
      float scale = __fmul_rn(weight_scales[n], x_scales[token]);
      float y = __fmul_rn(scale, __fmul_rn(total, CODE_FACTOR));
      if (bias) y = __fadd_rn(y, bias[n]);
      u64 at = (u64)token * rows + n;
      out[at] = residual ? __fadd_rn(residual[at], y) : y;
    };
    if (slices == 1) {
      if (warp < tokens) {
        float total = over_warps(warp);
        if (terms == 2) total += over_warps(warp + tokens) * LOW_TERM;
        finish(warp, total);
      }
    } else {
      u64 stride = (u64)groups * columns * 32;
      float* part = partials + (u64)group * columns * 32 + row;
      if (warp < columns) part[blockIdx.y * stride + warp * 32] = over_warps(warp);
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0) last = atomicAdd(&arrivals[group], 1) == slices - 1;
      __syncthreads();
      if (last) {
        __threadfence();
        auto over_slices = [&](u32 column) {
          float v = 0.0f;
          for (u32 s = 0; s < slices; s++) v += __ldcg(&part[s * stride + column * 32]);
          return v;
        };
        if (warp < tokens) {
          float total = over_slices(warp);
          if (terms == 2) total += over_slices(warp + tokens) * LOW_TERM;
          finish(warp, total);
        }
        if (threadIdx.x == 0) arrivals[group] = 0;
      }
    }
    __syncthreads();  // the sums are free again
  }
}
