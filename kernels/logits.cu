// From logits to a temperature: statistics of the raw distribution, entropy, and the step of the policy, without the host.
//
//   m = max x   Z = Σ exp(x - m)   W = Σ (x - m) exp(x - m)   H = ln Z - W / Z   in chunks of 2048 ids (src/logits.rs)
//   then one step of the controller (ALGORITHM in src/controller): boundary, Ĥ_step, H̄, τ, T, with all sums in f64
//
// Layouts
//   logits      [rows][vocab] f32
//   banned      [rows][ceil(vocab / 32)] u32, bit i of word w set: id 32 w + i is never drawn; or null
//   partials    [rows][chunks] Partial, chunks = ceil(vocab / 2048);   arrivals [rows] u32, zeros at first and afterwards
//   parameters  [rows] Policy: what the request asked for          state [rows] State: what changes from token to token
//   window      [rows][parameters.window] f64, the ring of the last entropies
//   decisions   [rows] Decision: for the sampler and the host
// Launch   grid (chunks, rows), 256 threads, no dynamic shared memory (plan.rs, `logits`). The last block of a row takes the step.
// Order    a chunk: 16 chains add ids i, i + 16, … in f32 (64 for what is beside the maximum), joined by halves in f64, as every CPU
//          table with fused arithmetic does;
//          chunks: each rebased to the row's maximum, lanes by halves of 32 and those in order, in f64
// Oracle   LogitStats::of_partials and Controller::step. Partials are the same bits; entropies may differ in the last bits of an f64
//          before they are rounded to f32.

#include "sampling.cuh"

DEVICE double half_sum(double x, u32 width) {
  for (u32 d = width / 2; d > 0; d /= 2) x += __shfl_down_sync(0xFFFFFFFFu, x, d, 32);
  return x;
}

// Maximum and its lowest place in a block: by value, then by index. NaN takes no part. Same in every thread.
DEVICE Best block_best(Best mine, Best* shared) {
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) {
    Best other = {__shfl_xor_sync(0xFFFFFFFFu, mine.value, d), __shfl_xor_sync(0xFFFFFFFFu, mine.id, d)};
    if (other.value > mine.value || (other.value == mine.value && other.id < mine.id)) mine = other;
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = mine;
  __syncthreads();
  for (u32 w = 0; w < blockDim.x / 32; w++) {
    Best other = shared[w];
    if (other.value > mine.value || (other.value == mine.value && other.id < mine.id)) mine = other;
  }
  __syncthreads();
  return mine;
}

// `Z` and `W` of a chunk relative to the row's maximum instead of its own.
DEVICE void rebase(float from, float to, double& z, double& w) {
  double d = (double)from - (double)to, scale = exp(d);
  if (scale == 0.0 || z == 0.0) {
    z = w = 0.0;  // where the scale vanishes, d may be infinite
  } else {
    w = scale * (w + d * z);
    z = scale * z;
  }
}

// One step of the policy with entropy `h` (f32 in f64), and the decision. The arithmetic of src/controller, in its order.
DEVICE void take_step(const Policy& policy, State& state, double* window, double h, Decision& decision) {
  const bool boundary = state.boundary_ahead != 0;
  state.step_index += boundary;
  const u64 step_count = boundary ? 0 : state.step_count;
  const double step_total = boundary ? 0.0 : state.step_total;
  const u64 size = policy.window, held = state.count < size ? state.count : size;
  const double oldest = held == size ? window[state.count % size] : 0.0;
  const double window_next = held < size ? state.window_total + h : state.window_total + h - oldest;
  double step_entropy;
  if (state.count == 0) {
    step_entropy = h;
  } else if (step_count < size) {
    step_entropy = policy.include_current ? window_next / (double)(held < size ? held + 1 : size) : state.window_total / (double)held;
  } else {
    step_entropy = policy.include_current ? (step_total + h) / (double)(step_count + 1) : step_total / (double)step_count;
  }
  const double global_mean = state.count == 0 ? step_entropy : state.total / (double)state.count;
  const double nan = __longlong_as_double(0x7FF8000000000000ll);
  decision.uncertain = 0;
  decision.threshold = decision.step_entropy = decision.global_mean = nan;
  if (policy.kind == POLICY_FIXED) {
    decision.temperature = policy.t_high;
  } else if (policy.kind == POLICY_THRESHOLD) {
    decision.threshold = policy.tau_0;
    decision.temperature = h >= policy.tau_0 ? policy.t_high : policy.t_low;
  } else {
    decision.uncertain = step_entropy > global_mean;
    decision.threshold = decision.uncertain ? step_entropy : policy.tau_0;
    decision.temperature = h >= decision.threshold ? policy.t_high : policy.t_low;
    decision.step_entropy = step_entropy;
    decision.global_mean = global_mean;
  }
  decision.entropy = h;
  decision.boundary = boundary;
  decision.step_index = state.step_index;
  // The sums after this token.
  state.total += h;
  state.step_total = step_total + h;
  state.step_count = step_count + 1;
  state.window_total = window_next;
  window[state.count % size] = h;
  state.count += 1;
  state.boundary_ahead = 0;
}

extern "C" __global__ __launch_bounds__(256) void logits_decide(const float* logits, const u32* __restrict__ bans, Partial* partials,
                                                                u32* arrivals, const Policy* parameters, State* states, double* windows,
                                                                u32 most_window, Decision* decisions, u32 vocab) {
  __shared__ float terms[CHUNK], products[CHUNK];  // exp(x - m) and x - m; padding and -inf have 0 and -88
  __shared__ double rests[64];
  __shared__ Best shared[8];
  __shared__ u32 last;
  allow_next();
  wait_for_previous();
  const u32 row = blockIdx.y, chunks = gridDim.x, first = blockIdx.x * CHUNK, count = smaller(CHUNK, vocab - first);
  if (parameters[row].kind == POLICY_IDLE) return;
  const u32* const banned = banned_of(bans, row, vocab);
  const float* x = logits + (u64)row * vocab + first;
  const float none = from_bits(0xFF800000u);

  float mine[CHUNK / 256];
  Best best = {none, 0xFFFFFFFFu}, allowed = best;
  bool broken = false;
  #pragma unroll
  for (u32 i = 0; i < CHUNK / 256; i++) {
    const u32 at = threadIdx.x + 256 * i;
    mine[i] = at < count ? x[at] : none;
    const u32 id = first + at;
    broken |= !(mine[i] < from_bits(0x7F800000u));  // NaN or +inf
    if (mine[i] > best.value) best = {mine[i], id};
    if (mine[i] > allowed.value && !is_banned(banned, id)) allowed = {mine[i], id};
  }
  best = block_best(best, shared);
  allowed = block_best(allowed, shared);
  const bool some_broken = __syncthreads_or(broken);
  u32 ties = 0;
  #pragma unroll
  for (u32 i = 0; i < CHUNK / 256; i++) {
    const u32 at = threadIdx.x + 256 * i;
    float d = mine[i] - best.value;
    if (!(d >= -88.0f)) d = -88.0f;
    float e = exp_logit(d);
    ties += at < count && mine[i] == best.value;
    terms[at] = e;
    products[at] = d;
  }
  ties = (u32)__syncthreads_count(ties & 1) + 2 * (u32)__syncthreads_count(ties >> 1 & 1) + 4 * (u32)__syncthreads_count(ties >> 2 & 1) +
         8 * (u32)__syncthreads_count(ties >> 3 & 1);
  if (threadIdx.x >= 32 && threadIdx.x < 96) {
    // What lies beside the maximum, in the 64 chains of simd::logits' `mass`.
    float rest = 0.0f;
    #pragma unroll 8
    for (u32 at = threadIdx.x - 32; at < CHUNK; at += 64) rest = __fadd_rn(rest, products[at] < 0.0f ? terms[at] : 0.0f);
    rests[threadIdx.x - 32] = (double)rest;
  }
  double z = 0.0, w = 0.0;
  if (threadIdx.x < 32) {
    // The sixteen chains of its `partial`; the other half of the warp runs along.
    float sum = 0.0f, weighted = 0.0f;
    #pragma unroll 8
    for (u32 at = threadIdx.x % 16; at < CHUNK; at += 16) {
      sum = __fadd_rn(sum, terms[at]);
      weighted = fmaf(products[at], terms[at], weighted);
    }
    z = half_sum((double)sum, 16), w = half_sum((double)weighted, 16);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    double r = half_sum(rests[threadIdx.x] + rests[threadIdx.x + 32], 32);
    if (threadIdx.x == 0) {
      Partial& to = partials[(u64)row * chunks + blockIdx.x];
      bool empty = best.value == none;
      to = {empty ? 0.0 : z, empty ? 0.0 : w, r, best.value, allowed.value, best.id, allowed.id, ties, some_broken};
    }
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&arrivals[row], 1) == chunks - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();

  // The row's last block joins the chunks, in one warp.
  if (threadIdx.x >= 32) return;
  const Partial* parts = partials + (u64)row * chunks;
  best = {none, 0xFFFFFFFFu};
  allowed = best;
  u32 wrong = 0xFFFFFFFFu, peak = 0;
  for (u32 i = threadIdx.x; i < chunks; i += 32) {
    Partial part = load_partial(parts + i);
    if (part.broken) wrong = smaller(wrong, i);
    if (part.max > best.value) best = {part.max, part.id}, peak = i;
    if (part.allowed_max > allowed.value) allowed = {part.allowed_max, part.allowed_id};
  }
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) {
    Best a = {__shfl_xor_sync(0xFFFFFFFFu, best.value, d), __shfl_xor_sync(0xFFFFFFFFu, best.id, d)};
    Best b = {__shfl_xor_sync(0xFFFFFFFFu, allowed.value, d), __shfl_xor_sync(0xFFFFFFFFu, allowed.id, d)};
    u32 other_peak = __shfl_xor_sync(0xFFFFFFFFu, peak, d), other_wrong = __shfl_xor_sync(0xFFFFFFFFu, wrong, d);
    if (a.value > best.value || (a.value == best.value && a.id < best.id)) best = a, peak = other_peak;
    if (b.value > allowed.value || (b.value == allowed.value && b.id < allowed.id)) allowed = b;
    wrong = smaller(wrong, other_wrong);
  }
  double others = 0.0, weighted = 0.0;
  for (u32 i = threadIdx.x; i < chunks; i += 32) {
    Partial part = load_partial(parts + i);
    double z = part.sum, w = part.weighted;
    if (i != peak) rebase(part.max, best.value, z, w), others += z, weighted += w;
  }
  others = warp_sum_f64(others), weighted = warp_sum_f64(weighted);
  // The k-th largest of the chunks' maxima is not above the k-th largest logit.
  float bound = from_bits(0xFF7FFFFFu);
  const u32 top_k = parameters[row].top_k;
  if (top_k != 0 && top_k <= chunks) {
    for (u32 i = threadIdx.x; i < chunks; i += 32) {
      const float own = __ldcg(&parts[i].allowed_max);
      u32 above = 0;
      for (u32 j = 0; j < chunks; j++) {
        const float other = __ldcg(&parts[j].allowed_max);
        above += other > own || (other == own && j < i);
      }
      if (above == top_k - 1) bound = fmaxf(bound, own);
    }
    bound = warp_max(bound);
  }
  if (threadIdx.x != 0) return;
  arrivals[row] = 0;
  Partial top = load_partial(parts + peak);
  Decision decision;
  decision.status = wrong != 0xFFFFFFFFu ? STATUS_BROKEN : allowed.value == none ? STATUS_EMPTY : STATUS_OK;
  decision.max = best.value;
  decision.allowed_max = allowed.value;
  decision.allowed_argmax = allowed.id;
  // The chunk with the maximum counts what it holds beside it: Z - 1 may be next to nothing, and is the whole answer then.
  const double excess = others + ((double)top.ties - 1.0) + top.rest, log_partition = log1p(excess);
  const double entropy = log_partition - (weighted + top.weighted) / (1.0 + excess);
  decision.log_partition = log_partition;
  decision.bound = bound;
  decision.from = from_bits(0xFF7FFFFFu);
  decision.reserved[0] = decision.reserved[1] = 0;
  if (decision.status == STATUS_OK) {
    const float rounded = (float)(entropy > 0.0 ? entropy : 0.0);
    take_step(parameters[row], states[row], windows + (u64)row * most_window, (double)rounded, decision);
  } else {
    decision.temperature = 0.0;
    decision.entropy = decision.threshold = decision.step_entropy = decision.global_mean = __longlong_as_double(0x7FF8000000000000ll);
    decision.boundary = decision.uncertain = 0;
    decision.step_index = states[row].step_index;
  }
  decisions[row] = decision;
}
