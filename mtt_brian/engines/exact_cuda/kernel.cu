// The exact engine on a GPU: one block of threads runs one recording, instant by instant.
//
// Arrays of the network are those of `LoweredCircuit`, with 32-bit indices (`arrays.py`). All blocks read them; the state
// of a run belongs to its block. The threads of a block share the work of one arrival (target positions x channels).
// The targets of one arrival are distinct, and there is a barrier between two arrivals. Therefore every neuron adds its
// jumps in the order of the spikes, which is the order of `exact`, and all sums are equal to the last bit. Products and
// sums are rounded one by one: the file is compiled with --fmad=false.
//
// Macros given by the compiler's options (`engine.py`): WEIGHT, the type of the weights; the codes of
// `engines.lowered.rules`; the flags of `arrays.py`; MAX_SPIKES_AT_ONCE, MAX_SPIKES.

typedef long long i64;

// Rows of `populations` and `connections`; the columns are explained in `arrays.py`.
struct Population {
    int offset, group_offset, group_size, log_width, kind, rule, flags, parameter_offset, parameter_stride, out;
};
struct Connection {
    int target, source_base, channel_stride, block_length, log_width;
};
// Rows of the stencil, first target channel and first weight of an entry.
struct alignas(16) Entry {
    int begin, end, shift, first;
};
struct alignas(8) Row {
    int position, block;
};
// A recorded spike: time, number, population, neuron (C order).
struct Record {
    double t;
    i64 n;
    int p, i;
};
// Where an interrupted run continues: next input row, number of the instant, records; and whether the run failed.
struct Cursor {
    int row, now, records, failed;
};

struct Network {
    const Population* population;
    const Connection* connection;
    const int* flat;
    const int* entry_begin;
    const Entry* entry;
    const double* factor;
    const Row* stencil;
    const WEIGHT* weight;
    const double *threshold, *lower, *upper, *v_reset, *rest, *tau, *gain;
    const i64* powers;  // `exponential.powers_of_two`
};

// State of one run (`exact.state.State`): potentials, time of the last update, instant of the last arrival at an update
// group and at a marked neuron, touched groups, neurons that fired (C order and index, packed), their spikes, counts.
struct State {
    double *y, *last;
    int *stamp, *mark, *touched;
    i64 *keys, *fired, *counts;
};

// exp(x) for x <= 0, operation by operation as the C library of Linux computes it (glibc since 2.28, on a CPU with fused
// multiply-add), so that leaks have the bits of `exact`. Algorithm and coefficients: Arm Optimized Routines, exp.c.
// x = ln(2) k / 128 + r; exp(x) = 2^(k / 128) (1 + p(r)).
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

// A potential at time t; its last update was at `last`.
__device__ __forceinline__ double advanced(const Network& net, int kind, double v, double last, double t, int q) {
    const double dt = t - last;
    if (!(dt > 0.0)) return v;
    const double rest = net.rest[q];
    if (kind == DRIFT) return v + rest * dt;
    return rest + (v - rest) * exponential(net.powers, -dt / net.tau[q]);
}

// Lists an update group for the thresholds of this instant.
__device__ __forceinline__ void touch(const State& state, const Population& target, int* touched, int group, int now) {
    if (state.stamp[target.group_offset + group] == now) return;
    state.stamp[target.group_offset + group] = now;
    state.touched[target.group_offset + atomicAdd(touched, 1)] = group;
}

// One arrival: `amount` times the weights of an entry are added to its targets. Ends with a barrier.
__device__ __forceinline__ void arrive(const Network& net, const State& state, const Connection& connection,
                                       const Population& target, const Entry& entry, double amount, int* touched,
                                       int now, double t) {
    const int width = 1 << connection.log_width, rows = entry.end - entry.begin;
    const int first_k = threadIdx.x & (width - 1), step = blockDim.x >> connection.log_width;
    for (int r = threadIdx.x >> connection.log_width; r < rows; r += step) {
        const Row row = net.stencil[entry.begin + r];
        const int start = row.position * connection.channel_stride + entry.shift;
        const WEIGHT* const weight = net.weight + (entry.first + row.block);
        if (target.group_size > 1) {
            if (first_k == 0) touch(state, target, touched, row.position, now);
            for (int k = first_k; k < connection.block_length; k += width) {
                const int neuron = target.offset + start + k;
                double v = state.y[neuron];
                if (target.kind != STATIC) {
                    const int q = target.parameter_offset + (target.parameter_stride ? start + k : k);
                    v = advanced(net, target.kind, v, state.last[neuron], t, q);
                    state.last[neuron] = t;
                }
                const double w = weight[k];
                state.y[neuron] = v + amount * w;
                if ((target.flags & MARKED) && w != 0.0) state.mark[neuron] = now;
            }
        } else {
            for (int k = first_k; k < connection.block_length; k += width) {
                const double jump = amount * weight[k];
                if (jump == 0.0) continue;  // a zero weight is no arrival
                const int local = start + k, neuron = target.offset + local;
                const int q = target.parameter_offset + target.parameter_stride * local;
                touch(state, target, touched, local, now);
                double v = state.y[neuron];
                if (target.kind != STATIC) {
                    v = advanced(net, target.kind, v, state.last[neuron], t, q);
                    state.last[neuron] = t;
                }
                state.y[neuron] = v + net.gain[q] * jump;
            }
        }
    }
    __syncthreads();
}

// Bound, threshold and reset of the touched neurons of population p. Those that fire are listed in state.keys.
__device__ __forceinline__ void apply_thresholds(const Network& net, const State& state, const Population& population,
                                                 int touched, int* fired, int now, int* failed) {
    const int size = population.group_size, width = 1 << population.log_width;
    const int first_k = threadIdx.x & (width - 1), step = blockDim.x >> population.log_width;
    for (int j = threadIdx.x >> population.log_width; j < touched; j += step) {
        const int start = state.touched[population.group_offset + j] * size;
        for (int k = first_k; k < size; k += width) {
            const int local = start + k, neuron = population.offset + local;
            const int q = population.parameter_offset + (population.parameter_stride ? local : k);
            const double arrived = state.y[neuron];
            double v = arrived;
            if ((population.flags & BOUNDED) && v < net.lower[q]) v = net.lower[q];
            if ((population.flags & SATURATES) && v > net.upper[q]) v = net.upper[q];
            const double threshold = net.threshold[q];
            if (v >= threshold && (!(population.flags & MARKED) || state.mark[neuron] == now)) {
                i64 spikes = 1;
                if (population.rule == MANY) {
                    const double ratio = v / threshold;
                    if (ratio < MAX_SPIKES_AT_ONCE)
                        spikes = (i64)floor(ratio);
                    else
                        *failed = 1;
                }
                v = population.rule == ZERO ? net.v_reset[q] : v - (double)spikes * threshold;
                const int flat = net.flat[neuron];
                const i64 total = state.counts[population.offset + flat] + spikes;
                state.counts[population.offset + flat] = total;
                if (total > MAX_SPIKES) *failed = 1;
                state.fired[local] = spikes;
                state.keys[atomicAdd(fired, 1)] = (i64)flat << 32 | local;
            }
            if (v != arrived) state.y[neuron] = v;
        }
    }
    __syncthreads();
}

// Sorts `m` keys by merging exchanges (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
__device__ void sort(i64* keys, int m) {
    int top = 1;
    while (2 * top < m) top *= 2;
    for (int p = top; p > 0; p /= 2) {
        int q = top, r = 0, d = p;
        for (;;) {
            for (int i = threadIdx.x; i < m - d; i += blockDim.x) {
                if ((i & p) != r) continue;
                const i64 low = keys[i], high = keys[i + d];
                if (low > high) keys[i] = high, keys[i + d] = low;
            }
            __syncthreads();
            if (q == p) break;
            d = q - p;
            q /= 2;
            r = p;
        }
    }
}

extern "C" __global__ void run_summed(
    // the network
    const Population* population, const Connection* connection, const int* flat, const int* entry_begin,
    const Entry* entry, const double* factor, const Row* stencil, const WEIGHT* weight, const double* threshold,
    const double* lower, const double* upper, const double* v_reset, const double* rest, const double* tau,
    const double* gain, const i64* powers, i64 populations, i64 output,
    // the recordings, one after another: recording b has the input rows begin[b] to begin[b + 1]
    const i64* begin, const double* end, const double* t_in, const int* i_in, const i64* n_in,
    // their states, outputs and records; numbers of neurons, update groups, neurons of the largest population
    i64 neurons, i64 groups, i64 largest, i64 most_new, i64 capacity, double* y, double* last, int* stamp, int* mark,
    int* touched, i64* keys, i64* fired, i64* counts, double* readout, Record* records, Cursor* cursors) {
    const i64 b = blockIdx.x;
    const int tid = threadIdx.x, threads = blockDim.x;
    const Network net = {population, connection, flat,  entry_begin, entry,   factor, stencil, weight,
                         threshold,  lower,      upper, v_reset,     rest,    tau,    gain,    powers};
    const State state = {y + b * neurons,
                         last ? last + b * neurons : last,
                         stamp + b * groups,
                         mark ? mark + b * neurons : mark,
                         touched + b * groups,
                         keys + b * largest,
                         fired + b * largest,
                         counts + b * neurons};
    // Of every population: touched groups, neurons that fired. Every other instant has the second half of them.
    extern __shared__ int shared[];
    Cursor* const cursor = cursors + b;
    t_in += begin[b];
    i_in += begin[b];
    n_in += begin[b];
    const int rows = (int)(begin[b + 1] - begin[b]);
    const double until = end[b];
    int row = cursor->row, now = cursor->now, recorded = 0;
    for (int p = tid; p < 4 * populations; p += threads) shared[p] = 0;

    while (row < rows && t_in[row] <= until && recorded + most_new <= capacity) {
        const double t = t_in[row];
        ++now;
        __syncthreads();  // all threads have left the last instant
        int *const n_touched = shared + (now & 1) * 2 * populations, *const n_fired = n_touched + populations;
        for (int p = tid; p < 2 * populations; p += threads) shared[(~now & 1) * 2 * populations + p] = 0;
        int m = 1;
        while (row + m < rows && t_in[row + m] == t) ++m;
        for (int s = tid; s < m; s += threads) state.counts[i_in[row + s]] += n_in[row + s];
        for (int p = 0; p < populations; ++p) {
            const Population source = net.population[p];
            if (p > 0) {
                const int groups_touched = n_touched[p];
                if (groups_touched == 0) continue;
                __syncthreads();  // all threads have read the spikes of the population before
                apply_thresholds(net, state, source, groups_touched, n_fired + p, now, &cursor->failed);
                m = n_fired[p];
                if (m > 1) sort(state.keys, m);
                if (source.flags & RECORDED) {
                    for (int s = tid; s < m; s += threads) {
                        const i64 key = state.keys[s];
                        records[b * capacity + recorded + s] = {t, state.fired[(int)key], p, (int)(key >> 32)};
                    }
                    recorded += m;
                }
            }
            for (int c = source.out; c < net.population[p + 1].out; ++c) {
                const Connection through = net.connection[c];
                const Population target = net.population[through.target];
                for (int s = 0; s < m; ++s) {
                    const i64 key = p > 0 ? state.keys[s] : (i64)i_in[row + s] << 32;
                    const i64 n = p > 0 ? state.fired[(int)key] : n_in[row + s];
                    const int place = through.source_base + (int)(key >> 32), past = net.entry_begin[place + 1];
                    for (int e = net.entry_begin[place]; e < past; ++e)
                        arrive(net, state, through, target, net.entry[e], (double)n * net.factor[e],
                               n_touched + through.target, now, t);
                }
            }
            if (p == 0) row += m;
        }
    }

    if (!(row < rows && t_in[row] <= until)) {
        row = rows;
        const Population last_one = net.population[output];
        const int size = net.population[output + 1].offset - last_one.offset;
        for (int local = tid; local < size; local += threads) {
            const int neuron = last_one.offset + local, f = net.flat[neuron];
            double v = state.y[neuron];
            if (last_one.flags & FIRES) {
                v = (double)state.counts[last_one.offset + f];
            } else if (last_one.kind != STATIC) {
                const int k = local % last_one.group_size;
                const int q = last_one.parameter_offset + (last_one.parameter_stride ? local : k);
                v = advanced(net, last_one.kind, v, state.last[neuron], until, q);
            }
            if (v - v != 0.0) cursor->failed = 1;
            readout[b * size + f] = v;
        }
        for (i64 k = tid; k < neurons; k += threads)
            if (state.y[k] - state.y[k] != 0.0) cursor->failed = 1;  // inf or NaN
    }
    if (tid == 0) {
        cursor->row = row;
        cursor->now = now;
        cursor->records = recorded;
    }
}
