// mshadow's expression templates: a plan's type says what it computes, its bytes hold pointers and sizes.
#pragma once
#include <functional>
#include <string>

struct Plan {
    std::function<double(int, int)> value;         // of row and column
    std::function<void(int, int, double)> assign;  // empty where it cannot be assigned to
    size_t bytes = 0, alignment = 1;               // of the plan itself
};

// The plan of a type "mshadow::expr::Plan<…>" whose bytes begin at `memory`; its `bytes` are 0 if the kind is unknown.
Plan read_plan(const std::string &type, const char *memory, int device);
