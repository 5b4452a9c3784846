// CUDA as C++ that runs on the CPU: the language's words, built-in variables, atomics, launches and the runtime API.
//
// As nvcc does, bin/nvcc includes this before everything else, and it rewrites `kernel<<<shape>>>(arguments)` to
// `emulated::launch("kernel", kernel, emulated::Shape(shape))(arguments)`. What is missing here does not compile.
// src/runtime.cpp has the rest, and says how kernels are run and what is checked.
#pragma once

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <type_traits>

// ----- the language

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
// One block runs at a time, so that what its threads share can be static; the section lets the runtime spoil it in
// between. bin/nvcc rewrites `extern __shared__`.
#define __shared__ static __attribute__((section("emulated_shared")))

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE());
inline void __threadfence() {}

// Threads run one at a time, so every operation is atomic.
template <class T>
using Given = std::common_type_t<T>;  // takes no part in deduction
template <class T, class... Allowed>
constexpr bool one_of = (std::is_same_v<T, Allowed> || ...);

template <class T>
T atomicAdd(T* address, Given<T> value) {
    static_assert(one_of<T, int, unsigned, unsigned long long, float, double>);
    T old = *address;
    *address = old + value;
    return old;
}
template <class T>
T atomicCAS(T* address, Given<T> compare, Given<T> value) {
    static_assert(one_of<T, int, unsigned, unsigned long long>);
    T old = *address;
    if (old == compare) *address = value;
    return old;
}

template <class To, class From>
To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }

// ----- launches

enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
};
typedef cudaError cudaError_t;
typedef struct emulated_stream* cudaStream_t;

namespace emulated {

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
bool is_on_device(const void* pointer);
char* shared_memory();

struct Shape {
    dim3 grid, block;
    size_t shared;
    Shape(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t = nullptr) : grid(grid), block(block), shared(shared) {}
};
struct Launch {
    const char* kernel;
    Shape shape;
    std::function<void()> thread;
};
void enqueue(Launch launch);
void finish();
void count_launch(const char* kernel);

template <class T>
void check_argument(const char* kernel, int number, T value) {
    if constexpr (std::is_pointer_v<T>) {
        if (value && !is_on_device(value)) fail("%s: argument %d points to host memory", kernel, number);
    }
}

template <class... P>
auto launch(const char* kernel, void (*function)(P...), Shape shape) {
    return [=](P... arguments) {
        int number = 0;
        (check_argument(kernel, ++number, arguments), ...);
        enqueue({kernel, shape, [=] { function(arguments...); }});
    };
}

}  // namespace emulated

// ----- the runtime API, as far as it is used

enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaLimit { cudaLimitMallocHeapSize };
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock;
    int warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, multiProcessorCount, major, minor;
};
struct cudaFuncAttributes {
    size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
    int maxThreadsPerBlock, numRegs;
};

// The caller's name is for the report.
cudaError_t cudaMalloc(void** pointer, size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                       const char* caller = __builtin_FUNCTION());
cudaError_t cudaMemset(void* pointer, int value, size_t bytes, const char* caller = __builtin_FUNCTION());
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaGetLastError();
cudaError_t cudaDeviceSynchronize(const char* caller = __builtin_FUNCTION());
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t value);
const char* cudaGetErrorString(cudaError_t error);

namespace emulated {
extern const cudaDeviceProp device;
cudaError_t copy_to_symbol(void* symbol, size_t size, const void* from, size_t bytes, const char* caller);
}  // namespace emulated

template <class T>
cudaError_t cudaMemcpyToSymbol(T& symbol, const void* from, size_t bytes, const char* caller = __builtin_FUNCTION()) {
    return emulated::copy_to_symbol((void*)&symbol, sizeof symbol, from, bytes, caller);
}
template <class... P>
cudaError_t cudaOccupancyMaxPotentialBlockSize(int* blocks, int* threads, void (*)(P...), size_t = 0, int limit = 0) {
    *blocks = emulated::device.multiProcessorCount;
    *threads = limit > 0 && limit < emulated::device.maxThreadsPerBlock ? limit : emulated::device.maxThreadsPerBlock;
    return cudaSuccess;
}
template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(P...), int threads, size_t) {
    *blocks = emulated::device.maxThreadsPerMultiProcessor / threads;
    return cudaSuccess;
}
template <class... P>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)(P...)) {
    *attributes = {};
    attributes->maxThreadsPerBlock = emulated::device.maxThreadsPerBlock;
    return cudaSuccess;
}
