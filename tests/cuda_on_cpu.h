// Plays as much of CUDA as kernels.cu uses, on one thread of the CPU: blocks run one after the other, and the threads of a
// block take turns, from one __syncthreads() to the next, in an order that the caller chooses. It cannot show races within
// such a turn, barriers that not all threads reach, or shared memory that is read before it is written.
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

struct Index {
    int x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

struct float4 {
    float x, y, z, w;
};
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static int min(int one, int other) { return one < other ? one : other; }

static float __double2float_ru(double number) {
    const float nearest = (float)number;
    return nearest < number ? nextafterf(nearest, INFINITY) : nearest;
}

template <class Number, class Other>
static Number atomicAdd(Number *sum, Other number) {
    const Number old = *sum;
    *sum += number;
    return old;
}

static const size_t STACK = 1 << 16;
static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<char> finished;
static std::function<void()> body;

static void run_fiber() {
    body();
    finished[threadIdx.x] = 1;
    swapcontext(&fibers[threadIdx.x], &scheduler);
}

static void __syncthreads() { swapcontext(&fibers[threadIdx.x], &scheduler); }

static void launch(int blocks, int threads, bool backwards, const std::function<void()> &kernel) {
    static std::vector<char> stacks;
    stacks.resize(threads * STACK);
    gridDim.x = blocks, blockDim.x = threads, body = kernel;
    for (int block = 0; block < blocks; ++block) {
        blockIdx.x = backwards ? blocks - 1 - block : block;
        fibers.assign(threads, ucontext_t());
        finished.assign(threads, 0);
        for (int thread = 0; thread < threads; ++thread) {
            getcontext(&fibers[thread]);
            fibers[thread].uc_stack.ss_sp = &stacks[thread * STACK];
            fibers[thread].uc_stack.ss_size = STACK;
            makecontext(&fibers[thread], run_fiber, 0);
        }
        for (int left = threads; left > 0;) {
            for (int turn = 0; turn < threads; ++turn) {
                const int thread = backwards ? threads - 1 - turn : turn;
                if (finished[thread]) continue;
                threadIdx.x = thread;
                swapcontext(&scheduler, &fibers[thread]);
                left -= finished[thread];
            }
        }
    }
}
