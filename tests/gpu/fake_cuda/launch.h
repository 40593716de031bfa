// Arguments of a launch of kernels.cu, as prepare_launch (see build.py) takes them.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "device.h"

struct ArrayArgument {
    const void *begin;  // of the whole allocation; nullptr: no array
    bool is_const;
};

template <class T>
struct Argument {
    T number;
    explicit Argument(const void *from) { memcpy(&number, from, sizeof number); }
    T value(int) const { return number; }
    ArrayArgument array(int) const { return {nullptr, true}; }
};

template <class T>
struct Argument<T *> {
    T *address;
    explicit Argument(const void *from) { memcpy(&address, from, sizeof address); }
    T *value(int device) const { return fake::array_at(address, 1, device); }
    ArrayArgument array(int device) const { return {fake::allocation_of(address, device), std::is_const<T>::value}; }
};

// MXNet's engine would wait for ever for an array that a launch reads and writes.
inline void refuse_shared_arrays(const char *kernel, const std::vector<ArrayArgument> &arrays) {
    for (size_t i = 0; i < arrays.size(); ++i)
        for (size_t k = 0; k < i; ++k)
            if (arrays[i].begin && arrays[i].begin == arrays[k].begin && !(arrays[i].is_const && arrays[k].is_const))
                fake::fail("%s: arguments %zu and %zu are one array, which it writes", kernel, k, i);
}
