// Records that the kernels of a token's last steps hand on: logits.cu → narrow.cu → draw.cu. src/backend/cuda/records.rs mirrors them.
#pragma once

#include "common.cuh"

constexpr u32 CHUNK = 2048;  // ids per block, as in src/simd/logits.rs

// POLICY_IDLE: nobody's row; nothing is computed for it and nothing changes.
enum Kind : u32 { POLICY_FIXED = 0, POLICY_THRESHOLD = 1, POLICY_RESET = 2, POLICY_IDLE = 3 };
enum Status : u32 { STATUS_OK = 0, STATUS_BROKEN = 1, STATUS_EMPTY = 2 };

// What a request asks for; constant over a sequence. 80 bytes.
struct Policy {
  double t_low, t_high, tau_0;  // POLICY_FIXED: the temperature is t_high
  double top_p, min_p;          // off: 1, 0
  u64 seed, stream;
  u32 kind, window, include_current;
  u32 top_k;                    // off: 0
  u64 reserved;
};

// What changes from token to token. 64 bytes; zeros before the first.
struct State {
  double total, step_total, window_total;
  u64 count, step_count, step_index;
  u32 boundary_ahead, after_newline;
  u64 position;  // tokens drawn so far
};

// Sums of one chunk of logits. 48 bytes.
struct Partial {
  double sum, weighted, rest;  // Z, W, and Z without the ids at the maximum
  float max, allowed_max;
  u32 id, allowed_id;          // lowest ids of both maxima
  u32 ties, broken;
};

// One step's decision, for the sampler and the host. 96 bytes.
struct Decision {
  double temperature, entropy, step_entropy, global_mean, threshold;
  double log_partition;  // ln Σ exp(x - max)
  u64 step_index;
  float max, allowed_max;
  u32 allowed_argmax, boundary, uncertain, status;
  float bound;  // not above the top_k-th largest logit; the lowest float where unknown
  float from;   // smallest kept logit
  u32 reserved[2];
};

// One token of one sequence for the host: a record of src/backend/cuda/ring.rs. 80 bytes.
struct Outcome {
  double logprob, sampling_logprob, temperature, entropy, step_entropy, global_mean, threshold;
  u64 step_index;
  u32 token, flags;    // boundary 1, uncertain 2
  u32 status, serial;  // serial = position + 1, written last
};

static_assert(sizeof(Policy) == 80 && sizeof(State) == 64 && sizeof(Outcome) == 80, "the host reads and writes these");
static_assert(sizeof(Partial) == 48 && sizeof(Decision) == 96 && sizeof(Prepared) == 40, "the host makes room for these");

struct Best {
  float value;
  u32 id;
};

constexpr double GREEDY_TEMPERATURE = 1e-6;
constexpr double LARGEST_GUMBEL = 22.88;  // -ln of the smallest exponential draw, 2^-33, rounded up

// exp for x from -88 to 0 as `simd::logits` computes it with fused arithmetic, operation by operation.
DEVICE float exp_logit(float x) {
  constexpr float ROUND = 12582912.0f;
  float shifted = fmaf(x, 1.44269504f, ROUND);
  float r = fmaf(__fsub_rn(shifted, ROUND), -0.693147181f, x);
  float q = fmaf(1.3814599e-3f, r, 8.368717e-3f);
  q = fmaf(q, r, 4.166839e-2f);
  q = fmaf(q, r, 1.6666521e-1f);
  q = fmaf(q, r, 4.9999994e-1f);
  float e = fmaf(fmaf(q, r, 1.0f), r, 1.0f);
  return __fmul_rn(e, from_bits((to_bits(shifted) << 23) + 0x3F800000u));
}

// The logit `nats` below the maximum at this temperature, rounded down; finite.
DEVICE float behind(float max, double temperature, double nats) {
  float x = nextafterf((float)((double)max - temperature * nats), from_bits(0xFF800000u));
  return fmaxf(x, from_bits(0xFF7FFFFFu));
}

// A row's own bits of `banned`, [rows][ceil(vocab / 32)], where there are any.
DEVICE const u32* banned_of(const u32* banned, u32 row, u32 vocab) { return banned ? banned + (u64)row * ceil_div(vocab, 32) : banned; }

DEVICE bool is_banned(const u32* banned, u32 id) { return banned && (banned[id / 32] >> id % 32 & 1); }

// Reads what another block wrote in this launch: past the first-level cache.
DEVICE Partial load_partial(const Partial* p) {
  Partial v;
  v.sum = __ldcg(&p->sum), v.weighted = __ldcg(&p->weighted), v.rest = __ldcg(&p->rest);
  v.max = __ldcg(&p->max), v.allowed_max = __ldcg(&p->allowed_max);
  v.id = __ldcg(&p->id), v.allowed_id = __ldcg(&p->allowed_id), v.ties = __ldcg(&p->ties), v.broken = __ldcg(&p->broken);
  return v;
}

DEVICE double warp_sum_f64(double x) {
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
  return x;
}

// Sum over 256 threads in f64: lanes by halves, warps in order.
DEVICE double block_sum_f64(double x, double* shared) {
  x = warp_sum_f64(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0.0;
  for (u32 w = 0; w < blockDim.x / 32; w++) sum += shared[w];
  __syncthreads();
  return sum;
}
