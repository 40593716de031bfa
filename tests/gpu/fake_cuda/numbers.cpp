#include "numbers.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>

namespace {

template <class T>
double load(const void *from) {
    T number;
    memcpy(&number, from, sizeof number);
    return (double)number;
}

template <class T>
void store(void *to, double number) {
    const T rounded = (T)number;
    memcpy(to, &rounded, sizeof rounded);
}

double load_half(const void *from) {
    uint16_t bits;
    memcpy(&bits, from, 2);
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                        : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                       : std::ldexp(fraction, -24);
    return bits & 0x8000 ? -size : size;
}

void store_half(void *to, double number) {
    const double size = std::fabs(number);
    uint16_t bits;
    if (std::isnan(number)) bits = 0x7E00;
    else if (size >= 65520) bits = 0x7C00;
    else if (size < std::ldexp(1, -14)) bits = (uint16_t)std::nearbyint(std::ldexp(size, 24));
    else {
        const int exponent = std::ilogb(size);
        bits = (uint16_t)(((exponent + 14) << 10) + (int)std::nearbyint(std::ldexp(size, 10 - exponent)));
    }
    bits |= std::signbit(number) ? 0x8000 : 0;
    memcpy(to, &bits, 2);
}

template <class T>
Type plain() { return {sizeof(T), load<T>, store<T>}; }

}  // namespace

const Type *type_named(std::string name) {
    static const std::map<std::string, Type> types = {
        {"float", plain<float>()},       {"double", plain<double>()},       {"int", plain<int32_t>()},
        {"long", plain<int64_t>()},      {"unsigned long", plain<uint64_t>()}, {"unsigned int", plain<uint32_t>()},
        {"signed char", plain<int8_t>()}, {"unsigned char", plain<uint8_t>()}, {"bool", plain<bool>()},
        {"mshadow::half::half_t", {2, load_half, store_half}},
    };
    const size_t end = name.find(" const");
    if (end != std::string::npos) name.resize(end);
    const auto found = types.find(name);
    return found == types.end() ? nullptr : &found->second;
}
