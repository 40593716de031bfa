#include "kernel_name.h"

std::vector<std::string> split_arguments(const std::string &text) {
    std::vector<std::string> parts;
    int depth = 0;
    size_t start = 0;
    for (size_t i = 0; i <= text.size(); ++i) {
        const char c = i < text.size() ? text[i] : ',';
        depth += (c == '<' || c == '(') - (c == '>' || c == ')');
        if (c != ',' || depth) continue;
        size_t begin = start, end = i;
        while (begin < end && text[begin] == ' ') ++begin;
        while (begin < end && text[end - 1] == ' ') --end;
        if (begin < end) parts.push_back(text.substr(begin, end - begin));
        start = i + 1;
    }
    return parts;
}

Name parse_name(const std::string &given) {
    std::string text = given;
    for (const std::string unnamed = "(anonymous namespace)";;) {
        const size_t found = text.find(unnamed);
        if (found == std::string::npos) break;
        text.replace(found, unnamed.size(), "unnamed");
    }
    Name name;
    int depth = 0;
    size_t base = 0, end = text.size(), templates = end, parameters = end;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (depth == 0 && c == '<' && parameters == text.size()) templates = i;
        if (depth == 0 && c == '(') parameters = i;
        if (depth == 0 && (c == ' ' || c == ':') && parameters == text.size()) base = i + 1, templates = text.size();
        depth += (c == '<' || c == '(') - (c == '>' || c == ')');
    }
    name.base = text.substr(base, std::min(templates, parameters) - base);
    if (templates < parameters) {
        const size_t close = text.rfind('>', parameters);
        name.templates = split_arguments(text.substr(templates + 1, close - templates - 1));
    }
    if (parameters < text.size())
        name.parameters = split_arguments(text.substr(parameters + 1, text.rfind(')') - parameters - 1));
    return name;
}
