// Plays as much of CUDA as kernels.cu uses, on one thread of the CPU: blocks run one after the other, and the threads of a
// block take turns, from one barrier to the next, in an order that the caller chooses. It refuses launches of no blocks,
// barriers that not all threads reach, and 16-byte accesses elsewhere than at multiples of 16. It cannot show races within a
// turn, or shared memory that is read before it is written. It counts what costs time on a GPU.
#undef _FORTIFY_SOURCE  // or longjmp would refuse to leave a stack for another
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

struct Index {
    int x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

// ---- threads ----

static const size_t STACK = 1 << 16;
static const int WARP = 32;
enum State { READY, AT_BARRIER, IN_WARP, FINISHED };
static jmp_buf scheduler;
static std::vector<char> stacks;
// A thread's place, and how it begins: jumping between places is much faster than swapcontext, which asks the system.
struct Fiber {
    ucontext_t start;
    jmp_buf place;
    bool started;
};
static std::vector<Fiber> fibers;
static std::vector<char> states;
static std::vector<uint64_t> lane_values;
static std::function<void()> body;
static const char *failure;  // what ended the launch

static bool in_kernel;        // rather than in what is written here

static void wait_as(State state) {
    in_kernel = false;
    states[threadIdx.x] = state;
    if (!_setjmp(fibers[threadIdx.x].place)) _longjmp(scheduler, 1);
    in_kernel = true;
}

// Until it waits.
__attribute__((noinline)) static void run_thread(Fiber &fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.start);
}

static void fail_launch(const char *text) {
    failure = text;
    wait_as(FINISHED);
}

static void run_fiber() {
    for (;;) {  // the next block, or the next launch
        in_kernel = true;
        body();
        wait_as(FINISHED);
    }
}

// Threads that have not begun.
static void make_fibers(int threads) {
    fibers.assign(threads, Fiber());
    stacks.resize(threads * STACK);
    for (int thread = 0; thread < threads; ++thread) {
        ucontext_t &start = fibers[thread].start;
        getcontext(&start);
        start.uc_stack.ss_sp = &stacks[thread * STACK];
        start.uc_stack.ss_size = STACK;
        makecontext(&start, run_fiber, 0);
    }
}

static void __syncthreads() { wait_as(AT_BARRIER); }

// What a lane of this warp hands over; all lanes have to be here.
template <class Number, class Read>
static auto exchange(Number own, Read read) -> decltype(read((const uint64_t *)nullptr)) {
    uint64_t bits = 0;
    memcpy(&bits, &own, sizeof own);
    lane_values[threadIdx.x] = bits;
    wait_as(IN_WARP);
    const auto result = read((const uint64_t *)&lane_values[threadIdx.x / WARP * WARP]);
    wait_as(IN_WARP);  // nobody hands over the next number before all have read this one
    return result;
}

template <class Number>
static Number __shfl_sync(unsigned, Number own, int lane) {
    return exchange(own, [=](const uint64_t *lanes) {
        Number other;
        memcpy(&other, &lanes[lane], sizeof other);
        return other;
    });
}

template <class Number>
static Number __shfl_xor_sync(unsigned mask, Number own, int distance) {
    return __shfl_sync(mask, own, threadIdx.x % WARP ^ distance);
}

static unsigned __ballot_sync(unsigned, int vote) {
    return exchange(vote != 0, [](const uint64_t *lanes) {
        unsigned votes = 0;
        for (int lane = 0; lane < WARP; ++lane) votes |= unsigned(lanes[lane]) << lane;
        return votes;
    });
}

static int __ffs(int bits) { return __builtin_ffs(bits); }

// ---- numbers ----

struct alignas(16) float4 {
    float x, y, z, w;

    float4(float x, float y, float z, float w) : x(x), y(y), z(z), w(w) {}
    float4(const float4 &other) : float4(0, 0, 0, 0) { *this = other; }
    float4 &operator=(const float4 &other) {
        uintptr_t both = (uintptr_t)this | (uintptr_t)&other;
        asm("" : "+r"(both));  // or the compiler trusts in the alignment
        if (both & 15) fail_launch("16 bytes that do not begin at a multiple of 16");
        x = other.x, y = other.y, z = other.z, w = other.w;
        return *this;
    }
};
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static int min(int one, int other) { return one < other ? one : other; }

static float __double2float_ru(double number) {
    const float nearest = (float)number;
    return nearest < number ? nextafterf(nearest, INFINITY) : nearest;
}

// ---- what costs time ----

// Atomic additions to shared and global memory; lanes that had to wait in one of them for others of their warp; and the
// bytes that threads read and wrote of `arrays` (only if compiled with -fsanitize=thread, whose hooks these are).
enum Cost { SHARED_ATOMICS, GLOBAL_ATOMICS, WAITING_LANES, BYTES_READ, BYTES_WRITTEN, COSTS };
extern "C" {
int64_t costs[COSTS];
struct Span {
    const char *begin, *end;
} arrays[64];  // of global memory, up to one that is empty
__attribute__((visibility("hidden"))) extern char __bss_start, _end;
}
static std::vector<std::vector<void *>> atomics;  // of each thread of this block, since it last waited

template <class Number, class Other>
static Number atomicAdd(Number *sum, Other number) {
    in_kernel = false;
    const bool shared = &__bss_start <= (char *)sum && (char *)sum < &_end;
    ++costs[shared ? SHARED_ATOMICS : GLOBAL_ATOMICS];
    atomics[threadIdx.x].push_back(sum);
    const Number old = *sum;
    *sum += number;
    in_kernel = true;
    return old;
}

// Lanes of a warp make their n-th additions together.
static void count_waiting_lanes() {
    for (size_t warp = 0; warp < atomics.size(); warp += WARP)
        for (size_t n = 0;; ++n) {
            std::vector<void *> addresses;
            for (size_t lane = warp; lane < warp + WARP && lane < atomics.size(); ++lane)
                if (n < atomics[lane].size()) addresses.push_back(atomics[lane][n]);
            if (addresses.empty()) break;
            for (size_t i = 0; i < addresses.size(); ++i)
                for (size_t k = 0; k < i; ++k)
                    if (addresses[i] == addresses[k]) {
                        ++costs[WAITING_LANES];
                        break;
                    }
        }
    for (auto &own : atomics) own.clear();
}

#ifdef __SANITIZE_THREAD__
#define UNSEEN __attribute__((no_sanitize_thread))
UNSEEN static void count_bytes(const void *address, int bytes, Cost cost) {
    const bool own = stacks.data() <= (const char *)address && (const char *)address < stacks.data() + stacks.size();
    if (own || !in_kernel) return;
    for (const Span *span = arrays; span->begin; ++span)
        if (span->begin <= (const char *)address && (const char *)address < span->end) costs[cost] += bytes;
}
extern "C" {
#define HOOKS(bytes)                                                                            \
    UNSEEN void __tsan_read##bytes(void *address) { count_bytes(address, bytes, BYTES_READ); }    \
    UNSEEN void __tsan_write##bytes(void *address) { count_bytes(address, bytes, BYTES_WRITTEN); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
UNSEEN void __tsan_read_range(void *address, size_t bytes) { count_bytes(address, (int)bytes, BYTES_READ); }
UNSEEN void __tsan_write_range(void *address, size_t bytes) { count_bytes(address, (int)bytes, BYTES_WRITTEN); }
UNSEEN void __tsan_init() {}
UNSEEN void __tsan_func_entry(void *) {}
UNSEEN void __tsan_func_exit() {}
}
#endif

// ---- launches ----

// Let all go on who wait for one another; false if there are none.
static bool release(int threads) {
    int at_barrier = 0, running = 0;
    for (char state : states) at_barrier += state == AT_BARRIER, running += state != FINISHED;
    bool released = false;
    for (int warp = 0; warp < threads; warp += WARP) {
        int lanes = 0;
        for (int thread = warp; thread < warp + WARP; ++thread) lanes += states[thread] == IN_WARP;
        if (at_barrier < running && lanes < WARP) continue;
        for (int thread = warp; thread < warp + WARP; ++thread)
            if (states[thread] != FINISHED) states[thread] = READY, released = true;
    }
    return released;
}

// Returns what was wrong, or nullptr.
static const char *launch(int blocks, int threads, bool backwards, const std::function<void()> &kernel) {
    if (blocks < 1) return "a launch of no blocks";
    if (fibers.size() != size_t(threads)) make_fibers(threads);
    lane_values.resize(threads);
    atomics.resize(threads);
    gridDim.x = blocks, blockDim.x = threads, body = kernel, failure = nullptr;
    for (int block = 0; block < blocks && !failure; ++block) {
        blockIdx.x = backwards ? blocks - 1 - block : block;
        states.assign(threads, READY);
        do {
            for (int turn = 0; turn < threads && !failure; ++turn) {
                threadIdx.x = backwards ? threads - 1 - turn : turn;
                if (states[threadIdx.x] == READY) run_thread(fibers[threadIdx.x]);
            }
            count_waiting_lanes();
        } while (!failure && release(threads));
        for (int thread = 0; thread < threads; ++thread)
            if (!failure && states[thread] != FINISHED) failure = "threads that wait for one another at different places";
    }
    states.clear();
    if (failure) fibers.clear();  // they stand within the kernel
    return failure;
}
