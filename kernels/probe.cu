// What a card and its driver really do: how fast memory is copied, what a node of a graph costs, whether records reach the host.
//
// Used by `reset-nvfp4 bench device` and by the checks on a card; every other figure is read against these. No header is included.

typedef unsigned int u32;
typedef unsigned long long u64;

// A kernel launched with overlap begins before the one ahead of it in the stream has ended: it lets its own successor begin, then waits
// until everything ahead is done and visible. On cards before compute capability 9.0 kernels never overlap, and both are nothing.
static __device__ __forceinline__ void let_the_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

static __device__ __forceinline__ void wait_for_the_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// to[i] = from[i], i < count, in elements of 16 bytes.
// Launch: one dimension, any size; each thread steps by the grid's size.   Oracle: a copy on the host.
extern "C" __global__ void probe_copy(uint4* __restrict__ to, const uint4* __restrict__ from, u64 count) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) to[i] = from[i];
}

// sums[b] = xor of the words that block b reads: the same reading without the writing.
// Launch: one dimension, blocks of a multiple of 32 threads; sums has a word per block, zero beforehand.   Oracle: xor on the host.
extern "C" __global__ void probe_read(u32* __restrict__ sums, const uint4* __restrict__ from, u64 count) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    u32 sum = 0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const uint4 v = from[i];
        sum ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    atomicXor(&sums[blockIdx.x], sum);
}

// counter[0] += 1, by one thread: N launches in a row leave N only if each waited for the one before.
// Launch: any grid; with or without overlap.   Oracle: the number of launches.
extern "C" __global__ void probe_chain(u32* counter) {
    let_the_next_begin();
    wait_for_the_last();
    if (blockIdx.x == 0 && threadIdx.x == 0) counter[0] = counter[0] + 1;
}

// One record per row into the ring, then the step counted up: a decode step's way back to the host (src/backend/cuda/ring.rs).
//   ring  [slots][rows][words] u64 in the host's memory; the upper half of a record's last word is its serial, written last
//   step  [1]: steps done before this one
// Launch: one block, at least `rows` threads; with or without overlap.
// Oracle: word w of row r at step s is s << 16 | r << 8 | w in its lower half, and in the upper half of the last one s + 1.
extern "C" __global__ void probe_ring(u32* ring, u64* step, u32 slots, u32 rows, u32 words) {
    let_the_next_begin();
    wait_for_the_last();
    const u64 s = step[0];
    const u32 row = threadIdx.x;
    if (row < rows) {
        u32* record = ring + ((s % slots) * rows + row) * words * 2;
        for (u32 w = 0; w < words; w++) {
            record[2 * w] = (u32)s << 16 | row << 8 | w;
            if (w + 1 < words) record[2 * w + 1] = 0;
        }
        // The serial says that the words are there, so the host must see it after them.
        asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(record + 2 * words - 1), "r"((u32)s + 1) : "memory");
    }
    __syncthreads();
    if (threadIdx.x == 0) step[0] = s + 1;
}
