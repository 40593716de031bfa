#include "functors.h"

#include <cmath>
#include <map>

#include "kernel_name.h"

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Of the forward functors' arguments a, b and of the gradients' (incoming gradient not among them).
const std::map<std::string, Functor> &functors() {
    static const std::map<std::string, Functor> all = {
        {"identity", [](const double *a) { return a[0]; }},
        {"identity_with_cast", [](const double *a) { return a[0]; }},
        {"negation", [](const double *a) { return -a[0]; }},
        {"relu", [](const double *a) { return std::isnan(a[0]) || a[0] > 0 ? a[0] : 0; }},
        {"sigmoid", [](const double *a) { return sigmoid(a[0]); }},
        {"exp", [](const double *a) { return std::exp(a[0]); }},
        {"log", [](const double *a) { return std::log(a[0]); }},
        {"log1p", [](const double *a) { return std::log1p(a[0]); }},
        {"softrelu", [](const double *a) { return a[0] > 20 ? a[0] : std::log1p(std::exp(a[0])); }},
        {"square", [](const double *a) { return a[0] * a[0]; }},
        {"square_root", [](const double *a) { return std::sqrt(a[0]); }},
        {"abs", [](const double *a) { return std::fabs(a[0]); }},
        {"sign", [](const double *a) { return double((a[0] > 0) - (a[0] < 0)); }},
        {"nt", [](const double *a) { return double(a[0] == 0); }},
        {"isnan", [](const double *a) { return double(std::isnan(a[0])); }},
        {"isfinite", [](const double *a) { return double(std::isfinite(a[0])); }},
        {"plus", [](const double *a) { return a[0] + a[1]; }},
        {"minus", [](const double *a) { return a[0] - a[1]; }},
        {"rminus", [](const double *a) { return a[1] - a[0]; }},
        {"mul", [](const double *a) { return a[0] * a[1]; }},
        {"div", [](const double *a) { return a[0] / a[1]; }},
        {"rdiv", [](const double *a) { return a[1] / a[0]; }},
        {"power", [](const double *a) { return std::pow(a[0], a[1]); }},
        {"mod", [](const double *a) { return a[1] == 0 ? 0 : a[0] - a[1] * std::floor(a[0] / a[1]); }},
        {"maximum", [](const double *a) { return std::isnan(a[0]) || a[0] > a[1] ? a[0] : a[1]; }},
        {"minimum", [](const double *a) { return std::isnan(a[0]) || a[0] < a[1] ? a[0] : a[1]; }},
        {"gt", [](const double *a) { return double(a[0] > a[1]); }},
        {"ge", [](const double *a) { return double(a[0] >= a[1]); }},
        {"lt", [](const double *a) { return double(a[0] < a[1]); }},
        {"le", [](const double *a) { return double(a[0] <= a[1]); }},
        {"eq", [](const double *a) { return double(a[0] == a[1]); }},
        {"ne", [](const double *a) { return double(a[0] != a[1]); }},
        {"left", [](const double *a) { return a[0]; }},
        {"right", [](const double *a) { return a[1]; }},
        {"smooth_l1_loss",
         [](const double *a) {
             const double bend = a[1] * a[1], size = std::fabs(a[0]);
             return size > 1 / bend ? size - 0.5 / bend : 0.5 * a[0] * a[0] * bend;
         }},
        {"smooth_l1_gradient",
         [](const double *a) {
             const double bend = a[1] * a[1];
             return std::fabs(a[0]) > 1 / bend ? double((a[0] > 0) - (a[0] < 0)) : bend * a[0];
         }},
        {"relu_grad", [](const double *a) { return std::isnan(a[0]) ? a[0] : double(a[0] > 0); }},
        {"sigmoid_grad", [](const double *a) { return a[0] * (1 - a[0]); }},
        {"log1p_grad", [](const double *a) { return 1 / (1 + a[0]); }},
        {"softrelu_grad", [](const double *a) { return -std::expm1(-a[0]); }},  // of the output
        {"log_grad", [](const double *a) { return 1 / a[0]; }},
        {"square_grad", [](const double *a) { return 2 * a[0]; }},
        {"square_root_grad", [](const double *a) { return 0.5 / a[0]; }},
        {"div_grad", [](const double *a) { return 1 / a[1]; }},
        {"div_rgrad", [](const double *a) { return -a[0] / (a[1] * a[1]); }},
        {"power_grad", [](const double *a) { return a[1] * std::pow(a[0], a[1] - 1); }},
    };
    return all;
}

}  // namespace

Functor functor_named(const std::string &type) {
    const Name name = parse_name(type);
    if (name.base == "backward_grad_tuned" || name.base == "backward_grad") {
        const Functor slope = functor_named(name.templates.at(0));
        return slope ? [slope](const double *a) { return a[0] * slope(a + 1); } : Functor();
    }
    if (name.base == "set_to_int") {
        const double value = std::stoi(name.templates.at(0));
        return [value](const double *) { return value; };
    }
    const auto found = functors().find(name.base);
    return found == functors().end() ? Functor() : found->second;
}
