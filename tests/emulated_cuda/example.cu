// What the emulation does and what it refuses, one case per name on the command line; read by test_cuda_emulated.py.
#include <curand.h>
#include <thrust/device_vector.h>
#include <thrust/host_vector.h>

#include <string>
#include <vector>

__device__ int* written;  // set by cudaMemcpyToSymbol
__device__ int offset = 0;

// Every block turns its stretch around in shared memory, which needs a barrier, and counts what it did.
__global__ void turn_around(const int* from, int* to, int* count)
{
    extern __shared__ int held[];
    __shared__ int largest;
    int me = threadIdx.x, here = blockIdx.x * blockDim.x + me;
    held[me] = from[here];
    if (me == 0) largest = 0;  // "a launch<<<1, 1>>>() in a string"
    __syncthreads();
    to[here] = held[blockDim.x - 1 - me] + offset;
    if (held[me] > 1000) largest = held[me];
    __syncthreads();
    if (me == 0 && largest == 0) atomicAdd(count, (int)blockDim.x);
}

__global__ void in_order(int* next) { written[atomicAdd(next, 1)] = blockIdx.x * blockDim.x + threadIdx.x; }

__global__ void half_leave_early(int* out)
{
    if (threadIdx.x % 2) return;
    out[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x + 1] = out[(threadIdx.x + 2) % blockDim.x];
}

__global__ void two_barriers()
{
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
}

template <class T>
__global__ void fill(T* to, T value, int n)
{
    for (int k = threadIdx.x; k < n; k += blockDim.x) to[k] = value;
}

void print(const thrust::device_vector<int>& values)
{
    for (int value : thrust::host_vector<int>(values)) printf("%d ", value);
    printf("\n");
}

int main(int, char** argv)
{
    const std::string what = argv[1];
    const int blocks = 3, threads = 4, n = blocks * threads;
    thrust::host_vector<int> numbers(n);
    for (int k = 0; k < n; k++) numbers[k] = k;
    thrust::device_vector<int> from = numbers, to(n), one(1);
    int* raw = thrust::raw_pointer_cast(&to[0]);
    int* count = thrust::raw_pointer_cast(&one[0]);
    const int hundred = 100;
    cudaMemcpyToSymbol(written, &raw, sizeof(int*));
    cudaMemcpyToSymbol(offset, &hundred, sizeof(int));

    if (what == "turn around") {
        turn_around<<<blocks,
                      threads, threads * sizeof(int)>>>(  // (
            thrust::raw_pointer_cast(&from[0]), raw, /* ) */ count);
        print(to);
        print(one);
    } else if (what == "order") {
        in_order<<<blocks, threads>>>(count);
        print(to);
    } else if (what == "early exits") {
        half_leave_early<<<1, threads>>>(raw);
        print(to);
    } else if (what == "no blocks") {
        in_order<<<one.size() - 1, threads>>>(count);
        puts(cudaGetErrorString(cudaGetLastError()));
    } else if (what == "too many threads") {
        in_order<<<1, 1024>>>(count);
    } else if (what == "fresh memory") {
        int* fresh;
        int value;
        cudaMalloc((void**)&fresh, sizeof(int));
        cudaMemcpy(&value, fresh, sizeof(int), cudaMemcpyDeviceToHost);
        printf("%x\n", value);
    } else if (what == "two barriers") {
        two_barriers<<<1, threads>>>();
    } else if (what == "the host reads") {
        printf("%d\n", *raw);
    } else if (what == "a kernel is given host memory") {
        in_order<<<blocks, threads>>>(numbers.data());
    } else if (what == "the wrong way") {
        cudaMemcpy(raw, numbers.data(), sizeof(int), cudaMemcpyDeviceToHost);
    } else if (what == "too far") {
        cudaMemcpy(raw, numbers.data(), sizeof(int) * (n + 1), cudaMemcpyHostToDevice);
    } else if (what == "a kernel writes too far") {
        fill<int><<<1, threads>>>(raw, 1, n + 1);
    } else if (what == "random numbers") {
        curandGenerateUniform(nullptr, (float*)raw, n);
    }
    cudaDeviceSynchronize();
}
