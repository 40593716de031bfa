// libcudart.so.11.0: what MXNet calls of the CUDA runtime. Calls that are not here end the program, see build.py.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "mxnet_kernels.h"

using fake::Event;
using fake::Stream;

namespace {

enum Error { SUCCESS = 0, OUT_OF_MEMORY = 2, INITIALIZATION_ERROR = 3, NO_DEVICE = 100, NO_KERNEL_IMAGE = 209 };
enum Kind { HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, ANY };

thread_local int last_error = SUCCESS;
int fails(int error) { return last_error = error; }

struct Dim3 {
    unsigned x, y, z;
};
struct Configuration {
    Dim3 grid, block;
    size_t shared;
    Stream *stream;
};
thread_local std::vector<Configuration> configurations;

std::mutex mutex;
std::map<const void *, std::string> &names() {
    static auto *all = new std::map<const void *, std::string>;
    return *all;
}

Stream *real(Stream *stream) { return (uintptr_t)stream <= 2 ? nullptr : stream; }

// A side of a copy: memory of a device, found when the copy is made.
char *side(const void *address, size_t bytes) {
    const int device = fake::device_of(address);
    return device < 0 ? (char *)address : (char *)fake::at(address, bytes, device);
}

void check_sides(void *to, const void *from, int kind) {
    const bool to_device = fake::device_of(to) >= 0, from_device = fake::device_of(from) >= 0;
    if (kind != ANY && (to_device != (kind == HOST_TO_DEVICE || kind == DEVICE_TO_DEVICE) ||
                        from_device != (kind == DEVICE_TO_HOST || kind == DEVICE_TO_DEVICE)))
        fake::fail("a copy of kind %d from %s to %s", kind, from_device ? "a device" : "the host",
                   to_device ? "a device" : "the host");
}

// As CUDA: memory of the host that is not pinned has been read, or written, when the call returns.
int copy(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, int kind,
         Stream *stream) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    if (width == 0 || height == 0) return SUCCESS;
    check_sides(to, from, kind);
    std::shared_ptr<std::vector<char>> staged;
    if (fake::device_of(from) < 0 && !fake::is_pinned(from)) {
        staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + from_pitch * (height - 1) + width);
        from = staged->data();
    }
    fake::submit_copy(real(stream), [=] {
        (void)staged;
        char *target = side(to, to_pitch * (height - 1) + width);
        const char *source = side(from, from_pitch * (height - 1) + width);
        for (size_t row = 0; row < height; ++row) memmove(target + row * to_pitch, source + row * from_pitch, width);
    });
    if (fake::device_of(to) < 0 && !fake::is_pinned(to)) fake::finish(real(stream));
    return SUCCESS;
}

}  // namespace

extern "C" {

// ---- the compiler's own calls ----

void **__cudaRegisterFatBinary(void *) {
    static void *handle[1];
    return handle;
}
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
char __cudaInitModule(void **) { return 1; }
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
void __cudaRegisterFunction(void **, const char *stub, char *, const char *name, int, void *, void *, void *, void *, int *) {
    std::lock_guard<std::mutex> lock(mutex);
    names()[stub] = name;
}
unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, Stream *stream) {
    configurations.push_back({grid, block, shared, stream});
    return 0;
}
int __cudaPopCallConfiguration(Dim3 *grid, Dim3 *block, size_t *shared, Stream **stream) {
    const Configuration last = configurations.back();
    configurations.pop_back();
    *grid = last.grid, *block = last.block, *shared = last.shared, *stream = last.stream;
    return SUCCESS;
}

int cudaLaunchKernel(const void *stub, Dim3 grid, Dim3 block, void **arguments, size_t, Stream *stream) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    if (!fake::has_machine_code()) return fails(NO_KERNEL_IMAGE);
    std::string name;
    {
        std::lock_guard<std::mutex> lock(mutex);
        name = names().at(stub);
    }
    int status;
    if (char *readable = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status)) {
        name = readable;
        free(readable);
    }
    static const bool traced = getenv("FAKE_CUDA_TRACE");
    if (traced) fprintf(stderr, "%s\n", name.c_str());
    fake::Work work = mxnet_kernel(name, arguments, fake::device_of(real(stream)), {grid.x, grid.y, grid.z, block.x, block.y, block.z});
    if (!work) fake::fail("tests/gpu/fake_cuda has no kernel %s", name.c_str());
    fake::submit(real(stream), work);
    return SUCCESS;
}
int cudaFuncGetAttributes(size_t *attributes, const void *) {
    if (!fake::has_machine_code()) return fails(NO_KERNEL_IMAGE);
    memset(attributes, 0, 3 * sizeof(size_t));  // sizes of shared, constant and local memory
    ((int *)(attributes + 3))[0] = 1024;        // threads of a block
    return SUCCESS;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int, size_t, unsigned) {
    *blocks = 1;
    return SUCCESS;
}

// ---- devices ----

int cudaGetDeviceCount(int *count) {
    *count = fake::device_count();
    return *count ? SUCCESS : fails(NO_DEVICE);
}
int cudaGetDevice(int *device) {
    *device = fake::current_device();
    return SUCCESS;
}
int cudaSetDevice(int device) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    fake::set_current_device(device);
    return SUCCESS;
}
int cudaDriverGetVersion(int *version) { return *version = fake::driver_version(), SUCCESS; }
int cudaRuntimeGetVersion(int *version) { return *version = 11020, SUCCESS; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 75: *value = fake::capability(device) / 10; break;
        case 76: *value = fake::capability(device) % 10; break;
        case 1: case 2: case 3: *value = 1024; break;  // threads of a block
        case 8: *value = 48 << 10; break;              // its shared memory
        case 10: *value = 32; break;                   // of a warp
        case 16: *value = 24; break;                   // multiprocessors
        case 81: *value = 96 << 10; break;             // their shared memory
        default: *value = 1 << 16;
    }
    return SUCCESS;
}
int cudaGetDeviceProperties(void *properties, int device) {
    struct {  // the begin of CUDA 11's cudaDeviceProp
        char name[256], uuid[16], luid[8];
        unsigned mask;
        size_t memory, shared;
        int registers, warp;
        size_t pitch;
        int threads, block[3], grid[3], clock;
        size_t constant;
        int major, minor;
        size_t texture[2];
        int overlap, multiprocessors;
    } begin = {};
    strcpy(begin.name, "fake GPU");
    begin.memory = fake::memory(), begin.shared = 48 << 10, begin.registers = 65536, begin.warp = 32;
    begin.threads = begin.block[0] = begin.block[1] = 1024, begin.block[2] = 64;
    begin.grid[0] = 0x7FFFFFFF, begin.grid[1] = begin.grid[2] = 65535;
    begin.major = fake::capability(device) / 10, begin.minor = fake::capability(device) % 10, begin.multiprocessors = 24;
    memcpy(properties, &begin, sizeof begin);
    return SUCCESS;
}
int cudaDeviceCanAccessPeer(int *can, int, int) { return *can = 0, SUCCESS; }
int cudaDeviceGetP2PAttribute(int *value, int, int, int) { return *value = 0, SUCCESS; }
int cudaDeviceSynchronize() {
    fake::finish_device(fake::current_device());
    return SUCCESS;
}

// ---- errors ----

int cudaGetLastError() {
    const int error = last_error;
    last_error = SUCCESS;
    return error;
}
int cudaPeekAtLastError() { return last_error; }
const char *cudaGetErrorString(int error) {
    switch (error) {
        case SUCCESS: return "no error";
        case OUT_OF_MEMORY: return "out of memory";
        case INITIALIZATION_ERROR: return "initialization error";
        case NO_DEVICE: return "no CUDA-capable device is detected";
        case NO_KERNEL_IMAGE: return "no kernel image is available for execution on the device";
        default: return "unrecognized error code";
    }
}
const char *cudaGetErrorName(int error) { return cudaGetErrorString(error); }

// ---- memory ----

int cudaMalloc(void **address, size_t bytes) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    *address = fake::allocate(fake::current_device(), bytes);
    return *address ? SUCCESS : fails(OUT_OF_MEMORY);
}
int cudaMallocPitch(void **address, size_t *pitch, size_t width, size_t height) {
    *pitch = (width + 511) / 512 * 512;
    return cudaMalloc(address, *pitch * height);
}
int cudaFree(void *address) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    fake::release(address);
    return SUCCESS;
}
int cudaHostAlloc(void **address, size_t bytes, unsigned) {
    *address = fake::allocate_pinned(bytes);
    return SUCCESS;
}
int cudaFreeHost(void *address) {
    fake::release_pinned(address);
    return SUCCESS;
}
int cudaMemGetInfo(size_t *free, size_t *total) {
    *free = fake::free_memory(fake::current_device()), *total = fake::memory();
    return SUCCESS;
}
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
    const int error = copy(to, bytes, from, bytes, bytes, 1, kind, nullptr);
    if (!error) fake::finish(nullptr);
    return error;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, Stream *stream) {
    return copy(to, bytes, from, bytes, bytes, 1, kind, stream);
}
int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, int kind,
                      Stream *stream) {
    return copy(to, to_pitch, from, from_pitch, width, height, kind, stream);
}
int cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, Stream *stream) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    fake::submit_copy(
        real(stream), [=] { memmove(fake::at(to, bytes, to_device), fake::at(from, bytes, from_device), bytes); });
    return SUCCESS;
}
int cudaMemsetAsync(void *address, int value, size_t bytes, Stream *stream) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    const int device = fake::device_of(real(stream));
    fake::submit(real(stream), [=] { memset(fake::at(address, bytes, device), value, bytes); });
    return SUCCESS;
}

// ---- streams ----

int cudaStreamCreate(Stream **stream) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    *stream = fake::create_stream();
    return SUCCESS;
}
int cudaStreamDestroy(Stream *stream) {
    fake::destroy_stream(stream);
    return SUCCESS;
}
int cudaStreamSynchronize(Stream *stream) {
    if (!fake::usable()) return fails(INITIALIZATION_ERROR);
    fake::finish(real(stream));
    return SUCCESS;
}
int cudaEventCreateWithFlags(Event **event, unsigned) {
    *event = fake::create_event();
    return SUCCESS;
}
int cudaEventDestroy(Event *event) {
    fake::destroy_event(event);
    return SUCCESS;
}
int cudaEventRecord(Event *event, Stream *stream) {
    fake::record(event, real(stream));
    return SUCCESS;
}
int cudaStreamWaitEvent(Stream *stream, Event *event, unsigned) {
    fake::wait_for(event, real(stream));
    return SUCCESS;
}
}
