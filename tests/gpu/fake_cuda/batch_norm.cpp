// MXNet's own kernels for batch normalisation with running statistics, which cuDNN does not do in training.
#include <cmath>
#include <cstring>

#include "kernel_name.h"
#include "mxnet_kernels.h"

namespace {

enum Flags { WRITE_DATA = 1, WRITE_GAMMA = 2, WRITE_BETA = 4, FIX_GAMMA = 8, TRAINING = 16, GLOBAL_STATISTICS = 32 };

struct Images {  // BNTensor3
    float *data;
    size_t axis, images, channels, pixels;

    size_t size() const { return images * channels * pixels; }
    size_t channel(size_t index) const { return index / pixels % channels; }
    float *at(int device) const { return fake::array_at(data, size(), device); }
};

struct Channels {  // DeviceTensor<float, 1>
    float *data;
    int size;

    float *at(int device) const { return fake::array_at(data, size, device); }
};

template <class T>
T read(void **arguments, size_t index) {
    T value;
    memcpy(&value, arguments[index], sizeof value);
    return value;
}

}  // namespace

fake::Work batch_norm_forward(void **arguments, int device) {
    const auto x = read<Images>(arguments, 0), y = read<Images>(arguments, 1);
    const auto mean = read<Channels>(arguments, 2), variance = read<Channels>(arguments, 3);
    const auto saved_mean = read<Channels>(arguments, 4), saved_scale = read<Channels>(arguments, 5);
    const auto gamma = read<Channels>(arguments, 6), beta = read<Channels>(arguments, 7);
    const float epsilon = read<float>(arguments, 8);
    const unsigned flags = read<unsigned>(arguments, 9);
    return [=] {
        for (size_t c = 0; c < x.channels; ++c) {
            saved_mean.at(device)[c] = mean.at(device)[c];
            saved_scale.at(device)[c] = 1 / std::sqrt(variance.at(device)[c] + epsilon);
            if ((flags & FIX_GAMMA) && (flags & WRITE_GAMMA)) gamma.at(device)[c] = 1;
        }
        const float *from = x.at(device), *scale = gamma.at(device), *shift = beta.at(device);
        const float *means = saved_mean.at(device), *inverse = saved_scale.at(device);
        float *to = y.at(device);
        for (size_t i = 0; i < x.size(); ++i) {
            const size_t c = x.channel(i);
            to[i] = (flags & FIX_GAMMA ? 1 : scale[c]) * (from[i] - means[c]) * inverse[c] + shift[c];
        }
    };
}

fake::Work batch_norm_backward(void **arguments, int device) {
    struct Tensors {
        Channels d_gamma, d_beta, gamma, mean, variance, saved_mean, saved_scale;
    };
    const auto x = read<Images>(arguments, 0), dy = read<Images>(arguments, 1), dx = read<Images>(arguments, 2);
    const auto own = read<Tensors>(arguments, 3);
    const unsigned flags = read<unsigned>(arguments, 4);
    const double epsilon = read<double>(arguments, 6);
    if ((flags & TRAINING) && !(flags & GLOBAL_STATISTICS)) return {};
    return [=] {
        const float *from = x.at(device), *slope = dy.at(device), *mean = own.mean.at(device), *variance = own.variance.at(device);
        float *d_gamma = own.d_gamma.at(device), *d_beta = own.d_beta.at(device);
        for (size_t c = 0; c < x.channels; ++c) {
            const double inverse = 1 / std::sqrt(variance[c] + epsilon);
            const float gamma = flags & FIX_GAMMA ? 1 : own.gamma.at(device)[c];
            double sum = 0, product = 0;
            for (size_t n = 0; n < x.images; ++n)
                for (size_t i = (n * x.channels + c) * x.pixels, end = i + x.pixels; i < end; ++i) {
                    sum += slope[i];
                    product += slope[i] * (from[i] - mean[c]);
                    if (flags & WRITE_DATA) dx.at(device)[i] = slope[i] * gamma * inverse;
                }
            if (flags & WRITE_GAMMA) d_gamma[c] = flags & FIX_GAMMA ? 0 : product * inverse;
            if (flags & WRITE_BETA) d_beta[c] = sum;
        }
    };
}
