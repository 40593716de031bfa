// Numbers of the types that MXNet's arrays hold, read and written as double.
#pragma once
#include <string>

struct Type {
    size_t size;
    double (*load)(const void *);
    void (*store)(void *, double);
};

// By its C++ name, such as "float" or "float const"; nullptr for another.
const Type *type_named(std::string name);
