// A stand-in for NVIDIA's driver: the entries that the crate calls, over the host's memory. Kernels run when their launch is put into a
// stream, so that everything but the card is exercised: the order and types of arguments, capture and replay, copies, the ring, errors, and
// that what was made is freed. Those of kernels/probe.cu are written here once more in C; linked with device.cpp and the text of the other
// kernels, it runs them too. Each allocation ends at a page that may not be touched.
//
//   cc -shared -fPIC -o libcuda.so driver.c          -DLACKS leaves one entry out, as an incomplete driver would
//
// FAKE_CUDA names a fault: old, no_device, mismatch, fork, small (allocations above 1 MiB fail), image (no cubin loads), image_once
// (the first does not), lost (a launch fails), no_overlap (edges lose what was asked for), no_edges (a graph's edges are not told), stuck (to
// wait is to wait for ever). From launch FAKE_CUDA_LAUNCHES on of graphs whose first kernel is called FAKE_CUDA_KERNEL…: hangs (its kernels never end, and nothing that waits
// for them comes back), dies (they fault, which the next call to look at the stream learns), forgets (they run and write nothing).
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int R;
typedef uint64_t u64;
typedef uint32_t u32;
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, BAD_DEVICE = 101, BAD_IMAGE = 200, NOT_FOUND = 500,
       MISMATCH = 803, NOT_READY = 600, LOST = 700, FAULTED = 719, MISUSE = 900 };

static int initialized, bound, alive; // alive: objects made and not yet destroyed
static int fault(const char* name) { const char* f = getenv("FAKE_CUDA"); return f && !strcmp(f, name); }

__attribute__((destructor)) static void report(void) {
    const char* path = getenv("FAKE_CUDA_ALIVE");
    FILE* file = path ? fopen(path, "w") : 0;
    if (file) { fprintf(file, "%d\n", alive); fclose(file); }
}

R cuInit(unsigned flags) {
    if (fault("mismatch")) return MISMATCH;
    if (fault("fork")) return NOT_INITIALIZED;
    initialized = flags == 0;
    return OK;
}
R cuDriverGetVersion(int* v) { *v = fault("old") ? 11040 : 13000; return OK; }
R cuGetErrorName(R e, const char** s) { (void)e; *s = "CUDA_ERROR"; return OK; }
R cuGetErrorString(R e, const char** s) { *s = e == NO_MEMORY ? "out of memory" : e == BAD_IMAGE ? "device kernel image is invalid" : "some words"; return OK; }
R cuDeviceGetCount(int* n) { if (!initialized) return NOT_INITIALIZED; *n = fault("no_device") ? 0 : 2; return OK; }
R cuDeviceGet(int* d, int ordinal) { if (ordinal < 0 || ordinal > 1) return BAD_DEVICE; *d = ordinal; return OK; }
R cuDeviceGetName(char* s, int n, int d) { snprintf(s, n, "Fake %d", d); return OK; }
R cuDeviceTotalMem_v2(size_t* n, int d) { *n = (size_t)(141 - d) << 30; return OK; }
R cuDeviceGetAttribute(int* v, int a, int d) {
    switch (a) {
        case 75: *v = d == 0 ? 9 : 7; break;  // compute capability
        case 76: *v = d == 0 ? 0 : 5; break;
        case 16: *v = 4; break;               // multiprocessors
        case 97: *v = 227 << 10; break;       // shared memory of a block
        case 81: *v = 228 << 10; break;       // of a multiprocessor
        case 38: *v = 60 << 20; break;        // second-level cache
        default: return INVALID;
    }
    return OK;
}
R cuDevicePrimaryCtxRetain(void** c, int d) { *c = (void*)(uintptr_t)(0xC0 + d); alive++; return OK; }
R cuDevicePrimaryCtxRelease_v2(int d) { (void)d; alive--; return OK; }
R cuCtxSetCurrent(void* c) { bound = c != 0; return bound ? OK : INVALID; }

// How far the device has come: all is well, its kernels never end, or they have faulted.
static enum { WELL, HUNG, DEAD } state;
static R come_to_rest(void) {
    while (state == HUNG || fault("stuck")) pause();
    return state == DEAD ? FAULTED : OK;
}
R cuCtxSynchronize(void) { return bound ? come_to_rest() : INVALID; }

R cuMemGetInfo_v2(size_t* f, size_t* t) { *f = (size_t)1 << 28; *t = (size_t)141 << 30; return OK; }
R cuMemAlloc_v2(u64* p, size_t n) {
    if (n == 0 || !bound) return INVALID;
    const size_t whole = (n + 15) / 16 * 16, pages = (whole + 32 + 4095) / 4096 * 4096;
    char* m = fault("small") && n > 1 << 20 ? MAP_FAILED : mmap(0, pages + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return NO_MEMORY;
    mprotect(m + pages, 4096, PROT_NONE);
    char* at = m + pages - whole;
    memset(at, 0xA5, n); // nothing is zero by chance
    ((size_t*)at)[-1] = pages, ((char**)at)[-2] = m;
    alive++; *p = (u64)(uintptr_t)at; return OK;
}
R cuMemFree_v2(u64 p) {
    if (come_to_rest()) return FAULTED; // a fault's context frees nothing
    const size_t pages = ((size_t*)(uintptr_t)p)[-1];
    munmap(((char**)(uintptr_t)p)[-2], pages + 4096);
    alive--; return OK;
}
R cuMemHostAlloc(void** p, size_t n, unsigned flags) { if (flags != 3) return INVALID; *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096); memset(*p, 0xA5, n); alive++; return OK; }
R cuMemFreeHost(void* p) { if (come_to_rest()) return FAULTED; free(p); alive--; return OK; }
R cuMemHostGetDevicePointer_v2(u64* d, void* p, unsigned f) { (void)f; *d = (u64)(uintptr_t)p; return OK; }

// Streams run what they are given at once, or note it down while they capture.
typedef struct Kernel Kernel;
// Of device.cpp, where it is linked in.
__attribute__((weak)) const Kernel* kernel_named(const char* name);
__attribute__((weak)) int kernel_arguments(const Kernel* kernel, const unsigned** sizes);
__attribute__((weak)) void run_kernel(const Kernel* kernel, void** arguments, const u32 blocks[3], u32 threads, u32 shared_bytes);

enum { WORDS = 64, ARGUMENTS = 40 };
typedef struct { char entry[32]; const Kernel* kernel; u64 words[WORDS]; u32 starts[ARGUMENTS], blocks[3], threads, shared; int overlap; } Launch;
typedef struct { Launch* list; size_t n; int refused; } Graph;
typedef struct { Graph* capture; int waits; } Stream; // waits: for an event, before the next kernel
static R busy(Stream* s) { if (s && s->capture) { s->capture->refused = 1; return MISUSE; } return OK; }

R cuMemsetD8Async(u64 p, unsigned char v, size_t n, Stream* s) { if (busy(s)) return MISUSE; memset((void*)(uintptr_t)p, v, n); return OK; }
R cuMemcpyHtoDAsync_v2(u64 d, const void* p, size_t n, Stream* s) { if (busy(s)) return MISUSE; memcpy((void*)(uintptr_t)d, p, n); return OK; }
R cuMemcpyDtoHAsync_v2(void* p, u64 d, size_t n, Stream* s) { if (busy(s)) return MISUSE; memcpy(p, (void*)(uintptr_t)d, n); return OK; }
R cuMemcpyDtoDAsync_v2(u64 d, u64 p, size_t n, Stream* s) { if (busy(s)) return MISUSE; memcpy((void*)(uintptr_t)d, (void*)(uintptr_t)p, n); return OK; }

R cuStreamCreate(Stream** s, unsigned f) { if (f != 1) return INVALID; *s = calloc(1, sizeof(Stream)); alive++; return OK; }
R cuStreamDestroy_v2(Stream* s) { free(s); alive--; return OK; }
R cuStreamSynchronize(Stream* s) { return busy(s) ? MISUSE : come_to_rest(); }
R cuStreamQuery(Stream* s) { return busy(s) ? MISUSE : state == HUNG ? NOT_READY : state == DEAD ? FAULTED : OK; }
R cuStreamWaitEvent(Stream* s, void* e, unsigned f) { (void)f; if (s) s->waits = 1; return e ? OK : INVALID; }
R cuStreamBeginCapture_v2(Stream* s, int mode) { if (s->capture || mode != 1) return MISUSE; s->capture = calloc(1, sizeof(Graph)); return OK; }
R cuStreamEndCapture(Stream* s, Graph** g) {
    Graph* made = s->capture;
    s->capture = 0;
    if (!made) return MISUSE;
    if (made->refused) { free(made->list); free(made); *g = 0; return 901; }
    alive++; *g = made; return OK;
}

typedef struct { double at; } Event;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
R cuEventCreate(Event** e, unsigned f) { (void)f; *e = calloc(1, sizeof(Event)); alive++; return OK; }
R cuEventDestroy_v2(Event* e) { free(e); alive--; return OK; }
R cuEventRecord(Event* e, Stream* s) { (void)s; e->at = now(); return OK; }
R cuEventSynchronize(Event* e) { (void)e; return come_to_rest(); }
R cuEventQuery(Event* e) { return e->at == 0 ? OK : state == HUNG ? NOT_READY : state == DEAD ? FAULTED : OK; } // one that marks nothing has passed
R cuEventElapsedTime(float* ms, Event* a, Event* b) { *ms = (float)(1e3 * (b->at - a->at)); return OK; }

typedef struct { int arguments; char entry[32]; const Kernel* kernel; u32 shared; } Function;
static const Function KERNELS[] = {{3, "probe_copy"}, {3, "probe_read"}, {1, "probe_chain"}, {5, "probe_ring"}};
static Function others[64];
R cuModuleLoadData(void** m, const void* image) {
    static int loads;
    if (fault("image") || (fault("image_once") && loads++ == 0)) return BAD_IMAGE;
    if (memcmp(image, "\x7f" "ELF", 4)) return BAD_IMAGE;
    *m = malloc(1); alive++; return OK;
}
R cuModuleUnload(void* m) { free(m); alive--; return OK; }
R cuModuleGetFunction(const Function** f, void* m, const char* name) {
    (void)m;
    for (int i = 0; i < 4; i++) if (!strcmp(KERNELS[i].entry, name)) { *f = &KERNELS[i]; return OK; }
    const Kernel* kernel = kernel_named ? kernel_named(name) : 0;
    if (!kernel) return NOT_FOUND;
    Function* own = others;
    while (own->kernel && own->kernel != kernel) own++;
    const unsigned* sizes;
    own->arguments = kernel_arguments(kernel, &sizes), own->kernel = kernel;
    snprintf(own->entry, sizeof own->entry, "%s", name);
    *f = own;
    return OK;
}
R cuFuncGetAttribute(int* v, int a, const Function* f) { (void)f; *v = a == 4 ? 32 : a == 0 ? 1024 : 0; return OK; }
R cuFuncSetAttribute(Function* f, int a, int v) {
    if (a == 9) return v == 100 ? OK : INVALID; // a wish
    if (a != 8 || v > 227 << 10) return INVALID;
    if (f->kernel) f->shared = (u32)v;
    return OK;
}
R cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const Function* f, int threads, size_t shared) { (void)f; (void)shared; *n = 2048 / threads; return OK; }

static void run(const Launch* l) {
    const u64* a = l->words;
    if (l->kernel) {
        void* arguments[ARGUMENTS];
        for (int i = 0; i < ARGUMENTS; i++) arguments[i] = (void*)(a + l->starts[i]);
        run_kernel(l->kernel, arguments, l->blocks, l->threads, l->shared);
    }
    if (!strcmp(l->entry, "probe_copy")) memcpy((void*)(uintptr_t)a[0], (void*)(uintptr_t)a[1], 16 * a[2]);
    if (!strcmp(l->entry, "probe_read"))
        for (u64 i = 0; i < 4 * a[2]; i++) ((u32*)(uintptr_t)a[0])[i % l->blocks[0]] ^= ((u32*)(uintptr_t)a[1])[i];
    if (!strcmp(l->entry, "probe_chain")) ++*(u32*)(uintptr_t)a[0];
    if (!strcmp(l->entry, "probe_ring")) {
        u32* ring = (u32*)(uintptr_t)a[0];
        u64 *step = (u64*)(uintptr_t)a[1], s = *step;
        u32 slots = (u32)a[2], rows = (u32)a[3], words = (u32)a[4];
        for (u32 row = 0; row < rows; row++) {
            u32* record = ring + ((s % slots) * rows + row) * words * 2;
            for (u32 w = 0; w < words; w++) record[2 * w] = (u32)s << 16 | row << 8 | w, record[2 * w + 1] = 0;
            __atomic_store_n(record + 2 * words - 1, (u32)s + 1, __ATOMIC_RELEASE);
        }
        *step = s + 1;
    }
}

typedef struct { int id; char pad[4]; union { char pad[64]; int value; } value; } Attribute;
typedef struct { u32 grid[3], block[3], shared; Stream* stream; Attribute* attributes; u32 count; } Config;
R cuLaunchKernelEx(const Config* c, const Function* f, void** parameters, void** extra) {
    if (fault("lost")) return LOST;
    if (extra || c->block[1] != 1 || c->block[2] != 1 || !c->block[0] || c->count > 1) return INVALID;
    if (c->count && (c->attributes[0].id != 6 || c->attributes[0].value.value != 1)) return INVALID;
    if (c->shared > 48 << 10 && c->shared > f->shared) return INVALID;
    if (c->stream && c->stream->waits && c->count) return INVALID; // it would wait for the kernel before it, and not for the event
    if (c->stream) c->stream->waits = 0;
    Launch l = {.kernel = f->kernel, .blocks = {c->grid[0], c->grid[1], c->grid[2]}, .threads = c->block[0], .shared = c->shared, .overlap = c->count == 1};
    strcpy(l.entry, f->entry);
    const unsigned* sizes = 0;
    if (f->kernel) kernel_arguments(f->kernel, &sizes);
    for (int i = 0, word = 0; i < f->arguments; i++) {
        const u32 size = sizes ? sizes[i] : 8;
        l.starts[i] = word;
        memcpy(&l.words[word], parameters[i], size);
        word += (size + 7) / 8;
        if (word > WORDS - 8) return INVALID;
    }
    if (!strcmp(f->entry, "probe_ring")) for (int i = 2; i < 5; i++) l.words[i] = (u32)l.words[i]; // declared as 32 bits
    Graph* g = c->stream ? c->stream->capture : 0;
    if (!g) { run(&l); return OK; }
    g->list = realloc(g->list, (g->n + 1) * sizeof(Launch));
    g->list[g->n++] = l;
    return OK;
}
R cuGraphGetNodes(Graph* g, void** nodes, size_t* n) { if (nodes) return INVALID; *n = g->n; return OK; }
typedef struct { unsigned char from, to, type, reserved[5]; } Edge;
R cuGraphGetEdges_v2(Graph* g, void** from, void** to, Edge* data, size_t* n) {
    size_t edges = g->n ? g->n - 1 : 0;
    int programmatic = 0;
    for (size_t i = 0; i < g->n; i++) programmatic |= g->list[i].overlap;
    if (fault("no_edges") || (programmatic && !data)) return 402; // a query that loses what edges carry
    if (!from) { *n = edges; return OK; }
    if (*n > edges) *n = edges;
    for (size_t i = 0; i < *n; i++) {
        from[i] = &g->list[i]; to[i] = &g->list[i + 1];
        data[i] = (Edge){.type = g->list[i + 1].overlap && !fault("no_overlap")};
    }
    return OK;
}
R cuGraphInstantiateWithFlags(Graph** x, Graph* g, unsigned long long flags) {
    if (flags) return INVALID;
    *x = calloc(1, sizeof(Graph));
    (*x)->n = g->n; (*x)->list = malloc(g->n * sizeof(Launch)); memcpy((*x)->list, g->list, g->n * sizeof(Launch));
    alive++; return OK;
}
R cuGraphDestroy(Graph* g) { free(g->list); free(g); alive--; return OK; }
R cuGraphExecDestroy(Graph* g) { return cuGraphDestroy(g); }
#ifndef LACKS
R cuGraphUpload(Graph* g, Stream* s) { (void)g; return busy(s); }
#endif
R cuGraphLaunch(Graph* g, Stream* s) {
    static int launches;
    const char *limit = getenv("FAKE_CUDA_LAUNCHES"), *kernel = getenv("FAKE_CUDA_KERNEL");
    if (busy(s)) return MISUSE;
    if (state == DEAD) return FAULTED;
    if (limit && kernel && g->n && !strncmp(g->list[0].entry, kernel, strlen(kernel)) && launches++ >= atoi(limit)) {
        state = fault("hangs") ? HUNG : fault("dies") ? DEAD : state;
        return OK;
    }
    for (size_t i = 0; i < g->n; i++) run(&g->list[i]);
    return OK;
}
