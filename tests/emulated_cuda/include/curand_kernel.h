// Random numbers in kernels: states can be declared; a kernel that sets one up ends the program.
#pragma once
#include "cuda_runtime.h"

struct curandState {
    unsigned long long words[6];
};

inline void curand_init(unsigned long long, unsigned long long, unsigned long long, curandState*) {
    emulated::fail("curand_init: random numbers are not emulated");
}
