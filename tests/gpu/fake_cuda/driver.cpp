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

enum { SUCCESS = 0, INVALID_IMAGE = 200, NOT_FOUND = 500 };

struct Module {
    std::string ptx;
};

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
    *text = error == NOT_FOUND ? "named symbol not found" : error == INVALID_IMAGE ? "device kernel image is invalid" : "error";
    return SUCCESS;
}
int cuModuleLoadData(Module **module, const void *image) {
    if (getenv("FAKE_CUDA_NO_MODULES")) return INVALID_IMAGE;
    *module = new Module{(const char *)image};
    return (*module)->ptx.find(".entry") == std::string::npos ? INVALID_IMAGE : SUCCESS;
}
int cuModuleLoadDataEx(Module **module, const void *image, unsigned, void *, void **) { return cuModuleLoadData(module, image); }
int cuModuleUnload(Module *module) {
    delete module;
    return SUCCESS;
}
int cuModuleGetFunction(std::string **function, Module *module, const char *name) {
    if (module->ptx.find(std::string(".entry ") + name + "(") == std::string::npos) return NOT_FOUND;
    *function = new std::string(name);
    return SUCCESS;
}
int cuLaunchKernel(std::string *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned, fake::Stream *stream, void **arguments, void **) {
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
