// CUB's radix sort, which MXNet sorts with: of pairs, by some bits of their keys, in order of their places where these tie.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "mxnet_kernels.h"
#include "numbers.h"

namespace {

template <class T>
T read(void **arguments, size_t index) {
    T value;
    memcpy(&value, arguments[index], sizeof value);
    return value;
}

// Bits that are in the order of the numbers.
uint64_t ordered_bits(const char *key, size_t size, const std::string &type) {
    uint64_t bits = 0;
    memcpy(&bits, key, size);
    const uint64_t sign = uint64_t(1) << (8 * size - 1), all = sign | (sign - 1);
    if (type.compare(0, 8, "unsigned") == 0) return bits;
    if (type != "float" && type != "double" && type != "__half") return bits ^ sign;
    return bits & sign ? ~bits & all : bits ^ sign;
}

}  // namespace

// Keys in and out, values in and out, and the rest from argument `rest` on: their count, the first bit, and bits.
fake::Work radix_sort(const std::string &key_type, const std::string &value_type, bool descending, void **arguments,
                      size_t rest, bool is_end, int device) {
    const Type *keys = type_named(key_type), *values = type_named(value_type);
    if (!keys || !values) return {};
    char *addresses[4];
    for (size_t i = 0; i < 4; ++i) addresses[i] = read<char *>(arguments, i);
    const std::vector<char *> arrays(addresses, addresses + 4);
    const size_t count = read<int>(arguments, rest);
    const int begin = read<int>(arguments, rest + 1), bits = read<int>(arguments, rest + 2) - (is_end ? begin : 0);
    return [=] {
        const char *keys_in = (char *)fake::at(arrays[0], count * keys->size, device);
        char *keys_out = (char *)fake::at(arrays[1], count * keys->size, device);
        const char *values_in = (char *)fake::at(arrays[2], count * values->size, device);
        char *values_out = (char *)fake::at(arrays[3], count * values->size, device);
        std::vector<uint64_t> digits(count);
        for (size_t i = 0; i < count; ++i) {
            const uint64_t all = ordered_bits(keys_in + i * keys->size, keys->size, key_type) >> begin;
            digits[i] = bits < 64 ? all & ((uint64_t(1) << bits) - 1) : all;
        }
        std::vector<size_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](size_t one, size_t other) {
            return descending ? digits[one] > digits[other] : digits[one] < digits[other];
        });
        for (size_t i = 0; i < count; ++i) {
            memcpy(keys_out + i * keys->size, keys_in + order[i] * keys->size, keys->size);
            memcpy(values_out + i * values->size, values_in + order[i] * values->size, values->size);
        }
    };
}
