// The fake devices that all fake libraries share: their memory, streams and events.
//
// It is as strict as can be. A device's memory is no memory of the host's: its addresses mean something only to `at`, which
// refuses those of other devices, of freed memory and beyond an array's end. New memory is full of NaN. Work waits in its
// stream until something waits for the stream. Whatever CUDA forbids ends the program with a message.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

namespace fake {

[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

int device_count();
int current_device();
void set_current_device(int device);
bool has_context();      // whether this thread has used a device
bool usable();           // not in a process forked from one that used a device
int capability(int device);  // 52: 5.2, the paper's Titan X
int driver_version();    // 11080: of CUDA 11.8
bool has_machine_code(); // whether the wheel brings code for the current device

size_t memory();  // of each device: FAKE_CUDA_MEGABYTES, or 8 GiB
size_t free_memory(int device);
void *allocate(int device, size_t bytes);  // null where there is not as much
void release(void *address);
void *allocate_pinned(size_t bytes);
void release_pinned(void *address);
bool is_pinned(const void *address);

int device_of(const void *address);  // -1: memory of the host
// The host's memory behind `bytes` of a device's memory.
void *at(const void *address, size_t bytes, int device);
const void *allocation_of(const void *address, int device);
// From an address to the end of its array.
struct View {
    char *memory = nullptr;
    size_t bytes = 0;

    char *at(size_t offset, size_t size) const {
        if (offset + size > bytes) fail("a kernel leaves its array, of %zu bytes, at %zu", bytes, offset);
        return memory + offset;
    }
};
View view(const void *address, int device);
template <class T>
T *array_at(T *address, size_t count, int device) { return (T *)at(address, count * sizeof(T), device); }

using Work = std::function<void()>;
struct Stream;  // nullptr: the default stream of the current device
struct Event;
Stream *create_stream();
void destroy_stream(Stream *stream);
int device_of(Stream *stream);
void submit(Stream *stream, Work work);
void submit_copy(Stream *stream, Work work);  // which CUDA takes in a stream of another device than the current one
void finish(Stream *stream);
void finish_device(int device);
Event *create_event();
void destroy_event(Event *event);
void record(Event *event, Stream *stream);
void wait_for(Event *event, Stream *stream);

}  // namespace fake
