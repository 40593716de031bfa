#include "device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <set>

namespace fake {
namespace {

const size_t PAGE = 4096, ALIGNMENT = 512, SPACE = size_t(1) << 40;
const int POISON = 0xFF;  // NaN, as a number of any floating-point type

std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

size_t rounded_up(size_t size, size_t step) { return (size + step - 1) / step * step; }

struct Allocation {
    size_t size;
    char *memory;  // of the host
    char *begin;   // of the pages around it
    size_t pages;
};

struct Device {
    char *space = nullptr;  // addresses that nobody may use, each given away once
    size_t used = ALIGNMENT, taken = 0;  // addresses given away, and memory that is not given back
    std::map<char *, Allocation> allocations;
    std::set<Stream *> streams;
    Stream *default_stream = nullptr;
};

thread_local int device_now = 0;
thread_local bool context_now = false;

pid_t owner() {
    static const pid_t first = getpid();
    return first;
}

std::map<int, Device> &devices() {
    static auto *all = new std::map<int, Device>;  // never destroyed: other libraries still free memory at exit
    return *all;
}

std::map<const char *, size_t> &pinned() {
    static auto *all = new std::map<const char *, size_t>;
    return *all;
}

Device &device_at(int number) {
    owner();
    Device &device = devices()[number];
    if (!device.space)
        device.space = (char *)mmap(nullptr, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return device;
}

// The allocation that holds an address.
std::pair<char *const, Allocation> *find(Device &device, const void *address) {
    auto next = device.allocations.upper_bound((char *)address);
    if (next == device.allocations.begin()) return nullptr;
    --next;
    return (char *)address < next->first + next->second.size ? &*next : nullptr;
}

}  // namespace

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("fake CUDA: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    fflush(stderr);
    abort();
}

int device_count() { return setting("FAKE_CUDA_DEVICES", 2); }
int current_device() { return device_now; }
void set_current_device(int device) {
    if (device < 0 || device >= device_count()) fail("there is no device %d", device);
    device_now = device;
    context_now = true;
}
bool has_context() { return context_now; }
bool usable() { return owner() == getpid(); }
// FAKE_CUDA_CAPABILITY is one of all devices, or of two: 86,75.
int capability(int device) {
    const char *text = getenv("FAKE_CUDA_CAPABILITY"), *second = text ? strchr(text, ',') : nullptr;
    return text ? atoi(device && second ? second + 1 : text) : 52;
}
int driver_version() { return setting("FAKE_CUDA_DRIVER", 11080); }
bool has_machine_code() { return capability(device_now) < 90; }

// ---- memory ----

size_t memory() { return size_t(setting("FAKE_CUDA_MEGABYTES", 8192)) << 20; }
size_t free_memory(int number) {
    Lock lock(mutex);
    return memory() - device_at(number).taken;
}

void *allocate(int number, size_t bytes) {
    Lock lock(mutex);
    Device &device = device_at(number);
    context_now = true;
    const size_t size = rounded_up(bytes ? bytes : 1, ALIGNMENT), pages = rounded_up(size, PAGE) + PAGE;
    if (device.taken + bytes > memory()) return nullptr;
    if (device.used + size + ALIGNMENT > SPACE) fail("device %d gave away all its addresses", number);
    char *begin = (char *)mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) fail("no memory for %zu bytes", bytes);
    mprotect(begin + pages - PAGE, PAGE, PROT_NONE);
    memset(begin, POISON, pages - PAGE);
    char *address = device.space + device.used;
    device.used += size + ALIGNMENT, device.taken += bytes;
    device.allocations[address] = {bytes, begin + pages - PAGE - size, begin, pages};
    return address;
}

void release(void *address) {
    if (!address) return;
    Lock lock(mutex);
    const int number = device_of(address);
    if (number < 0) fail("memory of the host is freed as if it were a device's");
    finish_device(number);
    Device &device = device_at(number);
    auto found = device.allocations.find((char *)address);
    if (found == device.allocations.end()) fail("memory of device %d is freed twice, or in part", number);
    const Allocation &own = found->second;
    for (char *place = own.begin; place < own.begin + own.pages - PAGE; ++place) {
        if (place == own.memory) place += own.size;
        if (place < own.begin + own.pages - PAGE && *place != (char)POISON)
            fail("something was written beside an array of %zu bytes of device %d", own.size, number);
    }
    munmap(own.begin, own.pages);
    device.taken -= own.size;
    device.allocations.erase(found);
}

void *allocate_pinned(size_t bytes) {
    Lock lock(mutex);
    void *memory = nullptr;
    if (posix_memalign(&memory, ALIGNMENT, bytes + 1)) fail("no memory for %zu bytes", bytes);
    memset(memory, POISON, bytes);
    pinned()[(char *)memory] = bytes;
    return memory;
}

void release_pinned(void *address) {
    Lock lock(mutex);
    pinned().erase((char *)address);
    free(address);
}

bool is_pinned(const void *address) {
    Lock lock(mutex);
    auto next = pinned().upper_bound((const char *)address);
    return next != pinned().begin() && (const char *)address < std::prev(next)->first + std::prev(next)->second;
}

int device_of(const void *address) {
    Lock lock(mutex);
    for (auto &device : devices())
        if (device.second.space <= address && address < device.second.space + SPACE) return device.first;
    return -1;
}

void *at(const void *address, size_t bytes, int number) {
    if (bytes == 0) return nullptr;
    Lock lock(mutex);
    const int own = device_of(address);
    if (own < 0) fail("device %d is given memory of the host", number);
    if (own != number) fail("device %d is given memory of device %d", number, own);
    auto *found = find(device_at(number), address);
    if (!found) fail("device %d is given memory that it has freed", number);
    const size_t offset = (const char *)address - found->first;
    if (offset + bytes > found->second.size)
        fail("device %d is to use %zu bytes, %zu after the begin of an array of %zu", number, bytes, offset,
             found->second.size);
    return found->second.memory + offset;
}

const void *allocation_of(const void *address, int number) {
    Lock lock(mutex);
    at(address, 1, number);
    return find(device_at(number), address)->first;
}

View view(const void *address, int number) {
    Lock lock(mutex);
    char *memory = (char *)at(address, 1, number);
    const Allocation &own = find(device_at(number), address)->second;
    return {memory, size_t(own.memory + own.size - memory)};
}

// ---- streams ----

struct Event {
    Stream *stream = nullptr;
    uint64_t number = 0;  // of the last work of `stream` that it waits for
};

struct Stream {
    int device;
    std::deque<Work> waiting;
    uint64_t submitted = 0, done = 0;
};

namespace {

Stream *resolve(Stream *stream) {
    if (stream) return stream;
    Device &device = device_at(device_now);
    if (!device.default_stream) device.default_stream = new Stream{device_now, {}};
    return device.default_stream;
}

void run_until(Stream *stream, uint64_t number) {
    while (stream->done < number && !stream->waiting.empty()) {
        Work work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        const int before = device_now;
        device_now = stream->device;
        work();
        device_now = before;
        ++stream->done;
    }
}

}  // namespace

Stream *create_stream() {
    Lock lock(mutex);
    Stream *stream = new Stream{device_now, {}};
    device_at(device_now).streams.insert(stream);
    return stream;
}

void destroy_stream(Stream *stream) {
    Lock lock(mutex);
    finish(stream);
    device_at(stream->device).streams.erase(stream);
    delete stream;
}

int device_of(Stream *stream) {
    Lock lock(mutex);
    return resolve(stream)->device;
}

void submit(Stream *stream, Work work) {
    Lock lock(mutex);
    if (stream && stream->device != device_now)
        fail("device %d is given work in a stream of device %d", device_now, stream->device);
    submit_copy(stream, std::move(work));
}

void submit_copy(Stream *stream, Work work) {
    Lock lock(mutex);
    context_now = true;
    // The default stream and the others of a device wait for one another.
    Device &device = device_at(device_of(stream));
    if (!stream) finish_device(device_now);
    else if (device.default_stream) finish(device.default_stream);
    stream = resolve(stream);
    stream->waiting.push_back(std::move(work));
    ++stream->submitted;
}

void finish(Stream *stream) {
    Lock lock(mutex);
    stream = resolve(stream);
    run_until(stream, stream->submitted);
}

void finish_device(int number) {
    Lock lock(mutex);
    Device &device = device_at(number);
    if (device.default_stream) run_until(device.default_stream, device.default_stream->submitted);
    for (Stream *stream : device.streams) run_until(stream, stream->submitted);
}

Event *create_event() { return new Event; }
void destroy_event(Event *event) { delete event; }

void record(Event *event, Stream *stream) {
    Lock lock(mutex);
    event->stream = resolve(stream);
    event->number = event->stream->submitted;
}

void wait_for(Event *event, Stream *stream) {
    if (!event->stream) return;
    const Event then = *event;
    submit_copy(stream, [then] { run_until(then.stream, then.number); });
}

}  // namespace fake
