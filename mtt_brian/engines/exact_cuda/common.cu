// What the kernels of both orders share: the arrays of a network, potentials between arrivals, the end of a run.
//
// Arrays of the network are those of `LoweredCircuit`, with 32-bit indices (`arrays.py`). Products and sums are rounded
// one by one: all files are compiled with --fmad=false.
//
// Macros given by the compiler's options (`arrays.py`): WEIGHT, the type of the weights; the codes of
// `engines.lowered.rules`; the flags of a population; MAX_SPIKES_AT_ONCE, MAX_SPIKES; THREADS, of a block; FAILED of
// `arrays.py`; ANY_MOVES, ANY_SINGLE and ANY_MARKED, whether any population moves between arrivals, has update groups
// of a single neuron, or is marked.

typedef long long i64;

// Rows of `populations` and `connections`; the columns are explained in `arrays.py`.
struct Population {
    int offset, group_offset, group_size, log_width, kind, rule, flags, parameter_offset, parameter_stride, connections,
        channels, pixels, unit;
};
struct Connection {
    int source, target, closes, source_base, first_entry, most_entries, most_rows, channel_stride, block_length,
        log_width, aligned;
};
// Rows of the stencil, first target channel and first weight of an entry.
struct alignas(16) Entry {
    int begin, end, shift, first;
};
struct alignas(8) Row {
    int position, block;
};
struct alignas(16) Quad {
    int a, b, c, d;
};
struct Network {
    const Population* population;
    const Connection* connection;
    const int* entry_begin;
    const Entry* entry;
    const double* factor;
    const Row* stencil;
    const WEIGHT* weight;
    const double *threshold, *lower, *upper, *v_reset, *rest, *tau, *gain;
    const i64* powers;  // `exponential.powers_of_two`
};

// exp(x) for x <= 0, operation by operation as the C library of Linux computes it (glibc since 2.28, on a CPU with
// fused multiply-add), so that leaks have the bits of `exact`. Algorithm and coefficients: Arm Optimized Routines,
// exp.c. x = ln(2) k / 128 + r; exp(x) = 2^(k / 128) (1 + p(r)).
__device__ __forceinline__ double exponential(const i64* powers, double x) {
    if (x > -0x1p-54) return 1.0 + x;
    if (x < -800.0) return 0.0;
    const double shifted = fma(0x1.71547652b82fep7, x, 0x1.8p52), k = shifted - 0x1.8p52;
    const double r = fma(k, -0x1.cf79abc9e3b39p-47, fma(k, -0x1.62e42fefa0000p-8, x)), r2 = r * r;
    const i64 bits = __double_as_longlong(shifted), *const power = powers + 2 * (bits & 127);
    const double low = fma(r, 0x1.555555555543cp-3, 0x1.ffffffffffdbdp-2);
    const double high = fma(r, 0x1.1111167a4d017p-7, 0x1.55555cf172b91p-5);
    const double p = fma(r2 * r2, high, fma(r2, low, __longlong_as_double(power[0]) + r));
    const i64 exponent = (i64)((unsigned long long)bits << 45);
    if (x > -512.0) {
        const double scale = __longlong_as_double(power[1] + exponent);
        return fma(scale, p, scale);
    }
    // Far below 1 the result is computed 2^1022 times as large; subnormal results are rounded once.
    const double scale = __longlong_as_double(power[1] + exponent + (1022LL << 52)), rest = scale * p;
    double y = scale + rest;
    if (y < 1.0) {
        const double above = 1.0 + y, below = 1.0 - above + y + (scale - y + rest);
        y = (above + below) - 1.0;
    }
    return 0x1p-1022 * y;
}

// A potential after dt seconds without arrivals.
__device__ __noinline__ double after(const i64* powers, int kind, double v, double dt, double rest, double tau) {
    if (!(dt > 0.0)) return v;
    if (kind == DRIFT) return v + rest * dt;
    return rest + (v - rest) * exponential(powers, -dt / tau);
}

// C order of a neuron, which are numbered channels last.
__device__ __forceinline__ int flat(const Population& population, int local) {
    return local % population.channels * population.pixels + local / population.channels;
}

// Readout and synaptic operations of recording b, which has run; whether they and all potentials are numbers. `readout`
// and `synops` are those of all recordings. For all threads of a block; `of_threads` has a number for each.
__device__ __forceinline__ void finish_recording(const Population* population, const double* rest, const double* tau,
                                                 const i64* powers, const i64* fan_out, double end, i64 neurons,
                                                 i64 output, const double* y, const double* last, const i64* counts,
                                                 i64 b, double* readout, i64* synops, int* failed, i64* of_threads) {
    const int tid = threadIdx.x;
    const Population last_one = population[output];
    const int size = population[output + 1].offset - last_one.offset;
    for (int local = tid; local < size; local += THREADS) {
        const int neuron = last_one.offset + local, f = flat(last_one, local);
        double v = y[neuron];
        if (last_one.flags & FIRES) {
            v = (double)counts[last_one.offset + f];
        } else if (ANY_MOVES && last_one.kind != STATIC) {
            const int k = local % last_one.group_size;
            const int q = last_one.parameter_offset + (last_one.parameter_stride ? local : k);
            v = after(powers, last_one.kind, v, end - last[neuron], rest[q], tau[q]);
        }
        if (v - v != 0.0) *failed = FAILED;
        readout[b * size + f] = v;
    }
    i64 operations = 0;
    double about = 0.0;
    for (i64 k = tid; k < neurons; k += THREADS) {
        if (y[k] - y[k] != 0.0) *failed = FAILED;  // inf or NaN
        const i64 n = counts[k];
        if (n < 0 || n > MAX_SPIKES) *failed = FAILED;
        operations += n * fan_out[k];
        about += (double)n * (double)fan_out[k];
    }
    if (!(about <= (double)MAX_SPIKES)) *failed = FAILED, operations = 0;
    of_threads[tid] = operations;
    __syncthreads();
    if (tid == 0) {
        about = 0.0;
        for (int k = 1; k < THREADS; ++k) operations += of_threads[k];
        for (int k = 0; k < THREADS; ++k) about += (double)of_threads[k];
        if (!(about <= (double)MAX_SPIKES)) *failed = FAILED;
        synops[b] = operations;
    }
}
