#include "mxnet_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "functors.h"
#include "kernel_name.h"
#include "mshadow_plans.h"
#include "numbers.h"

using fake::Work;

namespace {

enum Request { NOTHING, WRITE, WRITE_IN_PLACE, ADD };

template <class T>
T read(void **arguments, size_t index) {
    T value;
    memcpy(&value, arguments[index], sizeof value);
    return value;
}

std::vector<int> read_shape(void **arguments, size_t index, int dimensions) {
    const int *sizes = (const int *)arguments[index];
    return std::vector<int>(sizes, sizes + dimensions);
}

bool ends_with(const std::string &text, const std::string &end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// A parameter such as "float*", "float const*" or "float", which is an array of one number everywhere. Open it to use it.
struct Operand {
    const Type *type = nullptr;
    bool is_array = false;
    char *address = nullptr;
    double number = 0;
    int device = 0;
    fake::View view;

    double get(size_t index) const { return is_array ? type->load(view.at(index * type->size, type->size)) : number; }
    void set(size_t index, double value, int request = WRITE) const {
        if (request == NOTHING) return;
        char *place = view.at(index * type->size, type->size);
        type->store(place, request == ADD ? type->load(place) + value : value);
    }
};

std::vector<Operand> open(std::vector<Operand> operands) {
    for (Operand &operand : operands)
        if (operand.is_array && operand.address) operand.view = fake::view(operand.address, operand.device);
    return operands;
}

bool read_operand(const std::string &parameter, void *argument, int device, Operand *operand) {
    operand->is_array = ends_with(parameter, "*");
    operand->type = type_named(operand->is_array ? parameter.substr(0, parameter.size() - 1) : parameter);
    operand->device = device;
    if (!operand->type) return false;
    if (operand->is_array) operand->address = *(char **)argument;
    else operand->number = operand->type->load(argument);
    return true;
}

// Those of parameters begin … end; false if one is of an unknown type.
bool read_operands(const Name &name, void **arguments, size_t begin, size_t end, int device, std::vector<Operand> *all) {
    for (size_t i = begin; i < end; ++i) {
        all->emplace_back();
        if (!read_operand(name.parameters[i], arguments[i], device, &all->back())) return false;
    }
    return true;
}

Work elementwise(const Functor &functor, int request, int size, const std::vector<Operand> &operands) {
    if (!functor || operands.empty() || !operands[0].is_array) return {};
    return [=] {
        const auto opened = open(operands);
        std::vector<double> inputs(operands.size() - 1);
        for (int i = 0; i < size; ++i) {
            for (size_t k = 0; k < inputs.size(); ++k) inputs[k] = opened[k + 1].get(i);
            opened[0].set(i, functor(inputs.data()), request);
        }
    };
}

int sum_of_products(int index, const std::vector<int> &shape, const std::vector<int> &strides) {
    int sum = 0;
    for (size_t axis = shape.size(); axis-- > 0; index /= shape[axis]) sum += index % shape[axis] * strides[axis];
    return sum;
}

// The place in an array of `shape` of element `index` of one of `coordinates`, axes of length 1 being repeated.
int broadcast_place(int index, const std::vector<int> &coordinates, const std::vector<int> &shape) {
    int place = 0, stride = 1;
    for (size_t axis = shape.size(); axis-- > 0; index /= coordinates[axis], stride *= shape[axis])
        if (index % coordinates[axis] < shape[axis]) place += index % coordinates[axis] * stride;
    return place;
}

// ---- broadcasting ----

// binary_broadcast_kernel<dimensions, functor>(size, request, left strides, right strides, shape, left, right, out, …)
Work binary_broadcast(const Name &name, const Name &op, void **arguments, int device) {
    const int dimensions = std::stoi(op.templates.at(0));
    const Functor functor = functor_named(op.templates.at(1));
    const auto left_strides = read_shape(arguments, 2, dimensions), right_strides = read_shape(arguments, 3, dimensions),
               shape = read_shape(arguments, 4, dimensions);
    const int size = read<int>(arguments, 0), request = read<int>(arguments, 1);
    std::vector<Operand> operands;
    if (!functor || !read_operands(name, arguments, 5, 8, device, &operands)) return {};
    return [=] {
        const auto opened = open(operands);
        for (int i = 0; i < size; ++i) {
            const double both[2] = {opened[0].get(sum_of_products(i, shape, left_strides)),
                                    opened[1].get(sum_of_products(i, shape, right_strides))};
            opened[2].set(i, functor(both), request);
        }
    };
}

// reduce_kernel<sum, dimensions, …, functor, unroll>(size, reduced, add, big, small, shape of big as small's, of small,
// reduced shape, its strides, parts, …)
Work reduce(const Name &name, void **arguments, int device) {
    if (parse_name(name.templates.at(0)).base != "sum" || name.parameters.size() != 11) return {};
    const int dimensions = std::stoi(name.templates.at(1));
    const Functor functor = functor_named(name.templates.at(5));
    const int size = read<int>(arguments, 0), reduced = read<int>(arguments, 1), parts = read<int>(arguments, 9);
    const int request = read<bool>(arguments, 2) ? ADD : WRITE;
    std::vector<Operand> operands;
    if (!functor || !read_operands(name, arguments, 3, 5, device, &operands)) return {};
    const auto big = read_shape(arguments, 5, dimensions), small = read_shape(arguments, 6, dimensions),
               reduced_shape = read_shape(arguments, 7, dimensions), strides = read_shape(arguments, 8, dimensions);
    return [=] {
        const auto opened = open(operands);
        for (int part = 0; part < parts; ++part) {
            const int begin = int(int64_t(reduced) * part / parts), end = int(int64_t(reduced) * (part + 1) / parts);
            for (int i = 0; i < size; ++i) {
                const int place = broadcast_place(i, small, big);
                double sum = 0;
                for (int k = begin; k < end; ++k) {
                    const double value = opened[0].get(place + sum_of_products(k, reduced_shape, strides));
                    sum += functor(&value);
                }
                opened[1].set(i + size_t(part) * size, sum, request);
            }
        }
    };
}

// reduce_lines_kernel<sum, number>(size, lines, add, stride, lines of numbers, out)
Work reduce_lines(const Name &name, void **arguments, int device) {
    const int size = read<int>(arguments, 0), lines = read<int>(arguments, 1), stride = read<int>(arguments, 3);
    const int request = read<bool>(arguments, 2) ? ADD : WRITE;
    std::vector<Operand> operands;
    if (parse_name(name.templates.at(0)).base != "sum" || !read_operands(name, arguments, 4, 6, device, &operands)) return {};
    return [=] {
        const auto opened = open(operands);
        for (int i = 0; i < size; ++i) {
            double sum = 0;
            for (int k = 0; k < lines; ++k) sum += opened[0].get(i + size_t(k) * stride);
            opened[1].set(i, sum, request);
        }
    };
}

// Nothing is reduced: (size, add, big, small, shapes), or (size, add, big, left, right, small, shapes).
Work reduce_one(const Name &name, void **arguments, int device) {
    const bool binary = name.parameters.size() == 10;
    if (parse_name(name.templates.at(0)).base != "sum" || !(binary || name.parameters.size() == 6)) return {};
    const int dimensions = std::stoi(name.templates.at(1)), size = read<int>(arguments, 0), inputs = binary ? 3 : 1;
    const int request = read<bool>(arguments, 1) ? ADD : WRITE;
    const Functor outer = functor_named(name.templates[binary ? 3 : 5]);
    const Functor inner = binary ? functor_named(name.templates[4]) : outer;
    std::vector<Operand> operands;
    if (!outer || !inner || !read_operands(name, arguments, 2, 3 + inputs, device, &operands)) return {};
    std::vector<std::vector<int>> shapes;
    for (int i = 0; i <= inputs; ++i) shapes.push_back(read_shape(arguments, 3 + inputs + i, dimensions));
    return [=] {
        const auto opened = open(operands);
        for (int i = 0; i < size; ++i) {
            double values[3];
            for (int k = 0; k < inputs; ++k) values[k] = opened[k].get(broadcast_place(i, shapes.back(), shapes[k]));
            if (binary) values[1] = inner(values + 1);
            opened[inputs].set(i, outer(values), request);
        }
    };
}

// broadcast_kernel_gpu<functor>(size, in, out, strides and shapes, request, dimensions)
Work broadcast(const Name &name, const std::string &functor_name, void **arguments, int device) {
    struct Shapes {  // ShapeAndStride
        int in_strides[5], out_strides[5], in[5], out[5];
    };
    const Shapes shapes = read<Shapes>(arguments, 3);
    const int size = read<int>(arguments, 0), request = read<int>(arguments, 4), dimensions = read<int>(arguments, 5);
    const std::vector<int> in(shapes.in, shapes.in + dimensions), out(shapes.out, shapes.out + dimensions);
    const Functor functor = functor_named(functor_name);
    std::vector<Operand> operands;
    if (!functor || !read_operands(name, arguments, 1, 3, device, &operands)) return {};
    return [=] {
        const auto opened = open(operands);
        for (int i = 0; i < size; ++i) {
            const double value = opened[0].get(broadcast_place(i, out, in));
            opened[1].set(i, functor(&value), request);
        }
    };
}

// ---- mxnet_op::Kernel<Op>::Launch ----

// MultiSGDKernel: SGD with or without momentum on several weights.
Work multi_sgd(const Name &op, void **arguments, int device) {
    struct Parameters {  // MultiSGDKernelParam
        int count;
        size_t largest, sizes[60];
        float *weights[60], *gradients[60], *velocities[60], *copies[60], *outputs[60];
        float rates[60], decays[60], clip, rescale, momentum;
    };
    if (op.templates.at(0) != "float" || op.templates.at(2) != "false") return {};
    const bool has_momentum = op.templates[1] == "true";
    const auto own = std::make_shared<Parameters>(read<Parameters>(arguments, 1));
    const int request = read<int>(arguments, 2);
    return [=] {
        for (int k = 0; k < own->count; ++k) {
            const size_t size = own->sizes[k];
            const float *weight = fake::array_at(own->weights[k], size, device);
            const float *gradient = fake::array_at(own->gradients[k], size, device);
            float *velocity = has_momentum ? fake::array_at(own->velocities[k], size, device) : nullptr;
            float *output = fake::array_at(own->outputs[k], size, device);
            for (size_t i = 0; i < size; ++i) {
                float slope = own->rescale * gradient[i];
                if (own->clip >= 0) slope = std::min(std::max(slope, -own->clip), own->clip);
                float change = -own->rates[k] * (own->decays[k] * weight[i] + slope);
                if (velocity) change = velocity[i] = own->momentum * velocity[i] + change;
                output[i] = weight[i] + change + (request == ADD ? output[i] : 0);
            }
        }
    };
}

// pick<dimensions, clip>(size, out, in, indices, length of the axis, its stride, shape of in with 1 there, of out); for
// pick_grad, `in` is the gradient of what was picked, and added to `out` at the places of what was picked.
Work pick(const Name &name, const Name &op, void **arguments, int device) {
    const int dimensions = std::stoi(op.templates.at(0)), size = read<int>(arguments, 0);
    std::vector<Operand> operands;
    if (op.templates.at(1) != "true" || !read_operands(name, arguments, 1, 4, device, &operands)) return {};
    const int length = read<int>(arguments, 4), stride = read<int>(arguments, 5);
    const auto big = read_shape(arguments, 6, dimensions), small = read_shape(arguments, 7, dimensions);
    const bool is_gradient = op.base == "pick_grad";
    return [=] {
        const auto opened = open(operands);
        for (int i = 0; i < size; ++i) {
            const int index = std::min(std::max(int(opened[2].get(i)), 0), length - 1);
            const size_t place = broadcast_place(i, small, big) + size_t(index) * stride;
            if (is_gradient) opened[0].set(place, opened[1].get(i), ADD);
            else opened[0].set(i, opened[1].get(place));
        }
    };
}

// slice_assign_scalar<dimensions>(rows, out, number, request, shape of out, of the slice, its begin, its step)
Work slice_assign_scalar(const Name &name, const Name &op, void **arguments, int device) {
    const int dimensions = std::stoi(op.templates.at(0)), request = read<int>(arguments, 3);
    std::vector<Operand> operands;
    if (!read_operands(name, arguments, 1, 3, device, &operands)) return {};
    const auto shape = read_shape(arguments, 4, dimensions), slice = read_shape(arguments, 5, dimensions),
               begin = read_shape(arguments, 6, dimensions), step = read_shape(arguments, 7, dimensions);
    const int size = read<int>(arguments, 0) * slice.back();
    return [=] {
        const auto opened = open(operands);
        for (int i = 0; i < size; ++i) {
            size_t place = 0, stride = 1;
            for (int axis = dimensions - 1, rest = i; axis >= 0; rest /= slice[axis], stride *= shape[axis--])
                place += (begin[axis] + rest % slice[axis] * step[axis]) * stride;
            opened[0].set(place, opened[1].number, request);
        }
    };
}

Work generic(const Name &name, void **arguments, int device) {
    const Name op = parse_name(name.templates.at(0));
    const int size = read<int>(arguments, 0);
    std::vector<Operand> operands;
    if (op.base == "op_with_req") {
        if (!read_operands(name, arguments, 1, name.parameters.size(), device, &operands)) return {};
        return elementwise(functor_named(op.templates.at(0)), std::stoi(op.templates.at(1)), size, operands);
    }
    if (op.base == "set_to_int") {
        if (!read_operands(name, arguments, 1, 2, device, &operands)) return {};
        return elementwise(functor_named(name.templates[0]), WRITE, size, operands);
    }
    if (op.base == "direct_copy") {  // in, out, request
        if (!read_operands(name, arguments, 1, 3, device, &operands)) return {};
        std::swap(operands[0], operands[1]);
        return elementwise(functor_named(op.templates.at(0)), read<int>(arguments, 3), size, operands);
    }
    if (op.base == "where") {  // out, condition, values
        if (!read_operands(name, arguments, 1, 5, device, &operands)) return {};
        const auto choose = [](const double *inputs) { return inputs[0] != 0 ? inputs[1] : inputs[2]; };
        return elementwise(choose, std::stoi(op.templates.at(0)), size, operands);
    }
    if (op.base == "clip" || op.base == "clip_grad") {  // out, (gradient,) in, least, largest
        const bool is_gradient = op.base == "clip_grad";
        const size_t inputs = is_gradient ? 2 : 1;
        std::vector<Operand> bounds;
        if (!read_operands(name, arguments, 1, 2 + inputs, device, &operands)) return {};
        if (!read_operands(name, arguments, 2 + inputs, 4 + inputs, device, &bounds)) return {};
        const double least = bounds[0].number, largest = bounds[1].number;
        const auto clip = [=](const double *a) {
            const double value = a[inputs - 1];
            if (is_gradient) return value > largest || value < least ? 0 : a[0];
            return value > largest ? largest : value < least ? least : value;
        };
        return elementwise(clip, WRITE, size, operands);
    }
    if (op.base == "where_backward") {  // out, gradient, condition
        if (!read_operands(name, arguments, 1, 4, device, &operands)) return {};
        const bool of_true = op.templates.at(1) == "true";
        const auto choose = [=](const double *a) { return (a[1] != 0) == of_true ? a[0] : 0; };
        return elementwise(choose, std::stoi(op.templates[0]), size, operands);
    }
    if (op.base == "TakeZeroAxisGPU") {  // out, in, indices, numbers of a row, rows
        if (op.templates.at(0) != "true" || !read_operands(name, arguments, 1, 4, device, &operands)) return {};
        const size_t width = read<size_t>(arguments, 4);
        const int64_t rows = read<int64_t>(arguments, 5);
        return [=] {
            const auto opened = open(operands);
            for (int i = 0; i < size; ++i) {
                const int64_t row = std::min(std::max<int64_t>(opened[2].get(i / width), 0), rows - 1);
                opened[0].set(i, opened[1].get(row * width + i % width));
            }
        };
    }
    if (op.base == "range_fwd") {  // repetitions, first, step, request, out
        if (!read_operands(name, arguments, 5, 6, device, &operands)) return {};
        const int repeated = read<int>(arguments, 1);
        std::vector<Operand> numbers;
        if (!read_operands(name, arguments, 2, 4, device, &numbers)) return {};
        const double first = numbers[0].number, step = numbers[1].number;
        const int request = read<int>(arguments, 4);
        return [=] {
            const auto opened = open(operands);
            for (int i = 0; i < size; ++i) opened[0].set(i, first + i / repeated * step, request);
        };
    }
    if (op.base == "Sum") {  // out, request, inputs
        if (!read_operands(name, arguments, 1, 2, device, &operands)) return {};
        if (!read_operands(name, arguments, 3, name.parameters.size(), device, &operands)) return {};
        const size_t count = operands.size() - 1;
        const auto sum = [count](const double *numbers) {
            double all = 0;
            for (size_t k = 0; k < count; ++k) all += numbers[k];
            return all;
        };
        return elementwise(sum, read<int>(arguments, 2), size, operands);
    }
    if (op.base == "binary_broadcast_kernel") return binary_broadcast(name, op, arguments, device);
    if (op.base == "broadcast_kernel_gpu") return broadcast(name, op.templates.at(0), arguments, device);
    if (op.base == "pick" || op.base == "pick_grad") return pick(name, op, arguments, device);
    if (op.base == "slice_assign_scalar") return slice_assign_scalar(name, op, arguments, device);
    if (op.base == "MultiSGDKernel") return multi_sgd(op, arguments, device);
    return {};
}

// ---- the others ----

// softmax_stride1_compute_kernel<log_softmax_fwd, …>(in, out, lengths, width, temperature, …, rows): of each row
Work log_softmax(const Name &name, void **arguments, int device) {
    std::vector<Operand> operands;
    if (parse_name(name.templates.at(0)).base != "log_softmax_fwd" || name.templates.at(1) != "false") return {};
    if (!read_operands(name, arguments, 0, 2, device, &operands)) return {};
    const int width = read<int>(arguments, 3), rows = read<int>(arguments, 6);
    if (read<void *>(arguments, 2) || read<double>(arguments, 4) != 1) return {};
    return [=] {
        const auto opened = open(operands);
        for (int row = 0; row < rows; ++row) {
            double largest = -INFINITY, sum = 0;
            for (int i = 0; i < width; ++i) largest = std::fmax(largest, opened[0].get(size_t(row) * width + i));
            for (int i = 0; i < width; ++i) sum += std::exp(opened[0].get(size_t(row) * width + i) - largest);
            for (int i = 0; i < width; ++i) {
                const size_t place = size_t(row) * width + i;
                opened[1].set(place, opened[0].get(place) - largest - std::log(sum));
            }
        }
    };
}

// softmax_stride1_grad_kernel<left, log_softmax_bwd, request, …>(out, gradient, result, lengths, width, temperature, …, rows)
Work log_softmax_gradient(const Name &name, void **arguments, int device) {
    std::vector<Operand> operands;
    if (parse_name(name.templates.at(0)).base != "left" || parse_name(name.templates.at(1)).base != "log_softmax_bwd") return {};
    if (!read_operands(name, arguments, 0, 3, device, &operands)) return {};
    const int request = std::stoi(name.templates[2]), width = read<int>(arguments, 4), rows = read<int>(arguments, 7);
    if (read<void *>(arguments, 3) || read<double>(arguments, 5) != 1) return {};
    return [=] {
        const auto opened = open(operands);
        for (size_t row = 0; row < size_t(rows); ++row) {
            double sum = 0;
            for (size_t i = row * width; i < (row + 1) * width; ++i) sum += opened[1].get(i);
            for (size_t i = row * width; i < (row + 1) * width; ++i)
                opened[2].set(i, opened[1].get(i) - std::exp(opened[0].get(i)) * sum, request);
        }
    };
}

// PartialSortSmallK<number>(count, width, numbers, their places, ascending): the first `count` of each row, of equal numbers
// that of the smaller place
Work partial_sort(const Name &name, void **arguments, int device, Launch launch) {
    std::vector<Operand> operands;
    if (!read_operands(name, arguments, 2, 4, device, &operands)) return {};
    const int count = read<int>(arguments, 0), width = read<int>(arguments, 1), rows = launch.grid_x;
    const bool ascending = read<bool>(arguments, 4);
    return [=] {
        const auto opened = open(operands);
        for (size_t row = 0; row < size_t(rows); ++row) {
            std::vector<std::pair<double, double>> pairs;
            for (int i = 0; i < width; ++i) {
                const double number = opened[0].get(row * width + i);
                pairs.emplace_back(ascending ? number : -number, opened[1].get(row * width + i));
            }
            std::partial_sort(pairs.begin(), pairs.begin() + count, pairs.end());
            for (int i = 0; i < count; ++i) {
                opened[0].set(row * width + i, ascending ? pairs[i].first : -pairs[i].first);
                opened[1].set(row * width + i, pairs[i].second);
            }
        }
    };
}

// transpose_pseudo2D<number, unit, add>(out, in, rows, columns, …): (n, rows, columns) to (n, columns, rows)
Work transpose(const Name &name, void **arguments, int device, Launch launch) {
    std::vector<Operand> operands;
    if (!read_operands(name, arguments, 0, 2, device, &operands)) return {};
    const int rows = read<int>(arguments, 2), columns = read<int>(arguments, 3);
    const int matrices = launch.grid_z * read<int>(arguments, 5), request = name.templates.at(2) == "true" ? ADD : WRITE;
    return [=] {
        const auto opened = open(operands);
        for (int k = 0; k < matrices; ++k)
            for (int row = 0; row < rows; ++row)
                for (int column = 0; column < columns; ++column)
                    opened[0].set((size_t(k) * columns + column) * rows + row,
                                  opened[1].get((size_t(k) * rows + row) * columns + column), request);
    };
}

// MapPlanKernel<saver, …>(target, row stride, shape, source)
Work map_plan(const Name &name, void **arguments, int device) {
    static const std::map<std::string, Functor> savers = {
        {"saveto", functor_named("right")}, {"plusto", functor_named("plus")}, {"minusto", functor_named("minus")},
        {"multo", functor_named("mul")},    {"divto", functor_named("div")},
    };
    const auto saver = savers.find(parse_name(name.templates.at(0)).base);
    if (saver == savers.end()) return {};
    const auto shape = read_shape(arguments, 2, 2);
    const Plan target = read_plan(name.parameters.at(0), (const char *)arguments[0], device);
    const Plan source = read_plan(name.parameters.at(3), (const char *)arguments[3], device);
    if (!target.assign || !source.value) return {};
    return [=] {
        for (int y = 0; y < shape[0]; ++y)
            for (int x = 0; x < shape[1]; ++x) {
                const double both[2] = {target.value(y, x), source.value(y, x)};
                target.assign(y, x, saver->second(both));
            }
    };
}

}  // namespace

Work mxnet_kernel(const std::string &readable, void **arguments, int device, Launch launch) {
    const Name name = parse_name(readable);
    if (name.base == "mxnet_generic_kernel" || name.base == "mxnet_generic_kernel_ex") return generic(name, arguments, device);
    if (name.base == "reduce_kernel") return reduce(name, arguments, device);
    if (name.base == "reduce_lines_kernel") return reduce_lines(name, arguments, device);
    if (name.base == "reduce_kernel_M1") return reduce_one(name, arguments, device);
    if (name.base == "softmax_stride1_compute_kernel") return log_softmax(name, arguments, device);
    if (name.base == "PartialSortSmallK") return partial_sort(name, arguments, device, launch);
    if (name.base == "softmax_stride1_grad_kernel") return log_softmax_gradient(name, arguments, device);
    if (name.base == "transpose_pseudo2D") return transpose(name, arguments, device, launch);
    if (name.base == "BatchNormalizationUpdateOutputInferenceKernel" && name.templates[0] == "float")
        return batch_norm_forward(arguments, device);
    if (name.base == "BatchNormalizationBackwardKernel" && name.templates[0] == "float")
        return batch_norm_backward(arguments, device);
    if (name.base == "MapPlanKernel") return map_plan(name, arguments, device);
    // <policy, descending, key, value, …>(keys, sorted keys, values, sorted values, count, first bit, end of bits)
    if (name.base == "DeviceRadixSortSingleTileKernel")
        return radix_sort(name.templates.at(2), name.templates.at(3), name.templates[1] == "true", arguments, 4, true, device);
    // A pass over few bits: <policy, …, descending, key, value, …>(keys, …, offsets, count, first bit, bits, …). The offsets
    // that the two kernels before it leave are not needed here.
    if (name.base == "DeviceRadixSortDownsweepKernel")
        return radix_sort(name.templates.at(3), name.templates.at(4), name.templates[2] == "true", arguments, 5, false, device);
    if (name.base == "DeviceRadixSortUpsweepKernel" || name.base == "RadixSortScanBinsKernel") return [] {};
    return {};
}
