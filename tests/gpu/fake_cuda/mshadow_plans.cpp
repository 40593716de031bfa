#include "mshadow_plans.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <vector>

#include "device.h"
#include "functors.h"
#include "kernel_name.h"
#include "numbers.h"

namespace {

size_t aligned(size_t offset, size_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

// Members of a plan, one after the other, laid out as C++ does.
struct Members {
    const char *memory;
    int device;
    Plan *plan;

    Plan next_plan(const std::string &type) {
        size_t offset = plan->bytes;
        Plan inner = read_plan(type, memory + offset, device);
        // Its alignment is known only now.
        if (aligned(offset, inner.alignment) != offset) {
            offset = aligned(offset, inner.alignment);
            inner = read_plan(type, memory + offset, device);
        }
        grow(offset, inner.bytes, inner.alignment);
        return inner;
    }
    template <class T>
    T next() {
        const size_t offset = aligned(plan->bytes, sizeof(T));
        T member;
        memcpy(&member, memory + offset, sizeof member);
        grow(offset, sizeof(T), sizeof(T));
        return member;
    }
    void grow(size_t offset, size_t bytes, size_t alignment) {
        plan->bytes = offset + bytes;
        plan->alignment = std::max(plan->alignment, alignment);
    }
};

std::string plan_of(const std::string &expression, const std::string &number) {
    return "mshadow::expr::Plan<" + expression + ", " + number + " >";
}

}  // namespace

Plan read_plan(const std::string &type, const char *memory, int device) {
    const Name outer = parse_name(type);
    Plan plan;
    if (outer.base != "Plan") return plan;
    const std::string &number = outer.templates.at(1);
    const Name own = parse_name(outer.templates[0]);
    const auto &of = own.templates;
    Members members{memory, device, &plan};

    if (own.base == "Tensor") {
        const Type *numbers = type_named(of.at(2));
        if (!numbers) return plan;
        char *data = members.next<char *>();
        const int stride = of[1] == "1" ? 0 : members.next<int>();
        const auto view = std::make_shared<fake::View>();
        const auto place = [=](int y, int x) {
            if (!view->memory) *view = fake::view(data, device);  // now that the kernel runs
            return view->at((size_t(y) * stride + x) * numbers->size, numbers->size);
        };
        plan.value = [=](int y, int x) { return numbers->load(place(y, x)); };
        plan.assign = [=](int y, int x, double value) { numbers->store(place(y, x), value); };
    } else if (own.base == "ScalarExp") {
        const Type *numbers = type_named(of.at(0));
        if (!numbers) return plan;
        const double value = numbers->load(memory);
        members.grow(0, numbers->size, numbers->size);
        plan.value = [=](int, int) { return value; };
    } else if (own.base == "TypecastExp") {  // to, from, expression
        plan.value = members.next_plan(plan_of(of.at(2), of[1])).value;
    } else if (own.base == "BinaryMapExp") {  // functor, left, right, number
        const Functor functor = functor_named(of.at(0));
        const auto left = members.next_plan(plan_of(of[1], number)).value;
        const auto right = members.next_plan(plan_of(of[2], number)).value;
        if (!functor) return Plan();
        plan.value = [=](int y, int x) {
            const double both[2] = {left(y, x), right(y, x)};
            return functor(both);
        };
    } else if (own.base == "UnaryMapExp") {  // functor, expression, number
        const Functor functor = functor_named(of.at(0));
        const auto source = members.next_plan(plan_of(of[1], number)).value;
        if (!functor) return Plan();
        plan.value = [=](int y, int x) {
            const double one = source(y, x);
            return functor(&one);
        };
    } else if (own.base == "ReshapeExp") {  // expression, number, new dimensions, old ones
        const auto source = members.next_plan(plan_of(of.at(0), number)).value;
        const int width = members.next<int>(), old = of[3] == "1" ? INT_MAX : members.next<int>();
        plan.value = [=](int y, int x) { return source((y * width + x) / old, (y * width + x) % old); };
    } else if (own.base == "SliceExp" && of.at(4) != "1") {  // along any axis but the last
        const Plan source = members.next_plan(plan_of(of[0], number));
        const int height = members.next<int>(), begin = members.next<int>(), old = members.next<int>(),
                  size = members.next<int>();
        const auto row = [=](int y) { return (y / height / size * old + y / height % size + begin) * height + y % height; };
        plan.value = [=](int y, int x) { return source.value(row(y), x); };
        plan.assign = [=](int y, int x, double value) { source.assign(row(y), x, value); };
    } else if (own.base == "SliceExp") {  // along the last axis
        const Plan source = members.next_plan(plan_of(of.at(0), number));
        const int begin = members.next<int>();
        plan.value = [=](int y, int x) { return source.value(y, x + begin); };
        plan.assign = [=](int y, int x, double value) { source.assign(y, x + begin, value); };
    } else if (own.base == "UpSamplingNearestExp") {
        const auto source = members.next_plan(plan_of(of.at(0), number)).value;
        const int scale = members.next<int>(), height = members.next<int>(), source_height = members.next<int>();
        plan.value = [=](int y, int x) { return source(y / height * source_height + y % height / scale, x / scale); };
    } else if (own.base == "PoolingExp" && parse_name(of.at(0)).base == "sum") {
        const auto source = members.next_plan(plan_of(of.at(1), number)).value;
        const int size_y = members.next<int>(), size_x = members.next<int>(), step_y = members.next<int>(),
                  step_x = members.next<int>(), source_height = members.next<int>(), source_width = members.next<int>(),
                  height = members.next<int>();
        plan.value = [=](int y, int x) {
            const int channel = y / height, top = y % height * step_y, left = x * step_x;
            double sum = 0;
            for (int h = top; h < std::min(top + size_y, source_height); ++h)
                for (int w = left; w < std::min(left + size_x, source_width); ++w)
                    sum += source(channel * source_height + h, w);
            return sum;
        };
    } else {
        return Plan();
    }
    if (!plan.value) return Plan();
    plan.bytes = aligned(plan.bytes, plan.alignment);
    return plan;
}
