// A device made of fibers: each block of a launch runs to its end before the next begins, its threads taking turns.
//
// FAKE_CUDA_ORDER changes what a card leaves open, so that what a kernel forgot to wait for shows: `reverse` runs threads and blocks from
// the last to the first; `late` copies asynchronously at the last moment instead of the first. Shared memory is poisoned before each
// block. Threads that wait for ones that never come end the process with a word.
#include "device.hpp"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <mutex>
#include <vector>

Dim threadIdx, blockIdx, blockDim, gridDim;
Kernel* kernels;

// Saves the callee's registers and the place, and goes on at another.
extern "C" void change_place(void** save, void* to);
asm(R"(
.text
.globl change_place
.hidden change_place
change_place:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
)");

namespace {

constexpr size_t STACK = 64 << 10;

struct Fiber {
  void* place;
  bool done;
  u32 groups;                                       // committed
  std::vector<std::pair<u32, Copy>> copies;         // group, copy
};
struct Warp {
  u32 arrived, generation, alive;
  u64 values[2][32];
  u32 words[2][32][6];
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<Copy> bulk;  // of the block, not done yet
char* stacks;
void* scheduler;
u32 current, block_arrived, block_generation, block_alive, block_sum, block_result[2], events;
const Kernel* running;
void** running_arguments;
bool late;

void done(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.bytes);
  if (copy.barrier) ++*copy.barrier;
}
void close_block() {
  if (block_alive == 0 || block_arrived < block_alive) return;
  block_result[block_generation & 1] = block_sum;
  block_arrived = block_sum = 0;
  block_generation++;
}
void close_warp(Warp& warp) {
  if (warp.alive == 0 || warp.arrived < warp.alive) return;
  warp.arrived = 0;
  warp.generation++;
}
void body() {
  running->call(running->function, running_arguments);
  Fiber& fiber = fibers[current];
  fiber.done = true;
  events++;
  for (auto& [group, copy] : fiber.copies) done(copy);
  fiber.copies.clear();
  block_alive--, warps[current / 32].alive--;
  close_block();
  close_warp(warps[current / 32]);
  yield();
}

void run_block(u32 threads, bool reverse) {
  fibers.resize(threads);
  warps.assign(threads / 32, Warp());
  for (Warp& warp : warps) warp.alive = 32;
  block_arrived = block_generation = block_sum = 0, block_alive = threads;
  for (u32 i = 0; i < threads; i++) {
    void** top = (void**)(stacks + (i + 1) * STACK) - 2;
    *top = (void*)body;  // where the first change of place returns to; the stack is aligned as after a call
    fibers[i].place = top - 6;
    fibers[i].done = false, fibers[i].groups = 0;
  }
  u32 quiet = 0;
  for (u32 left = threads; left > 0;) {
    const u32 before = events;
    left = 0;
    for (u32 i = 0; i < threads; i++) {
      current = reverse ? threads - 1 - i : i;
      if (fibers[current].done) continue;
      threadIdx = {current, 0, 0};
      change_place(&scheduler, fibers[current].place);
      left += !fibers[current].done;
    }
    quiet = events == before ? quiet + 1 : 0;
    if (quiet > 2) fail("threads wait for ones that never come");
  }
  bulk.clear();
}

}  // namespace

void fail(const char* what) {
  fprintf(stderr, "kernel %s, block (%u, %u, %u), thread %u: %s\n", running->name, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, what);
  abort();
}
void yield() { change_place(&fibers[current].place, scheduler); }

u32 meet_block(u32 value) {
  const u32 mine = block_generation;
  block_sum += value, block_arrived++, events++;
  close_block();
  while (block_generation == mine) yield();
  return block_result[mine & 1];
}
static u32 meet_warp(Warp& warp) {
  const u32 mine = warp.generation;
  warp.arrived++, events++;
  close_warp(warp);
  while (warp.generation == mine) yield();
  return mine & 1;
}
const u64* exchange(u64 value) {
  Warp& warp = warps[current / 32];
  warp.values[warp.generation & 1][current % 32] = value;
  return warp.values[meet_warp(warp)];
}
const u32 (*exchange_words(const u32 (&words)[6]))[6] {
  Warp& warp = warps[current / 32];
  memcpy(warp.words[warp.generation & 1][current % 32], words, sizeof words);
  return warp.words[meet_warp(warp)];
}

void start_copy(Copy copy) {
  if (!late) return done(copy);
  if (copy.barrier) bulk.push_back(copy);
  else fibers[current].copies.push_back({fibers[current].groups, copy});
}
void finish_copies(u64* barrier) {
  for (size_t i = 0; i < bulk.size();) {
    if (bulk[i].barrier == barrier) done(bulk[i]), bulk.erase(bulk.begin() + i), events++;
    else i++;
  }
}
void commit_copies() { fibers[current].groups++; }
void finish_copies_but(u32 groups) {
  Fiber& fiber = fibers[current];
  size_t kept = 0;
  for (auto& entry : fiber.copies) {
    if (entry.first + groups < fiber.groups) done(entry.second);
    else fiber.copies[kept++] = entry;
  }
  fiber.copies.resize(kept);
}

extern "C" {
extern char __start_shared_memory[] __attribute__((visibility("hidden")));
extern char __stop_shared_memory[] __attribute__((visibility("hidden")));

const Kernel* kernel_named(const char* name) {
  for (Kernel* k = kernels; k; k = k->next) if (!strcmp(k->name, name)) return k;
  return 0;
}
int kernel_arguments(const Kernel* k, const unsigned** sizes) { *sizes = k->sizes; return k->count; }

// Runs a launch to its end.
void run_kernel(const Kernel* kernel, void** arguments, const u32 blocks[3], u32 threads, u32 shared_bytes) {
  static std::mutex one;
  std::lock_guard<std::mutex> guard(one);
  if (!stacks) stacks = (char*)aligned_alloc(4096, 1024 * STACK);
  const char* order = getenv("FAKE_CUDA_ORDER");
  const bool reverse = order && !strcmp(order, "reverse");
  late = order && !strcmp(order, "late");
  running = kernel, running_arguments = arguments;
  gridDim = {blocks[0], blocks[1], blocks[2]}, blockDim = {threads, 1, 1};
  if (threads % 32) fail("a block of broken warps");
  if (shared_bytes && !kernel->shared) fail("dynamic shared memory for a kernel that has none");
  const u64 count = (u64)blocks[0] * blocks[1] * blocks[2];
  for (u64 n = 0; n < count; n++) {
    const u64 b = reverse ? count - 1 - n : n;
    blockIdx = {(u32)(b % blocks[0]), (u32)(b / blocks[0] % blocks[1]), (u32)(b / blocks[0] / blocks[1])};
    memset(__start_shared_memory, 0xA5, __stop_shared_memory - __start_shared_memory);
    if (kernel->shared) memset(kernel->shared, 0xA5, shared_bytes + 64);
    run_block(threads, reverse);
    for (u32 i = 0; kernel->shared && i < 64; i++) {
      if (((u8*)kernel->shared)[shared_bytes + i] != 0xA5) fail("it wrote beyond its shared memory");
    }
  }
}
}
