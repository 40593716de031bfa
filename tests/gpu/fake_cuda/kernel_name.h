// A kernel's demangled name, taken apart.
#pragma once
#include <string>
#include <vector>

struct Name {
    std::string base;  // without namespaces
    std::vector<std::string> templates, parameters;
};

// Split `text` at its commas outside of all brackets.
std::vector<std::string> split_arguments(const std::string &text);
// "a::b<c, d>(e, f)" → {"b", {"c", "d"}, {"e", "f"}}; the result's type and the parameters may be missing.
Name parse_name(const std::string &text);
