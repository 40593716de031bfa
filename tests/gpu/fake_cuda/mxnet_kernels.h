// MXNet's own kernels, known by their demangled names.
#pragma once
#include <string>

#include "device.h"

struct Launch {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z;
};

// What a launch does; empty if there is no such kernel here. `arguments` are read at once.
fake::Work mxnet_kernel(const std::string &name, void **arguments, int device, Launch launch);

// Those of batch normalisation, in batch_norm.cpp.
fake::Work batch_norm_forward(void **arguments, int device);
fake::Work batch_norm_backward(void **arguments, int device);

// CUB's radix sort of pairs, in radix_sort.cpp, by their types; `rest` is the place of their count, which the first bit and
// the number of bits follow, or their end.
fake::Work radix_sort(const std::string &key_type, const std::string &value_type, bool descending, void **arguments,
                      size_t rest, bool is_end, int device);
