// The emulated GPU: its memory, its one multiprocessor, and what is checked and counted on the way.
//
// Memory. Device memory is a range of addresses of its own, handed out once and never again, filled with 0x7F (a huge
// number as double, integer, or address) when it is new and when it is freed. Copies have to lie within one allocation
// and on the side that they name. Kernels may not be given host pointers. While host code runs, device memory is out
// of its reach (EMULATED_CUDA_GUARD=0 turns that off).
//
// Time. A launch only queues the kernel; it runs when the host waits for the device, as late as on a GPU that is busy.
//
// Threads. Blocks run one after another, and so do the threads of a block, each until its end or a barrier, where a
// fiber keeps it until all threads that have not ended are there. EMULATED_CUDA_SEED=n shuffles the order of blocks and,
// anew after each barrier, that of threads.
// What is not seen: a race of two threads that are both halfway through, as no thread is interrupted but at a barrier.
//
// In a library (nvcc -shared) the process is somebody else's: its heap is not spoilt, and its signals are not caught.
//
// EMULATED_CUDA_REPORT=file gets, as JSON, how often each kernel was launched and each function waited for a copy.
#include "cuda_runtime.h"

#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <dlfcn.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Small blocks, so that a kernel needs several.
const cudaDeviceProp emulated::device = {"emulated", size_t(8) << 30, 48 << 10, 32, 32, 64, 2, 9, 0};

// Where the linker puts all __shared__ variables, if there are any.
extern "C" char __start_emulated_shared[] __attribute__((weak)), __stop_emulated_shared[] __attribute__((weak));

namespace {

constexpr int SPOILT = 0x7F;
// Pages as large as they come: there is less to do when access to them changes.
constexpr size_t ALIGNMENT = 256, PAGE = 2 << 20;

size_t whole(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

char* device_memory() {
    const size_t size = emulated::device.totalGlobalMem;
    void* got = mmap(nullptr, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char* memory = (char*)whole((size_t)got, PAGE);
    madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

long number_from(const char* variable, long otherwise) {
    const char* text = getenv(variable);
    return text && *text ? atol(text) : otherwise;
}

struct Device {
    char* const memory = device_memory();
    size_t used = 0;
    std::map<const char*, size_t> allocated;  // those that were not freed: begin and size
    bool guarded = number_from("EMULATED_CUDA_GUARD", 1), open = false;
    std::vector<emulated::Launch> queue;
    cudaError_t last_error = cudaSuccess;
    const char* running = nullptr;  // the kernel

    long seed = number_from("EMULATED_CUDA_SEED", 0);
    std::mt19937_64 random{(uint64_t)seed};

    std::map<std::string, long> launches;
    std::map<std::string, std::map<std::string, long>> waits;
    long allocations = 0;

    Device();

    bool holds(const void* pointer) const {
        return pointer >= memory && pointer < memory + emulated::device.totalGlobalMem;
    }
    bool allocation_has(const void* pointer, size_t bytes) const {
        auto next = allocated.upper_bound((const char*)pointer);
        if (next == allocated.begin()) return false;
        auto [begin, size] = *--next;
        return (const char*)pointer + bytes <= begin + size;
    }
    template <class T>
    void shuffle(std::vector<T>& order) {
        if (seed) std::shuffle(order.begin(), order.end(), random);
    }
    void report();
};

// Never destroyed: vectors with device memory in them are, after main.
Device& gpu() {
    static Device& device = *new Device;
    return device;
}

// Lets this thread into device memory as long as it lives.
struct Access {
    bool was_open = gpu().open;
    Access() { set(true); }
    ~Access() { set(was_open); }
    static void set(bool open) {
        Device& g = gpu();
        if (g.guarded && g.open != open && g.used)
            mprotect(g.memory, whole(g.used, PAGE), open ? PROT_READ | PROT_WRITE : PROT_NONE);
        g.open = open;
    }
};

void on_bad_address(int signal_number, siginfo_t* info, void*) {
    const char* kernel = gpu().running;
    const char* whose = gpu().holds(info->si_addr) ? "device memory" : "what is not its own";
    fprintf(stderr, "emulated CUDA: %s touched %s at %p\n", kernel ? kernel : "the host", whose, info->si_addr);
    signal(signal_number, SIG_DFL);
}

Device::Device() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(EMULATED_CUDA_LIBRARY)
    mallopt(M_PERTURB, ~SPOILT & 0xFF);  // the heap is spoilt as well: kernels have theirs there
    struct sigaction action = {};
    action.sa_sigaction = on_bad_address;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
#endif
    atexit([] {
        emulated::finish();
        gpu().report();
        if (gpu().last_error) fprintf(stderr, "emulated CUDA: nobody asked about an error\n");
    });
}

void print(FILE* file, const std::map<std::string, long>& counts) {
    const char* separator = "";
    fprintf(file, "{");
    for (auto& [name, count] : counts) {
        fprintf(file, "%s\"%s\": %ld", separator, name.c_str(), count);
        separator = ", ";
    }
    fprintf(file, "}");
}

void Device::report() {
    const char* name = getenv("EMULATED_CUDA_REPORT");
    FILE* file = name && *name ? fopen(name, "w") : nullptr;
    if (!file) return;
    fprintf(file, "{\"allocations\": %ld, \"bytes\": %zu, \"launches\": ", allocations, used);
    print(file, launches);
    fprintf(file, ", \"waits\": {");
    const char* separator = "";
    for (auto& [kind, callers] : waits) {
        fprintf(file, "%s\"%s\": ", separator, kind.c_str());
        print(file, callers);
        separator = ", ";
    }
    fprintf(file, "}}\n");
    fclose(file);
}

// ----- threads

struct Fiber {
    static constexpr size_t SIZE = 256 << 10;
    std::unique_ptr<char[]> stack{new char[SIZE]};
    ucontext_t context;
};
struct Waiting {
    Fiber* fiber;
    const char* file;
    int line;
};

const std::function<void()>* thread;
std::vector<unsigned> to_start;  // threads of this block, the next one last
std::vector<Waiting> at_barrier;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
Fiber* current;
ucontext_t scheduler;
std::vector<char> dynamic_shared;

// Leave the one and go on with the other; a null stack is the scheduler's.
void change(ucontext_t* from, ucontext_t* to, [[maybe_unused]] const char* stack) {
#if defined(__SANITIZE_ADDRESS__)
    // libc's own: the sanitizer's warns that it has to be told about stacks, which is done here.
    static auto swapcontext = (decltype(&::swapcontext))dlsym(dlopen("libc.so.6", RTLD_LAZY), "swapcontext");
    static const void* scheduler_stack;
    static size_t scheduler_size;
    void* fake;
    __sanitizer_start_switch_fiber(&fake, stack ? stack : scheduler_stack, stack ? Fiber::SIZE : scheduler_size);
    swapcontext(from, to);
    __sanitizer_finish_switch_fiber(fake, from == &scheduler ? nullptr : &scheduler_stack,
                                    from == &scheduler ? nullptr : &scheduler_size);
#else
    swapcontext(from, to);
#endif
}

// A fiber runs one thread after another. At a barrier it is left behind with its thread.
void run_threads() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    for (;;) {
        while (!to_start.empty()) {
            unsigned k = to_start.back();
            to_start.pop_back();
            threadIdx = {k % blockDim.x, k / blockDim.x % blockDim.y, k / blockDim.x / blockDim.y};
            (*thread)();
        }
        idle.push_back(current);
        change(&current->context, &scheduler, nullptr);
    }
}

void resume(Fiber* fiber) {
    current = fiber;
    change(&scheduler, &fiber->context, fiber->stack.get());
}

Fiber* fresh_fiber() {
    if (idle.empty()) {
        fibers.emplace_back(new Fiber);
        Fiber* fiber = fibers.back().get();
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack.get();
        fiber->context.uc_stack.ss_size = Fiber::SIZE;
        makecontext(&fiber->context, run_threads, 0);
        return fiber;
    }
    Fiber* fiber = idle.back();
    idle.pop_back();
    return fiber;
}

void run_block() {
    to_start.resize(blockDim.x * blockDim.y * blockDim.z);
    std::iota(to_start.rbegin(), to_start.rend(), 0);
    gpu().shuffle(to_start);
    std::fill(dynamic_shared.begin(), dynamic_shared.end(), SPOILT);
    std::fill(__start_emulated_shared, __stop_emulated_shared, SPOILT);
    while (!to_start.empty()) resume(fresh_fiber());
    while (!at_barrier.empty()) {
        std::vector<Waiting> waiting;
        waiting.swap(at_barrier);
        for (auto& w : waiting)
            if (w.line != waiting[0].line || strcmp(w.file, waiting[0].file))
                emulated::fail("%s: threads of one block wait at %s:%d and at %s:%d", gpu().running, waiting[0].file,
                               waiting[0].line, w.file, w.line);
        gpu().shuffle(waiting);
        for (auto& w : waiting) resume(w.fiber);
    }
}

void run(const emulated::Launch& launch) {
    const dim3 grid = launch.shape.grid;
    gpu().running = launch.kernel;
    thread = &launch.thread;
    gridDim = grid, blockDim = launch.shape.block;
    dynamic_shared.assign(launch.shape.shared, 0);
    std::vector<unsigned> order(grid.x * grid.y * grid.z);
    std::iota(order.begin(), order.end(), 0);
    gpu().shuffle(order);
    for (unsigned k : order) {
        blockIdx = {k % grid.x, k / grid.x % grid.y, k / grid.x / grid.y};
        run_block();
    }
    gpu().running = nullptr;
}

}  // namespace

void __syncthreads(const char* file, int line) {
    const uint3 me = threadIdx;
    at_barrier.push_back({current, file, line});
    change(&current->context, &scheduler, nullptr);
    threadIdx = me;
}

namespace emulated {

void fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulated CUDA: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    abort();
}

bool is_on_device(const void* pointer) { return gpu().holds(pointer); }

char* shared_memory() { return dynamic_shared.data(); }

void count_launch(const char* kernel) { ++gpu().launches[kernel]; }

void enqueue(Launch launch) {
    const auto [grid, block, shared] = launch.shape;
    const size_t threads = size_t(block.x) * block.y * block.z;
    if (!(grid.x && grid.y && grid.z && threads) || threads > size_t(device.maxThreadsPerBlock) ||
        shared > device.sharedMemPerBlock) {
        gpu().last_error = cudaErrorInvalidConfiguration;
        return;
    }
    count_launch(launch.kernel);
    gpu().queue.push_back(std::move(launch));
}

void finish() {
    if (gpu().queue.empty()) return;
    Access access;
    for (auto& launch : gpu().queue) run(launch);
    gpu().queue.clear();
}

// A wait for the device, and then a copy.
cudaError_t copy(void* to, const void* from, size_t bytes, const char* kind, const char* caller) {
    finish();
    ++gpu().waits[kind][caller];
    Access access;
    memmove(to, from, bytes);
    return cudaSuccess;
}

cudaError_t copy_to_symbol(void* symbol, size_t size, const void* from, size_t bytes, const char* caller) {
    if (bytes > size) fail("%s: %zu bytes copied to a symbol of %zu", caller, bytes, size);
    return copy(symbol, from, bytes, "host to symbol", caller);
}

}  // namespace emulated

using namespace emulated;

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    Device& g = gpu();
    // The gap behind each allocation belongs to nobody.
    const size_t begin = g.used, end = begin + (bytes / ALIGNMENT + 2) * ALIGNMENT;
    if (end > device.totalGlobalMem) return cudaErrorMemoryAllocation;
    Access access;
    g.used = end;
    memset(g.memory + begin, SPOILT, end - begin);
    ASAN_POISON_MEMORY_REGION(g.memory + begin + bytes, end - begin - bytes);
    *pointer = g.memory + begin;
    g.allocated[g.memory + begin] = bytes;
    ++g.allocations;
    return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
    if (!pointer) return cudaSuccess;
    finish();
    auto found = gpu().allocated.find((char*)pointer);
    if (found == gpu().allocated.end()) return cudaErrorInvalidValue;
    Access access;
    memset(pointer, SPOILT, found->second);
    ASAN_POISON_MEMORY_REGION(pointer, found->second);
    gpu().allocated.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, const char* caller) {
    if (!bytes) return cudaSuccess;
    const char* names[] = {"host to host", "host to device", "device to host", "device to device"};
    const bool into = kind & 1, out_of = kind & 2;
    for (auto [pointer, on_device] : {std::pair<const void*, bool>{to, into}, {from, out_of}}) {
        if (on_device ? !gpu().allocation_has(pointer, bytes) : gpu().holds(pointer))
            fail("%s: copy of %zu bytes %s: %p is not that", caller, bytes, names[kind], pointer);
    }
    return copy(to, from, bytes, names[kind], caller);
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes, const char* caller) {
    if (!gpu().allocation_has(pointer, bytes)) fail("%s: memset of %zu bytes at %p", caller, bytes, pointer);
    finish();
    ++gpu().waits["memset"][caller];
    Access access;
    memset(pointer, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    *total = device.totalGlobalMem;
    *free = *total - gpu().used;
    return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(gpu().last_error, cudaSuccess); }

cudaError_t cudaDeviceSynchronize(const char* caller) {
    finish();
    ++gpu().waits["synchronize"][caller];
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int number) { return number == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int number) {
    *properties = device;
    return cudaSetDevice(number);
}

cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorInvalidConfiguration: return "invalid configuration argument";
        default: return "invalid argument";
    }
}
