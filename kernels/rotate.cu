// Between the projections and attention: norm of query and key heads, rotary embedding, and the cache.
//
//   query heads   turned = rope(norm(q))                  norm(x) = weight · (x · (1 / √(Σ x² / d + eps))), where there is a weight
//   key heads     cache  = rope(norm(k)) in the cache's format
//   value heads   cache  = v in the cache's format
//   rope          (a, b) → (a cos - b sin, b cos + a sin) of the pairs (i, i + d/2)
//
// Layouts
//   query, key, value  [rows][stride] f32, each with its own stride, the first element of each in row 0 (so one stacked projection serves)
//   turned             [rows][heads · d] f32
//   cos, sin           [*][d/2] f32: row r uses line positions[r] of them if `by_position`, else line r; null: nothing is turned
//   positions, places  [rows] u32: position in the sequence; line of `pages` of the row's sequence
//   pages              [*][most_pages] u32: pages of a sequence in order, 128 positions each
//   cache              pages of one layer: [page][keys, values][kv_heads][128][w] in the format, w = d rounded up to 16, zeros beyond d
//                      nvfp4: [page] of { codes [keys, values][kv_heads][128][w/2], block scales [keys, values][kv_heads][128][w/16] }
//   format             0 f32, 1 bf16, 2 fp8 (E4M3 of x / scale), 3 nvfp4 (scale as tensor scale); key_scale, value_scale: of the layer
// Launch   grid (heads + 2 · kv_heads, rows), 32 threads: one warp a head; d even and at most 256
// Order    sums of squares as on the CPU: 16 chains, joined by halves.
// Oracle   the CPU backend's rotate and store: the same bits.

#include "common.cuh"

constexpr u32 PAGE = 128;

struct Cache {
  u8* memory;
  u32 format, heads, d;  // d: padded

  DEVICE u64 page_bytes() const {
    u64 elements = 2ull * heads * PAGE * d;
    return format == 0 ? 4 * elements : format == 1 ? 2 * elements : format == 2 ? elements : elements / 2 + elements / 16;
  }
};

// Writes one head of one position. `head` is in shared memory; all lanes take part.
DEVICE void store_head(const Cache& cache, u32 page, u32 side, u32 index, u32 slot, const float* head, float scale) {
  const u32 lane = threadIdx.x, d = cache.d;
  u8* base = cache.memory + page * cache.page_bytes();
  const u64 first = ((u64)(side * cache.heads + index) * PAGE + slot) * d;
  if (cache.format == 0) {
    for (u32 i = lane; i < d; i += 32) ((float*)base)[first + i] = head[i];
  } else if (cache.format == 1) {
    for (u32 i = lane; i < d; i += 32) ((u16*)base)[first + i] = (u16)pack_bf16(head[i], 0.0f);
  } else if (cache.format == 2) {
    for (u32 i = lane; i < d; i += 32) base[first + i] = (u8)e4m3_bits(__fdiv_rn(head[i], scale));
  } else {
    u8* scales = base + (u64)cache.heads * PAGE * d;
    for (u32 block = lane; block < d / 16; block += 32) {
      float most = 0.0f;
      for (u32 i = 0; i < 16; i++) most = fabsf(head[16 * block + i]) > most ? fabsf(head[16 * block + i]) : most;
      u32 bits = e4m3_bits(__fdiv_rn(__fdiv_rn(most, 6.0f), scale));
      float factor = __fmul_rn(e4m3_to_f32(bits), scale);
      scales[first / 16 + block] = (u8)bits;
      for (u32 i = 0; i < 8; i++) {
        float a = head[16 * block + 2 * i], b = head[16 * block + 2 * i + 1];
        u32 low = factor > 0.0f ? e2m1_code(__fdiv_rn(a, factor)) : 0, high = factor > 0.0f ? e2m1_code(__fdiv_rn(b, factor)) : 0;
        base[(first + 16 * block) / 2 + i] = (u8)(low | high << 4);
      }
    }
  }
}

extern "C" __global__ __launch_bounds__(32) void rotate_store(
    const float* query, const float* key, const float* value, u32 query_stride, u32 key_stride, u32 value_stride,
    const float* __restrict__ query_norm, const float* __restrict__ key_norm, float eps, const float* cos, const float* sin, u32 by_position, const u32* positions,
    const u32* places, const u32* pages, u32 most_pages, float* turned, u8* memory, u32 format, float key_scale, float value_scale,
    u32 heads, u32 kv_heads, u32 d) {
  __shared__ float head[256];
  allow_next();
  wait_for_previous();
  const u32 lane = threadIdx.x, row = blockIdx.y, half = d / 2;
  const bool is_query = blockIdx.x < heads, is_value = blockIdx.x >= heads + kv_heads;
  const u32 index = is_query ? blockIdx.x : is_value ? blockIdx.x - heads - kv_heads : blockIdx.x - heads;
  const u32 stride = is_query ? query_stride : is_value ? value_stride : key_stride;
  const float* from = (is_query ? query : is_value ? value : key) + (u64)row * stride + index * d;
  for (u32 i = lane; i < padded_head(d); i += 32) head[i] = i < d ? from[i] : 0.0f;
  __syncwarp();
  if (!is_value) {
    const float* weight = is_query ? query_norm : key_norm;
    if (weight) {
      float sum = 0.0f;
      if (lane < 16) for (u32 i = lane; i < d; i += 16) sum = fmaf(head[i], head[i], sum);
      #pragma unroll
      for (u32 width = 8; width > 0; width /= 2) sum = __fadd_rn(sum, __shfl_down_sync(0xFFFFFFFFu, sum, width));
      sum = __shfl_sync(0xFFFFFFFFu, sum, 0);
      __syncwarp();  // the sum has read what is written next
      const float factor = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, (float)d), eps)));
      for (u32 i = lane; i < d; i += 32) head[i] = __fmul_rn(weight[i], __fmul_rn(head[i], factor));
      __syncwarp();
    }
    const u64 line = (u64)(by_position ? positions[row] : row) * half;
    for (u32 i = lane; cos && i < half; i += 32) {
      float low = head[i], high = head[i + half], c = cos[line + i], s = sin[line + i];
      head[i] = __fsub_rn(__fmul_rn(low, c), __fmul_rn(high, s));
      head[i + half] = __fadd_rn(__fmul_rn(high, c), __fmul_rn(low, s));
    }
    __syncwarp();
  }
  if (is_query) {
    for (u32 i = lane; i < d; i += 32) turned[((u64)row * heads + index) * d + i] = head[i];
  } else if (memory) {
    const u32 position = positions[row], page = pages[(u64)places[row] * most_pages + position / PAGE];
    store_head({memory, format, kv_heads, padded_head(d)}, page, is_value, index, position % PAGE, head, is_value ? value_scale : key_scale);
  }
}
