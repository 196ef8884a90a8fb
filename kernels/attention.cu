// Softmax attention of each row's query heads over its sequence up to its position, in splits of 128 positions.
//
//   attend_*      one page of one key and value head: scores, their maximum m and sum l of exp(score - m), and Σ exp(score - m) · V
//   merge         out = Σ_s exp(m_s - m) · acc_s / Σ_s exp(m_s - m) · l_s, and the output projection's operand made from it
//
// A split is a page of the cache and begins at a multiple of 128 whatever the batch; splits are joined in an order that depends on the row's
// own position. So a sequence's result does not depend on the rows beside it.
//
// Layouts
//   query            [rows][heads · d] f32
//   cache, pages, places, positions, format, scales: as in rotate.cu
//   partials         [rows][heads][most_splits][d + 2] f32: sums, then m, then l
//   out              [rows][heads · d] f32, may be null; p: common.cuh, activations
//   window           how many positions back a query sees, itself included; 0: all
// Launch
//   attend_*         grid (most_splits, kv_heads, rows), 128 threads, dynamic shared memory
//                    64 · (w + 4) · 4 + (heads / kv_heads) · (w + 64 + 4) · 4 bytes, w = d rounded up to 16; d at most 256; blocks beyond the row's
//                    position, or before its window, return at once. heads / kv_heads at most 16.
//   merge            grid (heads, rows), 256 threads, for forms that need no whole row and d a multiple of 16; else with form NONE, then
//                    `activations`
// Order    scores: columns ascending, one chain. Maximum and sum of a page: lanes by halves, then warps. Values: positions ascending.
//          merge: warp w takes splits w, w + 8, …; then warps one after another.
// Oracle   the CPU backend's attend (another order of sums; f64 in the tests).
//
// First version: keys and values are widened to f32 in shared memory, and the products are CUDA-core arithmetic in f32.

#include "common.cuh"

constexpr u32 PAGE = 128, TILE = 64, THREADS = 128, MOST_GROUP = 16;

enum Format : u32 { F32 = 0, BF16 = 1, FP8 = 2, NVFP4 = 3 };

// Eight elements from `first` (a multiple of 8) of a page as f32.
template <Format FORMAT> DEVICE void load_eight(const u8* page, u64 half_elements, u64 first, float scale, float (&v)[8]) {
  if (FORMAT == F32) {
    float4 a = ((const float4*)page)[first / 4], b = ((const float4*)page)[first / 4 + 1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  } else if (FORMAT == BF16) {
    uint4 q = ((const uint4*)page)[first / 8];
    u32 words[4] = {q.x, q.y, q.z, q.w};
    #pragma unroll
    for (u32 i = 0; i < 4; i++) v[2 * i] = from_bits(words[i] << 16), v[2 * i + 1] = from_bits(words[i] & 0xFFFF0000u);
  } else if (FORMAT == FP8) {
    uint2 q = ((const uint2*)page)[first / 8];
    #pragma unroll
    for (u32 i = 0; i < 8; i++) v[i] = __fmul_rn(e4m3_to_f32((i < 4 ? q.x : q.y) >> 8 * (i % 4) & 0xFFu), scale);
  } else {
    u32 q = ((const u32*)page)[first / 8];
    float factor = __fmul_rn(e4m3_to_f32(page[half_elements + first / 16]), scale);
    #pragma unroll
    for (u32 i = 0; i < 8; i++) v[i] = __fmul_rn(e2m1_to_f32(q >> 4 * i), factor);
  }
}

template <Format FORMAT>
DEVICE void attend(const float* query, const u8* memory, const u32* positions, const u32* places, const u32* pages, u32 most_pages,
                   float key_scale, float value_scale, float* partials, u32 most_splits, u32 window, u32 heads, u32 d) {
  extern __shared__ __align__(16) float shared[];
  allow_next();
  wait_for_previous();
  const u32 split = blockIdx.x, kv_head = blockIdx.y, kv_heads = gridDim.y, row = blockIdx.z, group = heads / kv_heads;
  const u32 end = positions[row] + 1, begin = window && window < end ? end - window : 0;
  if (split * PAGE >= end || (split + 1) * PAGE <= begin) return;
  const u32 w = padded_head(d), stride = w + 4;
  float* wide = shared;                       // [TILE][stride]
  float* queries = wide + TILE * stride;      // [group][w]
  float* weights = queries + group * w;       // [TILE][group]
  float* state = weights + group * TILE;      // [4 warps][group]: exchange between warps

  const u64 half_elements = (u64)kv_heads * PAGE * w;  // elements of keys, and bytes of all codes in nvfp4
  const u64 page_bytes = FORMAT == F32 ? 8 * half_elements : FORMAT == BF16 ? 4 * half_elements : FORMAT == FP8 ? 2 * half_elements
                                                                                               : half_elements + half_elements / 8;
  const u8* page = memory + pages[(u64)places[row] * most_pages + split] * page_bytes;
  const float score_scale = __fdiv_rn(1.0f, __fsqrt_rn((float)d));
  for (u32 i = threadIdx.x; i < group * w; i += THREADS) {
    queries[i] = i % w < d ? query[((u64)row * heads + kv_head * group + i / w) * d + i % w] : 0.0f;
  }

  float accumulated[MOST_GROUP][2];  // of columns threadIdx.x and threadIdx.x + 128
  float most[MOST_GROUP], total[MOST_GROUP];
  #pragma unroll
  for (u32 h = 0; h < MOST_GROUP; h++) accumulated[h][0] = accumulated[h][1] = total[h] = 0.0f, most[h] = from_bits(0xFF800000u);

  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (u32 tile = 0; tile < PAGE / TILE; tile++) {
    const u32 first = split * PAGE + tile * TILE;
    if (first >= end || first + TILE <= begin) continue;
    const u32 count = smaller(TILE, end - first);
    auto widen = [&](u32 side) {
      const u64 base = (u64)side * half_elements + ((u64)kv_head * PAGE + tile * TILE) * w;
      for (u32 i = threadIdx.x; i < count * (w / 8); i += THREADS) {
        float v[8];
        load_eight<FORMAT>(page, half_elements, base + 8 * i, side ? value_scale : key_scale, v);
        float* to = wide + i / (w / 8) * stride + i % (w / 8) * 8;
        *(float4*)to = make_float4(v[0], v[1], v[2], v[3]);
        *(float4*)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
      }
    };
    __syncthreads();  // of the tile before
    widen(0);
    __syncthreads();
    // Scores: thread (position, parity of the head).
    const u32 place = threadIdx.x % TILE;
    const bool seen = place < count && first + place >= begin;
    for (u32 h = threadIdx.x / TILE; h < group; h += THREADS / TILE) {
      float dot = 0.0f;
      if (seen) {
        for (u32 i = 0; i < w; i += 4) {
          float4 k = *(const float4*)(wide + place * stride + i), q = *(const float4*)(queries + h * w + i);
          dot = fmaf(q.x, k.x, dot), dot = fmaf(q.y, k.y, dot), dot = fmaf(q.z, k.z, dot), dot = fmaf(q.w, k.w, dot);
        }
      }
      weights[place * group + h] = seen ? dot * score_scale : from_bits(0xFF800000u);
    }
    __syncthreads();
    widen(1);
    // Maxima of the heads over the tile; every thread learns all of them.
    #pragma unroll
    for (u32 h = 0; h < MOST_GROUP; h++) {
      if (h >= group) break;
      float m = warp_max(threadIdx.x < TILE ? weights[place * group + h] : from_bits(0xFF800000u));
      if (lane == 0) state[warp * group + h] = m;
    }
    __syncthreads();
    float sums[MOST_GROUP];
    #pragma unroll
    for (u32 h = 0; h < MOST_GROUP; h++) {
      if (h >= group) break;
      float m = fmaxf(most[h], fmaxf(state[h], state[group + h]));
      float rescale = exp_f32(most[h] - m);
      accumulated[h][0] *= rescale, accumulated[h][1] *= rescale, total[h] *= rescale;
      most[h] = m;
      sums[h] = threadIdx.x < TILE ? exp_f32(weights[place * group + h] - m) : 0.0f;
    }
    __syncthreads();
    #pragma unroll
    for (u32 h = 0; h < MOST_GROUP; h++) {
      if (h >= group) break;
      if (threadIdx.x < TILE) weights[place * group + h] = sums[h];
      float sum = warp_sum(sums[h]);
      if (lane == 0) state[warp * group + h] = sum;
    }
    __syncthreads();
    #pragma unroll
    for (u32 h = 0; h < MOST_GROUP; h++) {
      if (h >= group) break;
      total[h] += state[h] + state[group + h];
    }
    // Values: each thread has one or two columns.
    #pragma unroll
    for (u32 c = 0; c < 2; c++) {
      const u32 column = threadIdx.x + c * THREADS;
      if (column >= d) break;
      const u32 from = begin > first ? begin - first : 0;
      for (u32 n = from; n < count; n++) {
        float v = wide[n * stride + column];
        #pragma unroll
        for (u32 h = 0; h < MOST_GROUP; h++) {
          if (h >= group) break;
          accumulated[h][c] = fmaf(weights[n * group + h], v, accumulated[h][c]);
        }
      }
    }
  }
  #pragma unroll
  for (u32 h = 0; h < MOST_GROUP; h++) {
    if (h >= group) break;
    float* to = partials + (((u64)row * heads + kv_head * group + h) * most_splits + split) * (d + 2);
    if (threadIdx.x < d) to[threadIdx.x] = accumulated[h][0];
    if (threadIdx.x + THREADS < d) to[threadIdx.x + THREADS] = accumulated[h][1];
    if (threadIdx.x == 0) to[d] = most[h], to[d + 1] = total[h];
  }
}

#define ATTEND(NAME, FORMAT)                                                                                                       \
  extern "C" __global__ __launch_bounds__(128) void NAME(const float* query, const u8* memory, const u32* positions, const u32* places, \
                                                         const u32* pages, u32 most_pages, float key_scale, float value_scale,      \
                                                         float* partials, u32 most_splits, u32 window, u32 heads, u32 d) {          \
    attend<FORMAT>(query, memory, positions, places, pages, most_pages, key_scale, value_scale, partials, most_splits, window, heads, d); \
  }
ATTEND(attend_f32, F32)
ATTEND(attend_bf16, BF16)
ATTEND(attend_fp8, FP8)
ATTEND(attend_nvfp4, NVFP4)

extern "C" __global__ __launch_bounds__(256) void merge(const float* partials, const u32* positions, u32 most_splits, u32 window,
                                                        float* out, const __grid_constant__ Prepared p, u32 heads, u32 d) {
  __shared__ float sums[8][256], bottom[8], greatest[8];
  allow_next();
  wait_for_previous();
  const u32 head = blockIdx.x, row = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 end = positions[row] + 1, begin = window && window < end ? end - window : 0;
  const u32 first = begin / PAGE, last = (end - 1) / PAGE;
  const float* parts = partials + ((u64)row * heads + head) * most_splits * (d + 2);
  float m = from_bits(0xFF800000u);
  for (u32 s = first + threadIdx.x; s <= last; s += blockDim.x) m = fmaxf(m, parts[(u64)s * (d + 2) + d]);
  m = warp_max(m);
  if (lane == 0) greatest[warp] = m;
  __syncthreads();
  for (u32 w = 0; w < 8; w++) m = fmaxf(m, greatest[w]);
  float acc[8] = {}, below = 0.0f;
  for (u32 s = first + warp; s <= last; s += 8) {
    const float* part = parts + (u64)s * (d + 2);
    float weight = exp_f32(part[d] - m);
    below = fmaf(weight, part[d + 1], below);
    #pragma unroll
    for (u32 i = 0; i < 8; i++) if (lane + 32 * i < d) acc[i] = fmaf(weight, part[lane + 32 * i], acc[i]);
  }
  #pragma unroll
  for (u32 i = 0; i < 8; i++) sums[warp][lane + 32 * i] = acc[i];
  if (lane == 0) bottom[warp] = below;
  __syncthreads();
  if (warp != 0) return;
  float sum = 0.0f;
  for (u32 w = 0; w < 8; w++) sum += bottom[w];
  const u32 chunks = ceil_div(heads * d, CHUNK_K);
  auto value = [&](u32 i) {
    float v = 0.0f;
    for (u32 w = 0; w < 8; w++) v += sums[w][i];
    return __fdiv_rn(v, sum);
  };
  const float row_scale = row_scale_of(p, 0);
  for (u32 quad = lane; quad < (d + 127) / 128 * 32; quad += 32) {
    const u32 i = 4 * quad, k = head * d + i;
    const bool valid = i < d;
    float4 v = valid ? make_float4(value(i), value(i + 1), value(i + 2), value(i + 3)) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (out && valid) store_row(out + ((u64)row * heads + head) * d, i, d, v);
    if (p.form != FORM_NONE) {
      if (p.pre_scale && valid) {
        const float4 f = *(const float4*)(p.pre_scale + k);
        v = make_float4(__fmul_rn(v.x, f.x), __fmul_rn(v.y, f.y), __fmul_rn(v.z, f.z), __fmul_rn(v.w, f.w));
      }
      write_prepared(p, v, row, k, row_scale, chunks, valid);
    }
  }
  // Columns of the last chunk beyond the heads.
  if (p.form != FORM_NONE && head == heads - 1) {
    const float4 zeros = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (u32 k = heads * d + 4 * lane; k < heads * d + 128; k += 128) write_prepared(p, zeros, row, k, row_scale, chunks, k < chunks * CHUNK_K);
  }
  if (p.form == FORM_STATIC && head == 0 && lane == 0) p.row_scales[row] = row_scale;
}
