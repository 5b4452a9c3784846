// Random numbers from the host: generators can be made and seeded; asking one for numbers ends the program.
#ifndef CURAND_H_
#define CURAND_H_

#include "cuda_runtime.h"

enum curandStatus_t {
    CURAND_STATUS_SUCCESS,
    CURAND_STATUS_VERSION_MISMATCH,
    CURAND_STATUS_NOT_INITIALIZED,
    CURAND_STATUS_ALLOCATION_FAILED,
    CURAND_STATUS_TYPE_ERROR,
    CURAND_STATUS_OUT_OF_RANGE,
    CURAND_STATUS_LENGTH_NOT_MULTIPLE,
    CURAND_STATUS_DOUBLE_PRECISION_REQUIRED,
    CURAND_STATUS_LAUNCH_FAILURE,
    CURAND_STATUS_PREEXISTING_FAILURE,
    CURAND_STATUS_INITIALIZATION_FAILED,
    CURAND_STATUS_ARCH_MISMATCH,
    CURAND_STATUS_INTERNAL_ERROR,
};
enum curandRngType_t { CURAND_RNG_PSEUDO_DEFAULT };
typedef struct emulated_generator* curandGenerator_t;

inline curandStatus_t curandCreateGenerator(curandGenerator_t*, curandRngType_t) { return CURAND_STATUS_SUCCESS; }
inline curandStatus_t curandDestroyGenerator(curandGenerator_t) { return CURAND_STATUS_SUCCESS; }
inline curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long) {
    return CURAND_STATUS_SUCCESS;
}
inline curandStatus_t curandSetGeneratorOffset(curandGenerator_t, unsigned long long) { return CURAND_STATUS_SUCCESS; }

#define EMULATED_NO_NUMBERS(name)                                      \
    template <class... Arguments>                                      \
    curandStatus_t name(curandGenerator_t, Arguments...) {             \
        emulated::fail("%s: random numbers are not emulated", #name); \
    }
EMULATED_NO_NUMBERS(curandGenerateUniform)
EMULATED_NO_NUMBERS(curandGenerateUniformDouble)
EMULATED_NO_NUMBERS(curandGenerateNormal)
EMULATED_NO_NUMBERS(curandGenerateNormalDouble)
EMULATED_NO_NUMBERS(curandGeneratePoisson)
#undef EMULATED_NO_NUMBERS

#endif
