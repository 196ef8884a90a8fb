// Filters: top-k, then top-p, then min-p, as the smallest logit that is kept. Nothing is sorted.
//
//   top-k   keeps the k largest logits and those equal to the last of them
//   top-p   keeps logits downwards until their mass Σ exp((x - max) / T) reaches p of all (that is left), and those equal to the last
//   min-p   keeps x >= max + T · ln min_p
//
// The logits that can matter are collected (all that are at least `bound` for top-k; all but a tail of mass 1 - p for top-p, whose mass is
// summed), and the row's last block selects among them by the bits of the floats, eight at a time. Masses are added as integers in units of
// 2^-44 of the largest one, so the order of additions does not matter, and the result depends on the row alone.
//
// Layouts   logits [rows][vocab] f32; banned: logits.cu; parameters, decisions: sampling.cuh; decisions[row].from is written
//           candidates [rows][vocab] f32; counts [rows] u32 and tails [rows][chunks] f64; counts and arrivals are zeros at first and afterwards
// Launch    grid (chunks, rows), 256 threads, no dynamic shared memory; chunks = ceil(vocab / 2048). Rows without filters return at once.
// Oracle    src/sampler: the same smallest logit, unless the sums that decide it differ by less than 2^-26 (all ids' rounding together).

#include "sampling.cuh"

constexpr double UNIT = 17592186044416.0;  // 2^44

// Bits that order as the floats do.
DEVICE u32 key_of(float x) {
  u32 bits = to_bits(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float value_of(u32 key) { return from_bits(key & 0x80000000u ? key ^ 0x80000000u : ~key); }

DEVICE u64 warp_sum_u64(u64 x) {
  #pragma unroll
  for (u32 d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
  return x;
}

// The largest key at which the weights of keys from there upwards reach `target`; the smallest key of all if they never do. `weight(x)` is an integer;
// `least` bounds the keys that count. All 256 threads call it; `bins` and `seen` are shared.
template <typename Weight>
DEVICE u32 select(const float* candidates, u32 count, u32 least, u64 target, u64* bins, u32* seen, u32* choice, u64* above, Weight weight) {
  u32 prefix = 0;
  if (threadIdx.x == 0) *above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    bins[threadIdx.x] = 0, seen[threadIdx.x] = 0;
    __syncthreads();
    // Logits that matter share their first bits, and 64-bit atomics on one word of shared memory wait for each other: where a warp's
    // candidates meet in one bin, it adds them up by itself first. `seen` says that there are ids at all: a weight may be zero.
    for (u32 at = 0; at < count; at += blockDim.x) {
      const u32 i = at + threadIdx.x;
      const float x = i < count ? __ldcg(candidates + i) : 0.0f;
      const u32 key = key_of(x), bin = key >> shift & 255u;
      const bool here = i < count && key >= least && (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8));
      const u32 all = __ballot_sync(0xFFFFFFFFu, here);
      if (!all) continue;
      const u32 leader = __ffs(all) - 1, common = __shfl_sync(0xFFFFFFFFu, bin, leader);
      u64 w = here ? weight(x) : 0;
      if (!__ballot_sync(0xFFFFFFFFu, here && bin != common)) {
        w = warp_sum_u64(w);
        if (threadIdx.x % 32 == leader) atomicAdd(&bins[common], w), seen[common] = 1;
      } else if (here) {
        atomicAdd(&bins[bin], w), seen[bin] = 1;
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      u32 chosen = 256, lowest = 0;
      u64 sum = *above;
      for (int bin = 255; bin >= 0; bin--) {
        if (!seen[bin]) continue;
        lowest = bin;
        if (sum + bins[bin] >= target) {
          chosen = bin;
          break;
        }
        sum += bins[bin];
      }
      if (chosen == 256) chosen = lowest, sum -= bins[lowest];
      *choice = chosen;
      *above = sum;
    }
    __syncthreads();
    prefix |= *choice << shift;
    __syncthreads();
  }
  return prefix;
}

extern "C" __global__ __launch_bounds__(256, 4) void narrow(const float* logits, const u32* __restrict__ bans, const Policy* parameters,
                                                         Decision* decisions, float* candidates, u32* counts, double* tails,
                                                         u32* arrivals, u32 vocab) {
  __shared__ u64 bins[256], above;
  __shared__ double sums[8];
  __shared__ u32 seen[256], choice, last, base;
  allow_next();
  wait_for_previous();
  const u32 row = blockIdx.y, chunks = gridDim.x, first = blockIdx.x * CHUNK, count = smaller(CHUNK, vocab - first);
  const Policy policy = parameters[row];
  if (policy.kind == POLICY_IDLE) return;
  const u32* const banned = banned_of(bans, row, vocab);
  Decision* const decision = decisions + row;
  const double temperature = decision->temperature;
  const float max = decision->allowed_max, lowest = from_bits(0xFF7FFFFFu);
  if (decision->status != STATUS_OK || temperature <= GREEDY_TEMPERATURE) return;
  const bool by_rank = policy.top_k != 0 && policy.top_k < vocab, by_mass = policy.top_p < 1.0 && policy.top_p > 0.0;
  const double depth = log((double)vocab / (1.0 - policy.top_p)) + 1e-3;
  const float least = by_rank ? decision->bound : by_mass ? behind(max, temperature, depth) : lowest;

  if (by_rank || by_mass) {
    const float* x = logits + (u64)row * vocab + first;
    float* to = candidates + (u64)row * vocab;
    const float scale = (float)(1.0 / temperature);
    double tail = 0.0;
    for (u32 round = 0; round < CHUNK; round += 256) {
      const u32 at = round + threadIdx.x;
      const bool there = at < count && !is_banned(banned, first + at);
      const float v = there ? x[at] : from_bits(0xFF800000u);
      const bool taken = v >= least;
      const u32 ballot = __ballot_sync(0xFFFFFFFFu, taken);
      u32 place = 0;
      if (threadIdx.x % 32 == 0 && ballot) place = atomicAdd(&counts[row], __popc(ballot));
      place = __shfl_sync(0xFFFFFFFFu, place, 0);
      if (taken) to[place + __popc(ballot & ((1u << threadIdx.x % 32) - 1))] = v;
      if (!taken && v >= lowest) tail += (double)exp_logit(fmaxf((v - max) * scale, -88.0f));
    }
    tail = block_sum_f64(tail, sums);
    if (threadIdx.x == 0) tails[(u64)row * chunks + blockIdx.x] = tail;
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&arrivals[row], 1) == chunks - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();

  float from = lowest;
  if (by_rank || by_mass) {
    if (threadIdx.x == 0) base = atomicExch(&counts[row], 0);
    __syncthreads();
    const u32 found = base;
    const float* list = candidates + (u64)row * vocab;
    if (by_rank && policy.top_k <= found) from = fmaxf(from, value_of(select(list, found, 0, policy.top_k, bins, seen, &choice, &above, [](float) { return 1ull; })));
    if (by_mass) {
      const double inverse = 1.0 / temperature;
      auto weight = [&](float v) { return __double2ull_rn(exp(((double)v - (double)max) * inverse) * UNIT); };
      u64 total = 0;
      const u32 kept = key_of(from);
      // Integers: any order of adding gives the same sum.
      if (threadIdx.x == 0) bins[0] = 0;
      __syncthreads();
      for (u32 i = threadIdx.x; i < found; i += blockDim.x) {
        const float v = __ldcg(list + i);
        if (key_of(v) >= kept) total += weight(v);
      }
      total = warp_sum_u64(total);
      if (threadIdx.x % 32 == 0) atomicAdd(&bins[0], total);
      __syncthreads();
      total = bins[0];
      __syncthreads();
      double rest = 0.0;
      if (!by_rank) {
        for (u32 i = 0; i < chunks; i += 8) {  // chunks in order; their loads do not wait for each other
          double part[8];
          #pragma unroll
          for (u32 n = 0; n < 8; n++) part[n] = i + n < chunks ? __ldcg(tails + (u64)row * chunks + i + n) : 0.0;
          #pragma unroll
          for (u32 n = 0; n < 8; n++) rest += part[n];
        }
      }
      const u64 target = __double2ull_ru(policy.top_p * ((double)total + rest * UNIT));
      from = fmaxf(from, value_of(select(list, found, kept, target, bins, seen, &choice, &above, weight)));
    }
  }
  if (threadIdx.x != 0) return;
  arrivals[row] = 0;
  if (policy.top_p <= 0.0) from = max;
  if (policy.min_p > 0.0) {
    const double exact = (double)max + temperature * log(policy.min_p);
    float near = (float)exact;
    if ((double)near < exact) near = nextafterf(near, from_bits(0x7F800000u));
    from = fmaxf(from, near);
  }
  decision->from = fminf(from, max);
}
