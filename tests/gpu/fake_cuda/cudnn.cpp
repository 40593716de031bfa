// libcudnn.so.8: what the detector's network calls, in float32 and NCHW, as plainly as can be.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "device.h"

namespace {

using std::vector;

struct Handle {
    fake::Stream *stream = nullptr;
};

// A tensor of up to four dimensions, packed; a convolution's, pooling's or activation's settings.
struct Descriptor {
    int n = 1, c = 1, h = 1, w = 1;
    int window_h = 1, window_w = 1, pad_h = 0, pad_w = 0, stride_h = 1, stride_w = 1, mode = 0;

    size_t size() const { return size_t(n) * c * h * w; }
    size_t plane() const { return size_t(h) * w; }
};

int set_shape(Descriptor *own, int type, int dimensions, const int *sizes, const int *strides) {
    if (type != 0) fake::fail("cuDNN: a tensor that is not of float32");
    if (dimensions > 4) fake::fail("cuDNN: a tensor of %d dimensions", dimensions);
    int packed = 1;
    for (int axis = dimensions - 1; strides && axis >= 0; packed *= sizes[axis--])
        if (strides[axis] != packed && sizes[axis] > 1) fake::fail("cuDNN: a tensor that is not packed");
    int all[4] = {1, 1, 1, 1};
    std::copy(sizes, sizes + dimensions, all);
    own->n = all[0], own->c = all[1], own->h = all[2], own->w = all[3];
    return 0;
}

// `alpha` times new values plus `beta` times those that are there, which are not read where beta is 0.
struct Blend {
    float alpha, beta;
    Blend(const float *alpha, const float *beta) : alpha(*alpha), beta(*beta) {}
    void operator()(float *to, const vector<float> &from) const {
        for (size_t i = 0; i < from.size(); ++i) to[i] = alpha * from[i] + (beta == 0 ? 0 : beta * to[i]);
    }
};

float *tensor(const Descriptor &shape, const void *address, int device) {
    return (float *)fake::at(address, shape.size() * sizeof(float), device);
}

int submit(Handle *handle, fake::Work work) {
    fake::submit(handle->stream, std::move(work));
    return 0;
}

// A convolution as a product of matrices: weights (y's channels × taps) times `unfolded` x (taps × places), a tap being one of
// x's channels and a place in the window, and a place a pixel of one of y's images.
struct Convolution {
    Descriptor x, weights, y, settings;

    size_t taps() const { return size_t(weights.c) * weights.h * weights.w; }
    size_t places() const { return y.n * y.plane(); }
    // Call visit(tap, place, source in x) where the window lies within the image.
    template <class Visit>
    void visit(Visit visit) const {
        for (size_t tap = 0; tap < taps(); ++tap) {
            const int c = tap / (weights.h * weights.w), shift_y = tap / weights.w % weights.h * settings.window_h - settings.pad_h,
                      shift_x = tap % weights.w * settings.window_w - settings.pad_w;
            size_t place = 0;
            for (int n = 0; n < y.n; ++n)
                for (int row = 0; row < y.h; ++row)
                    for (int column = 0; column < y.w; ++column, ++place) {
                        const int h = row * settings.stride_h + shift_y, w = column * settings.stride_w + shift_x;
                        if (h >= 0 && h < x.h && w >= 0 && w < x.w) visit(tap, place, ((size_t(n) * x.c + c) * x.h + h) * x.w + w);
                    }
        }
    }
    vector<float> unfold(const float *from) const {
        vector<float> matrix(taps() * places());
        visit([&](size_t tap, size_t place, size_t source) { matrix[tap * places() + place] = from[source]; });
        return matrix;
    }
    vector<float> fold(const vector<float> &matrix) const {
        vector<float> result(x.size());
        visit([&](size_t tap, size_t place, size_t to) { result[to] += matrix[tap * places() + place]; });
        return result;
    }
    // y's numbers by channel, image and pixel, as in the product, and back to image, channel and pixel.
    vector<float> by_channel(const float *from) const { return swapped(from, y.n, y.c); }
    vector<float> by_image(const vector<float> &from) const { return swapped(from.data(), y.c, y.n); }
    vector<float> swapped(const float *from, int outer, int inner) const {
        vector<float> result(y.size());
        for (int i = 0; i < outer; ++i)
            for (int k = 0; k < inner; ++k)
                std::copy_n(from + (size_t(i) * inner + k) * y.plane(), y.plane(), &result[(size_t(k) * outer + i) * y.plane()]);
        return result;
    }
};

void add_scaled(float *to, float by, const float *from, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] += by * from[i];
}

Convolution convolution(const Descriptor *x, const Descriptor *weights, const Descriptor *y, const Descriptor *settings) {
    if (weights->c != x->c || weights->n != y->c || x->n != y->n) fake::fail("cuDNN: shapes of a convolution that do not fit");
    return {*x, *weights, *y, *settings};
}

// A pooling's window, over planes that are images of one channel.
Convolution windows(const Descriptor &x, const Descriptor &y, const Descriptor &pooling) {
    Convolution own = {x, {}, y, pooling};
    own.x.n = own.y.n = x.n * x.c, own.x.c = own.y.c = 1;
    own.weights.h = pooling.window_h, own.weights.w = pooling.window_w;
    own.settings.window_h = own.settings.window_w = 1;
    return own;
}

enum Pooling { MAX = 0, AVERAGE_WITH_PADDING = 1, AVERAGE = 2, MAX_DETERMINISTIC = 3 };
bool is_max(const Descriptor &pooling) { return pooling.mode == MAX || pooling.mode == MAX_DETERMINISTIC; }

// What each place's sum is divided by.
vector<float> divisors(const Convolution &own, const Descriptor &pooling) {
    if (pooling.mode != AVERAGE) return vector<float>(own.places(), pooling.window_h * pooling.window_w);
    vector<float> covered(own.places());
    own.visit([&](size_t, size_t place, size_t) { ++covered[place]; });
    return covered;
}

// Call visit(number, channel) for each number of a tensor.
template <class Visit>
void visit_channels(const Descriptor &shape, Visit visit) {
    size_t i = 0;
    for (int n = 0; n < shape.n; ++n)
        for (int c = 0; c < shape.c; ++c)
            for (size_t end = i + shape.plane(); i < end; ++i) visit(i, c);
}

struct Performance {  // cudnnConvolutionFwdAlgoPerf_t and its like
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};

int one_algorithm(int algorithm, int *returned, Performance *results) {
    *returned = 1;
    *results = {algorithm, 0, 0, 0, 1, 0, {}};
    return 0;
}

template <class T>
int create(T **object) {
    *object = new T;
    return 0;
}

template <class T>
int destroy(T *object) {
    delete object;
    return 0;
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return 8906; }
const char *cudnnGetErrorString(int) { return "fake cuDNN"; }
int cudnnCreate(Handle **handle) { return create(handle); }
int cudnnDestroy(Handle *handle) { return destroy(handle); }
int cudnnSetStream(Handle *handle, fake::Stream *stream) { return handle->stream = stream, 0; }

// ---- descriptors ----

#define DESCRIPTOR(kind)                                                                    \
    int cudnnCreate##kind##Descriptor(Descriptor **descriptor) { return create(descriptor); } \
    int cudnnDestroy##kind##Descriptor(Descriptor *descriptor) { return destroy(descriptor); }
DESCRIPTOR(Tensor)
DESCRIPTOR(Filter)
DESCRIPTOR(Convolution)
DESCRIPTOR(Pooling)
DESCRIPTOR(Activation)

int cudnnSetTensor4dDescriptor(Descriptor *own, int format, int type, int n, int c, int h, int w) {
    if (format != 0) fake::fail("cuDNN: a layout that is not NCHW");
    const int sizes[4] = {n, c, h, w};
    return set_shape(own, type, 4, sizes, nullptr);
}
int cudnnSetTensorNdDescriptor(Descriptor *own, int type, int dimensions, const int *sizes, const int *strides) {
    return set_shape(own, type, dimensions, sizes, strides);
}
int cudnnSetFilter4dDescriptor(Descriptor *own, int type, int format, int n, int c, int h, int w) {
    return cudnnSetTensor4dDescriptor(own, format, type, n, c, h, w);
}
int cudnnSetFilterNdDescriptor(Descriptor *own, int type, int format, int dimensions, const int *sizes) {
    if (format != 0) fake::fail("cuDNN: a layout that is not NCHW");
    return set_shape(own, type, dimensions, sizes, nullptr);
}
int cudnnSetConvolution2dDescriptor(Descriptor *own, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                    int dilation_w, int mode, int) {
    if (mode != 1) fake::fail("cuDNN: a convolution that is no cross-correlation");
    own->pad_h = pad_h, own->pad_w = pad_w, own->stride_h = stride_h, own->stride_w = stride_w;
    own->window_h = dilation_h, own->window_w = dilation_w;
    return 0;
}
int cudnnSetConvolutionMathType(Descriptor *, int) { return 0; }
int cudnnSetConvolutionGroupCount(Descriptor *, int groups) {
    if (groups != 1) fake::fail("cuDNN: a convolution in groups");
    return 0;
}
int cudnnSetPooling2dDescriptor(Descriptor *own, int mode, int, int h, int w, int pad_h, int pad_w, int stride_h, int stride_w) {
    own->mode = mode, own->window_h = h, own->window_w = w;
    own->pad_h = pad_h, own->pad_w = pad_w, own->stride_h = stride_h, own->stride_w = stride_w;
    return 0;
}
int cudnnSetActivationDescriptor(Descriptor *own, int mode, int, double) {
    if (mode > 1) fake::fail("cuDNN: an activation that is neither sigmoid nor ReLU");
    own->mode = mode;
    return 0;
}
int cudnnDeriveBNTensorDescriptor(Descriptor *own, const Descriptor *x, int) {
    *own = Descriptor();
    own->c = x->c;
    return 0;
}

// ---- convolutions ----

int cudnnGetConvolutionForwardAlgorithmMaxCount(Handle *, int *count) { return *count = 1, 0; }
int cudnnGetConvolutionBackwardDataAlgorithmMaxCount(Handle *, int *count) { return *count = 1, 0; }
int cudnnGetConvolutionBackwardFilterAlgorithmMaxCount(Handle *, int *count) { return *count = 1, 0; }

#define ALGORITHMS(pass, algorithm)                                                                                          \
    int cudnnGetConvolution##pass##Algorithm_v7(Handle *, void *, void *, void *, void *, int, int *count, Performance *results) { \
        return one_algorithm(algorithm, count, results);                                                                    \
    }                                                                                                                        \
    int cudnnFindConvolution##pass##Algorithm(Handle *, void *, void *, void *, void *, int, int *count, Performance *results) {   \
        return one_algorithm(algorithm, count, results);                                                                    \
    }                                                                                                                        \
    int cudnnGetConvolution##pass##WorkspaceSize(Handle *, void *, void *, void *, void *, int, size_t *size) { return *size = 0, 0; }
ALGORITHMS(Forward, 0)
ALGORITHMS(BackwardData, 1)
ALGORITHMS(BackwardFilter, 1)

int cudnnConvolutionForward(Handle *handle, const float *alpha, Descriptor *x_shape, const void *x, Descriptor *w_shape,
                            const void *weights, Descriptor *settings, int, void *, size_t, const float *beta,
                            Descriptor *y_shape, void *y) {
    const Convolution own = convolution(x_shape, w_shape, y_shape, settings);
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const vector<float> unfolded = own.unfold(tensor(own.x, x, device));
        const float *by = tensor(own.weights, weights, device);
        vector<float> product(own.y.size());
        for (int k = 0; k < own.y.c; ++k)
            for (size_t tap = 0; tap < own.taps(); ++tap)
                add_scaled(&product[k * own.places()], by[k * own.taps() + tap], &unfolded[tap * own.places()], own.places());
        blend(tensor(own.y, y, device), own.by_image(product));
    });
}

int cudnnConvolutionBackwardData(Handle *handle, const float *alpha, Descriptor *w_shape, const void *weights,
                                 Descriptor *y_shape, const void *dy, Descriptor *settings, int, void *, size_t,
                                 const float *beta, Descriptor *x_shape, void *dx) {
    const Convolution own = convolution(x_shape, w_shape, y_shape, settings);
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const vector<float> slope = own.by_channel(tensor(own.y, dy, device));
        const float *by = tensor(own.weights, weights, device);
        vector<float> product(own.taps() * own.places());
        for (int k = 0; k < own.y.c; ++k)
            for (size_t tap = 0; tap < own.taps(); ++tap)
                add_scaled(&product[tap * own.places()], by[k * own.taps() + tap], &slope[k * own.places()], own.places());
        blend(tensor(own.x, dx, device), own.fold(product));
    });
}

int cudnnConvolutionBackwardFilter(Handle *handle, const float *alpha, Descriptor *x_shape, const void *x, Descriptor *y_shape,
                                   const void *dy, Descriptor *settings, int, void *, size_t, const float *beta,
                                   Descriptor *w_shape, void *dw) {
    const Convolution own = convolution(x_shape, w_shape, y_shape, settings);
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const vector<float> unfolded = own.unfold(tensor(own.x, x, device));
        const vector<float> slope = own.by_channel(tensor(own.y, dy, device));
        vector<float> result(own.weights.size());
        for (size_t i = 0; i < result.size(); ++i) {
            const float *one = &slope[i / own.taps() * own.places()], *other = &unfolded[i % own.taps() * own.places()];
            float lanes[8] = {};  // so that the compiler may add several at once
            size_t place = 0;
            for (; place + 8 <= own.places(); place += 8)
                for (int lane = 0; lane < 8; ++lane) lanes[lane] += one[place + lane] * other[place + lane];
            double sum = 0;
            for (; place < own.places(); ++place) sum += one[place] * other[place];
            for (float lane : lanes) sum += lane;
            result[i] = float(sum);
        }
        blend(tensor(own.weights, dw, device), result);
    });
}

int cudnnConvolutionBackwardBias(Handle *handle, const float *alpha, Descriptor *y_shape, const void *dy, const float *beta,
                                 Descriptor *b_shape, void *db) {
    const Descriptor ys = *y_shape, bs = *b_shape;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(ys, dy, device);
        vector<double> sums(bs.size());
        visit_channels(ys, [&](size_t i, int c) { sums[c] += from[i]; });
        blend(tensor(bs, db, device), vector<float>(sums.begin(), sums.end()));
    });
}

int cudnnAddTensor(Handle *handle, const float *alpha, Descriptor *b_shape, const void *bias, const float *beta,
                   Descriptor *y_shape, void *y) {
    const Descriptor bs = *b_shape, ys = *y_shape;
    if (bs.size() != size_t(ys.c) || bs.c != ys.c) fake::fail("cuDNN: a sum that does not add a bias");
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(bs, bias, device);
        vector<float> repeated(ys.size());
        visit_channels(ys, [&](size_t i, int c) { repeated[i] = from[c]; });
        blend(tensor(ys, y, device), repeated);
    });
}

// ---- batch normalisation of each channel ----

int cudnnBatchNormalizationForwardTraining(Handle *handle, int mode, const float *alpha, const float *beta, Descriptor *x_shape,
                                           const void *x, Descriptor *, void *y, Descriptor *c_shape, const void *gamma,
                                           const void *bias, double factor, void *running_mean, void *running_variance,
                                           double epsilon, void *saved_mean, void *saved_scale) {
    if (mode == 0) fake::fail("cuDNN: a batch normalisation of each activation");
    const Descriptor xs = *x_shape, cs = *c_shape;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(xs, x, device), *scale = tensor(cs, gamma, device), *shift = tensor(cs, bias, device);
        float *mean = tensor(cs, saved_mean, device), *inverse = tensor(cs, saved_scale, device);
        float *all_mean = tensor(cs, running_mean, device), *all_variance = tensor(cs, running_variance, device);
        vector<double> sums(xs.c), squares(xs.c);
        const double count = double(xs.n) * xs.plane();
        visit_channels(xs, [&](size_t i, int c) { sums[c] += from[i]; });
        visit_channels(xs, [&](size_t i, int c) {
            squares[c] += (from[i] - sums[c] / count) * (from[i] - sums[c] / count);
        });
        for (int c = 0; c < xs.c; ++c) {
            mean[c] = sums[c] / count;
            inverse[c] = 1 / std::sqrt(squares[c] / count + epsilon);
            all_mean[c] = (1 - factor) * all_mean[c] + factor * mean[c];
            all_variance[c] = (1 - factor) * all_variance[c] + factor * squares[c] / std::max(1.0, count - 1);
        }
        vector<float> result(xs.size());
        visit_channels(xs, [&](size_t i, int c) {
            result[i] = scale[c] * ((from[i] - mean[c]) * inverse[c]) + shift[c];
        });
        blend(tensor(xs, y, device), result);
    });
}

int cudnnBatchNormalizationForwardInference(Handle *handle, int mode, const float *alpha, const float *beta, Descriptor *x_shape,
                                            const void *x, Descriptor *, void *y, Descriptor *c_shape, const void *gamma,
                                            const void *bias, const void *mean, const void *variance, double epsilon) {
    if (mode == 0) fake::fail("cuDNN: a batch normalisation of each activation");
    const Descriptor xs = *x_shape, cs = *c_shape;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(xs, x, device), *scale = tensor(cs, gamma, device), *shift = tensor(cs, bias, device);
        const float *means = tensor(cs, mean, device), *variances = tensor(cs, variance, device);
        vector<float> result(xs.size());
        visit_channels(xs, [&](size_t i, int c) {
            result[i] = scale[c] * ((from[i] - means[c]) / std::sqrt(variances[c] + epsilon)) + shift[c];
        });
        blend(tensor(xs, y, device), result);
    });
}

int cudnnBatchNormalizationBackward(Handle *handle, int, const float *alpha, const float *beta, const float *alpha_parameters,
                                    const float *beta_parameters, Descriptor *x_shape, const void *x, Descriptor *,
                                    const void *dy, Descriptor *, void *dx, Descriptor *c_shape, const void *gamma,
                                    void *d_gamma, void *d_bias, double, const void *saved_mean, const void *saved_scale) {
    const Descriptor xs = *x_shape, cs = *c_shape;
    const Blend blend(alpha, beta), blend_parameters(alpha_parameters, beta_parameters);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(xs, x, device), *slope = tensor(xs, dy, device), *scale = tensor(cs, gamma, device);
        const float *mean = tensor(cs, saved_mean, device), *inverse = tensor(cs, saved_scale, device);
        vector<double> sums(xs.c), products(xs.c);
        visit_channels(xs, [&](size_t i, int c) {
            sums[c] += slope[i];
            products[c] += double(slope[i]) * (from[i] - mean[c]) * inverse[c];
        });
        const double count = double(xs.n) * xs.plane();
        vector<float> result(xs.size());
        visit_channels(xs, [&](size_t i, int c) {
            const double normal = (from[i] - mean[c]) * inverse[c];
            result[i] = scale[c] * inverse[c] * (slope[i] - sums[c] / count - normal * products[c] / count);
        });
        blend(tensor(xs, dx, device), result);
        blend_parameters(tensor(cs, d_gamma, device), vector<float>(products.begin(), products.end()));
        blend_parameters(tensor(cs, d_bias, device), vector<float>(sums.begin(), sums.end()));
    });
}

// ---- pooling and activations ----

int cudnnPoolingForward(Handle *handle, Descriptor *settings, const float *alpha, Descriptor *x_shape, const void *x,
                        const float *beta, Descriptor *y_shape, void *y) {
    const Descriptor xs = *x_shape, ys = *y_shape, pooling = *settings;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(xs, x, device);
        const Convolution own = windows(xs, ys, pooling);
        vector<float> result(ys.size(), is_max(pooling) ? -std::numeric_limits<float>::infinity() : 0);
        own.visit([&](size_t, size_t place, size_t source) {
            result[place] = is_max(pooling) ? std::max(result[place], from[source]) : result[place] + from[source];
        });
        if (!is_max(pooling)) {
            const vector<float> by = divisors(own, pooling);
            for (size_t i = 0; i < result.size(); ++i) result[i] /= by[i];
        }
        blend(tensor(ys, y, device), result);
    });
}

int cudnnPoolingBackward(Handle *handle, Descriptor *settings, const float *alpha, Descriptor *y_shape, const void *,
                         Descriptor *, const void *dy, Descriptor *x_shape, const void *x, const float *beta, Descriptor *,
                         void *dx) {
    const Descriptor xs = *x_shape, ys = *y_shape, pooling = *settings;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(xs, x, device), *slope = tensor(ys, dy, device);
        const Convolution own = windows(xs, ys, pooling);
        vector<float> result(xs.size());
        if (is_max(pooling)) {  // the first of the largest
            vector<size_t> largest(ys.size(), xs.size());
            own.visit([&](size_t, size_t place, size_t source) {
                if (largest[place] == xs.size() || from[source] > from[largest[place]]) largest[place] = source;
            });
            for (size_t i = 0; i < largest.size(); ++i) result.at(largest[i]) += slope[i];
        } else {
            const vector<float> by = divisors(own, pooling);
            own.visit([&](size_t, size_t place, size_t source) { result[source] += slope[place] / by[place]; });
        }
        blend(tensor(xs, dx, device), result);
    });
}

int cudnnActivationForward(Handle *handle, Descriptor *settings, const float *alpha, Descriptor *shape, const void *x,
                           const float *beta, Descriptor *, void *y) {
    const Descriptor xs = *shape;
    const bool relu = settings->mode == 1;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *from = tensor(xs, x, device);
        vector<float> result(xs.size());
        for (size_t i = 0; i < result.size(); ++i) result[i] = relu ? (from[i] < 0 ? 0 : from[i]) : 1 / (1 + std::exp(-from[i]));
        blend(tensor(xs, y, device), result);
    });
}

int cudnnActivationBackward(Handle *handle, Descriptor *settings, const float *alpha, Descriptor *shape, const void *y,
                            Descriptor *, const void *dy, Descriptor *, const void *, const float *beta, Descriptor *, void *dx) {
    const Descriptor ys = *shape;
    const bool relu = settings->mode == 1;
    const Blend blend(alpha, beta);
    const int device = fake::device_of(handle->stream);
    return submit(handle, [=] {
        const float *value = tensor(ys, y, device), *slope = tensor(ys, dy, device);
        vector<float> result(ys.size());
        for (size_t i = 0; i < result.size(); ++i)
            result[i] = slope[i] * (relu ? float(value[i] > 0) : value[i] * (1 - value[i]));
        blend(tensor(ys, dx, device), result);
    });
}
}
