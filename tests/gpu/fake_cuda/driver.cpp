// libcuda.so.1: the driver's calls that `mx.rtc` makes, for kernels that are compiled into libkernels.so (see build.py).
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "device.h"

namespace {

enum { SUCCESS = 0, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_PTX = 218, UNSUPPORTED_PTX_VERSION = 222, NOT_FOUND = 500 };

struct Module {
    std::string ptx;
};

// CUDA 11.8 brings PTX 7.8, CUDA 12.0 PTX 8.0.
int ptx_of_driver() { return fake::driver_version() / 1000 * 10 - 40 + fake::driver_version() % 1000 / 10; }

using Prepare = fake::Work *(*)(const char *name, unsigned blocks, unsigned threads, void **arguments, int device);

Prepare prepare() {
    static const Prepare found = [] {
        void *library = dlopen("libkernels.so", RTLD_NOW);
        if (!library) fake::fail("%s", dlerror());
        return (Prepare)dlsym(library, "prepare_launch");
    }();
    return found;
}

}  // namespace

extern "C" {

int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
int cuDevicePrimaryCtxRetain(void **context, int) {
    static int any;
    return *context = &any, SUCCESS;
}
int cuGetErrorString(int error, const char **text) {
    switch (error) {
        case INVALID_IMAGE: *text = "device kernel image is invalid"; break;
        case INVALID_CONTEXT: *text = "invalid device context"; break;
        case INVALID_PTX: *text = "a PTX JIT compilation failed"; break;
        case UNSUPPORTED_PTX_VERSION: *text = "the provided PTX was compiled with an unsupported toolchain."; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = "error";
    }
    return SUCCESS;
}
int cuModuleLoadData(Module **module, const void *image) {
    if (!fake::has_context()) return INVALID_CONTEXT;
    if (getenv("FAKE_CUDA_NO_MODULES")) return INVALID_IMAGE;
    const char *version = strstr((const char *)image, ".version");
    int major, minor;
    if (!version || sscanf(version, ".version %d.%d", &major, &minor) != 2) return INVALID_IMAGE;
    if (10 * major + minor > ptx_of_driver()) return UNSUPPORTED_PTX_VERSION;
    const char *target = strstr(version, ".target sm_");
    if (!target || atoi(target + strlen(".target sm_")) > fake::capability(fake::current_device())) return INVALID_PTX;
    *module = new Module{(const char *)image};
    return (*module)->ptx.find(".entry") == std::string::npos ? INVALID_IMAGE : SUCCESS;
}
int cuModuleLoadDataEx(Module **module, const void *image, unsigned, void *, void **) { return cuModuleLoadData(module, image); }
int cuModuleUnload(Module *module) {
    delete module;
    return SUCCESS;
}
int cuModuleGetFunction(std::string **function, Module *module, const char *name) {
    if (!fake::has_context()) return INVALID_CONTEXT;
    if (module->ptx.find(std::string(".entry ") + name + "(") == std::string::npos) return NOT_FOUND;
    *function = new std::string(name);
    return SUCCESS;
}
int cuLaunchKernel(std::string *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned, fake::Stream *stream, void **arguments, void **) {
    if (!fake::has_context()) return INVALID_CONTEXT;
    static const bool traced = getenv("FAKE_CUDA_TRACE");
    if (traced) fprintf(stderr, "rtc: %s\n", function->c_str());
    if (grid_y * grid_z * block_y * block_z != 1) fake::fail("%s: a grid of more dimensions than one", function->c_str());
    const char *hanging = getenv("FAKE_CUDA_HANG");
    if (hanging && *function == hanging) pause();
    const std::unique_ptr<fake::Work> work(prepare()(function->c_str(), grid_x, block_x, arguments, fake::device_of(stream)));
    if (!work) fake::fail("kernels.cu has no kernel %s", function->c_str());
    fake::submit(stream, *work);
    return SUCCESS;
}
}
