// libcublas.so.11: products of float32 matrices.
#include "device.h"

namespace {

struct Handle {
    fake::Stream *stream = nullptr;
};

const int FLOAT = 0;  // CUDA_R_32F

// Columns of a matrix follow one another, each `stride` numbers after the last.
float *matrix(const void *address, int rows, int columns, int stride, int device) {
    return (float *)fake::at(address, (size_t(columns - 1) * stride + rows) * sizeof(float), device);
}

}  // namespace

extern "C" {

int cublasCreate_v2(Handle **handle) { return *handle = new Handle, 0; }
int cublasDestroy_v2(Handle *handle) { return delete handle, 0; }
int cublasSetStream_v2(Handle *handle, fake::Stream *stream) { return handle->stream = stream, 0; }

int cublasSgemm_v2(Handle *handle, int transpose_a, int transpose_b, int m, int n, int k, const float *alpha, const void *a,
                   int stride_a, const void *b, int stride_b, const float *beta, void *c, int stride_c) {
    const float by = *alpha, keep = *beta;
    const int device = fake::device_of(handle->stream);
    fake::submit(handle->stream, [=] {
        const float *left = matrix(a, transpose_a ? k : m, transpose_a ? m : k, stride_a, device);
        const float *right = matrix(b, transpose_b ? n : k, transpose_b ? k : n, stride_b, device);
        float *to = matrix(c, m, n, stride_c, device);
        for (int column = 0; column < n; ++column)
            for (int row = 0; row < m; ++row) {
                double sum = 0;
                for (int i = 0; i < k; ++i)
                    sum += double(left[transpose_a ? size_t(row) * stride_a + i : size_t(i) * stride_a + row]) *
                           right[transpose_b ? size_t(i) * stride_b + column : size_t(column) * stride_b + i];
                float &target = to[size_t(column) * stride_c + row];
                target = float(by * sum) + (keep == 0 ? 0 : keep * target);
            }
    });
    return 0;
}

int cublasSgemmEx(Handle *handle, int transpose_a, int transpose_b, int m, int n, int k, const float *alpha, const void *a,
                  int type_a, int stride_a, const void *b, int type_b, int stride_b, const float *beta, void *c, int type_c,
                  int stride_c) {
    if (type_a != FLOAT || type_b != FLOAT || type_c != FLOAT) fake::fail("cuBLAS: a matrix that is not of float32");
    return cublasSgemm_v2(handle, transpose_a, transpose_b, m, n, k, alpha, a, stride_a, b, stride_b, beta, c, stride_c);
}
}
