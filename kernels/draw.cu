// The draw: the kept id with the largest (x - max) / T - ln E_id, the lowest one of equals; then what the next step needs.
//
//   E_id = -log1p(-v), v = min((r + ½) · 2^-32, 1 - 2^-24) in f32, r = word (id & 3) of Philox4x32-10 with
//   key = seed, counter = (id >> 2, position, stream low, stream high)
//
// An id wins only if E < exp((x - max)/T - S), S the best score so far, and E is never below 2^-33: ids far behind need no random number, and
// most others need no logarithm, because E >= v. S begins with the most probable id's own score. (src/sampler/draw.rs)
//
// Layouts
//   logits [rows][vocab] f32; banned: logits.cu; parameters, states, decisions, Outcome: sampling.cuh
//   token_flags [rows][vocab] u8: 1 a single newline, 2 a blank line; or null
//   scores [rows][chunks] f64, winners [rows][chunks] u32, masses [rows][chunks][2] f64; arrivals [rows] u32, zeros at first and afterwards
//   tokens [rows] u32: the drawn ids, for the embedding;   positions [rows] u32, advanced by one; may be null
//   ring [slots][ring_rows] Outcome in the host's memory (src/backend/cuda/ring.rs): a row's token number i goes to slot i mod slots; may be
//   null. To draw for some rows alone, pass all arrays from the first of them on, the ring too.
// Launch    grid (chunks, rows), 256 threads, no dynamic shared memory; chunks = ceil(vocab / 2048). The row's last block finishes.
// Oracle    src/sampler/draw.rs and Boundaries::begins_step: the same token unless two scores agree to the last bits of an f64.

#include "sampling.cuh"

struct Words {
  u32 at[4];
};

DEVICE Words philox(u32 a, u32 b, u32 c, u32 d, u64 key) {
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
  #pragma unroll
  for (u32 round = 0; round < 10; round++) {
    const u64 p = (u64)a * 0xD2511F53u, q = (u64)c * 0xCD9E8D57u;
    a = (u32)(q >> 32) ^ b ^ k0;
    c = (u32)(p >> 32) ^ d ^ k1;
    b = (u32)q;
    d = (u32)p;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{a, b, c, d}};
}

DEVICE double score_of(float x, float max, double temperature, u32 r) {
  const float v = fminf((float)(((double)r + 0.5) * 2.3283064365386963e-10), 0.99999994f);
  return ((double)x - (double)max) / temperature - log(-log1p(-(double)v));
}

// At most log2(v) for the draw v = (r + ½) 2^-32: the bits of a float are its logarithm but for less than 0.09.
DEVICE float log2_below(u32 r) {
  const float v = (float)(r >> 1) * 4.656612873077393e-10f;
  return (float)(int)to_bits(v) * 1.1920929e-7f - 127.0f;
}

extern "C" __global__ __launch_bounds__(256, 4) void draw(const float* logits, const u32* __restrict__ bans,
                                                       const u8* __restrict__ token_flags, const Policy* parameters, State* states,
                                                       const Decision* decisions, double* scores, u32* winners, double* masses,
                                                       u32* arrivals, u32* tokens, u32* positions, Outcome* ring, u32 slots,
                                                       u32 ring_rows, u32 vocab) {
  __shared__ double best_of[8], sums[8];
  __shared__ u32 id_of[8], last;
  allow_next();
  wait_for_previous();
  const u32 row = blockIdx.y, chunks = gridDim.x, first = blockIdx.x * CHUNK;
  const Policy policy = parameters[row];
  if (policy.kind == POLICY_IDLE) return;
  const u32* const banned = banned_of(bans, row, vocab);
  const Decision decision = decisions[row];
  const u32 position = (u32)states[row].position;
  const double temperature = decision.temperature;
  const float max = decision.allowed_max, *x = logits + (u64)row * vocab;
  const bool random = decision.status == STATUS_OK && temperature > GREEDY_TEMPERATURE;
  const u32 low = (u32)policy.stream, high = (u32)(policy.stream >> 32);

  double best = 0.0;
  u32 winner = decision.status == STATUS_OK ? decision.allowed_argmax : 0;
  if (random) {
    const Words own = philox(winner >> 2, position, low, high, policy.seed);
    const u32 pair[2] = {winner & 2 ? own.at[2] : own.at[0], winner & 2 ? own.at[3] : own.at[1]};
    best = score_of(max, max, temperature, winner & 1 ? pair[1] : pair[0]);
    const float from = fmaxf(decision.from, behind(max, temperature, LARGEST_GUMBEL - best));
    const float scale = (float)(1.4426950408889634 / temperature), octaves = (float)(best * 1.4426950408889634 - 1e-3);
    const float mass_from = fmaxf(decision.from, behind(max, temperature, 50.0)), mass_scale = (float)(1.0 / temperature);
    float rest = 0.0f;
    u32 ties = 0;
    for (u32 four = threadIdx.x; four < CHUNK / 4; four += 256) {
      const u32 id = first + 4 * four;
      float v[4];
      bool any = false;
      #pragma unroll
      for (u32 i = 0; i < 4; i++) {
        v[i] = id + i < vocab && !is_banned(banned, id + i) ? x[id + i] : from_bits(0xFF800000u);
        any |= v[i] >= from;
        ties += v[i] >= max;
        if (v[i] >= mass_from && v[i] < max) rest += exp_logit(fmaxf((v[i] - max) * mass_scale, -88.0f));
      }
      if (!any) continue;
      const Words words = philox(id >> 2, position, low, high, policy.seed);
      #pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const float behind_best = fmaxf(v[i] - max, from_bits(0xFF7FFFFFu)) * scale;
        if (!(v[i] >= from) || !(log2_below(words.at[i]) + octaves < behind_best)) continue;
        const double score = score_of(v[i], max, temperature, words.at[i]);
        if (score > best || (score == best && id + i < winner)) best = score, winner = id + i;
      }
    }
    #pragma unroll
    for (u32 d = 16; d > 0; d /= 2) {
      const double other = __shfl_xor_sync(0xFFFFFFFFu, best, d);
      const u32 id = __shfl_xor_sync(0xFFFFFFFFu, winner, d);
      if (other > best || (other == best && id < winner)) best = other, winner = id;
    }
    if (threadIdx.x % 32 == 0) best_of[threadIdx.x / 32] = best, id_of[threadIdx.x / 32] = winner;
    const double mass = block_sum_f64((double)rest, sums), at_max = block_sum_f64((double)ties, sums);
    if (threadIdx.x == 0) {
      for (u32 w = 1; w < 8; w++) {
        if (best_of[w] > best || (best_of[w] == best && id_of[w] < winner)) best = best_of[w], winner = id_of[w];
      }
      const u64 at = (u64)row * chunks + blockIdx.x;
      scores[at] = best, winners[at] = winner, masses[2 * at] = at_max, masses[2 * at + 1] = mass;
    }
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&arrivals[row], 1) == chunks - 1;
  __syncthreads();
  if (!last || threadIdx.x >= 32) return;
  __threadfence();

  // One warp joins the chunks: lane l takes l, l + 32, …, lanes are joined by halves.
  double at_max = 0.0, rest = 0.0;
  if (random) {
    const u64 own = (u64)row * chunks + smaller(threadIdx.x, chunks - 1);
    best = __ldcg(scores + own), winner = __ldcg(winners + own);
    for (u32 i = threadIdx.x; i < chunks; i += 32) {
      const u64 at = (u64)row * chunks + i;
      const double score = __ldcg(scores + at);
      const u32 id = __ldcg(winners + at);
      if (score > best || (score == best && id < winner)) best = score, winner = id;
      at_max += __ldcg(masses + 2 * at), rest += __ldcg(masses + 2 * at + 1);
    }
    #pragma unroll
    for (u32 d = 16; d > 0; d /= 2) {
      const double other = __shfl_xor_sync(0xFFFFFFFFu, best, d);
      const u32 id = __shfl_xor_sync(0xFFFFFFFFu, winner, d);
      if (other > best || (other == best && id < winner)) best = other, winner = id;
    }
    at_max = warp_sum_f64(at_max), rest = warp_sum_f64(rest);
  }
  if (threadIdx.x != 0) return;
  arrivals[row] = 0;
  State& state = states[row];
  const float logit = x[winner];
  // What the token means for the next step: two single newlines in a row, or a blank line in one token, begin a reasoning step.
  const u32 flags = token_flags ? token_flags[(u64)row * vocab + winner] : 0;
  const bool newline = flags & 1, pair = newline && state.after_newline;
  state.after_newline = newline;
  state.boundary_ahead |= pair || (flags & 2) != 0;
  state.position = (u64)position + 1;
  tokens[row] = winner;
  if (positions) positions[row] += 1;
  if (!ring) return;
  Outcome* to = ring + (u64)(position % slots) * ring_rows + row;
  const Decision& all = decisions[row];  // read here, so that the search above has the registers
  to->logprob = ((double)logit - (double)all.max) - all.log_partition;
  to->sampling_logprob = random ? ((double)logit - (double)max) / temperature - log1p((at_max - 1.0) + rest) : 0.0;
  to->temperature = temperature, to->entropy = all.entropy;
  to->step_entropy = all.step_entropy, to->global_mean = all.global_mean, to->threshold = all.threshold;
  to->step_index = all.step_index;
  to->token = winner;
  to->flags = (all.boundary ? 1 : 0) | (all.uncertain ? 2 : 0);
  to->status = all.status;
  // The serial says that the words are there, so the host must see it after them.
  store_release_system(&to->serial, position + 1);
}
