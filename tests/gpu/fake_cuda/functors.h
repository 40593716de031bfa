// MXNet's functors of numbers, by their types' names.
#pragma once
#include <functional>
#include <string>

using Functor = std::function<double(const double *)>;

// Such as "mxnet::op::mshadow_op::plus"; empty if it is unknown.
Functor functor_named(const std::string &type);
