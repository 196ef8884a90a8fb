// Rows of an embedding table, widened to f32.
//
//   out[row] = table[ids[row]]
//
// Layouts   ids [rows] u32, below the table's rows; out [rows][cols] f32
//           embed_f32, embed_f16, embed_bf16: table [rows][cols]; embed_nvfp4: units of common.cuh, e2m1 · (e4m3 · tensor_scale)
// Launch    grid (1, rows), 256 threads
// Oracle    Matrix::row_to_f32, the same bits.

#include "common.cuh"

template <typename Load> DEVICE void embed(const u32* ids, float* out, u32 cols, Load load) {
  allow_next();
  wait_for_previous();
  const u32 id = ids[blockIdx.y];
  for (u32 k = threadIdx.x; k < cols; k += blockDim.x) out[(u64)blockIdx.y * cols + k] = load(id, k);
}

extern "C" __global__ __launch_bounds__(256) void embed_f32(const float* table, const u32* ids, float* out, u32 cols) {
  embed(ids, out, cols, [&](u32 id, u32 k) { return table[(u64)id * cols + k]; });
}

extern "C" __global__ __launch_bounds__(256) void embed_f16(const u16* table, const u32* ids, float* out, u32 cols) {
  embed(ids, out, cols, [&](u32 id, u32 k) { return f16_to_f32(table[(u64)id * cols + k]); });
}

extern "C" __global__ __launch_bounds__(256) void embed_bf16(const u16* table, const u32* ids, float* out, u32 cols) {
  embed(ids, out, cols, [&](u32 id, u32 k) { return bf16_to_f32(table[(u64)id * cols + k]); });
}

extern "C" __global__ __launch_bounds__(256) void embed_nvfp4(const u8* units, float tensor_scale, const u32* ids, float* out, u32 cols) {
  embed(ids, out, cols, [&](u32 id, u32 k) {
    const u32 row = id % 16, h = k / 64 % 2, lane = row % 8 * 4 + k / 16 % 4;
    const u8* tile = units + ((u64)(id / UNIT_ROWS) * ceil_div(cols, CHUNK_K) + k / CHUNK_K) * UNIT_BYTES + id / 16 % 2 * TILE_BYTES;
    u32 pair = scale_pair(((const u32*)tile)[lane], h);
    u32 word = ((const u32*)(tile + 128 + 512 * h + 16 * lane))[k / 4 % 4], a[4];
    decode_codes(word, a);
    u32 codes = a[row / 8 + k / 2 % 2 * 2];
    // Both are exact powers of two away from code and scale.
#if NIBBLE_ORDER
    float w = f16_to_f32((u16)(codes >> 16 * (k % 2))), s = f16_to_f32((u16)(pair >> 16 * (row / 8))) * 256.0f;
#else
    float w = f16_to_f32((u16)(codes >> 16 * (k % 2))) * 16384.0f, s = f16_to_f32((u16)(pair >> 16 * (row / 8))) * 0.0078125f;
#endif
    return __fmul_rn(w, __fmul_rn(s, tensor_scale));
  });
}
