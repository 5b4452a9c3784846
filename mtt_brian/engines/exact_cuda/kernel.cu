// The exact engine on a GPU: one block of threads runs one recording, instant by instant.
//
// Arrays of the network are those of `LoweredCircuit`, with 32-bit indices (`arrays.py`). All blocks read them; the state
// of a run belongs to its block.
//
// At an instant the populations follow each other. A *hit* is a row of the stencil of one arriving spike: a block of
// weights that is added to the neurons of one position. For a population the block lists the hits in the order of the
// spikes (`list_hits`) and links those of one position (`link_hits`). Then each neuron is one thread's: it adds its
// jumps in the order of the links and is compared with its threshold (`add_hits`). So membranes are read and written
// once per instant, and every sum has the order of `exact`: all results are equal to the last bit. Products and sums
// are rounded one by one: the file is compiled with --fmad=false. Hits that do not fit into shared memory are added
// tile by tile; the thresholds then follow in a second pass over the touched neurons.
//
// Macros given by the compiler's options (`arrays.py`): WEIGHT, the type of the weights; the codes of
// `engines.lowered.rules`; the flags of a population; MAX_SPIKES_AT_ONCE, MAX_SPIKES; THREADS, CHANNELS and RESIDENT of
// `arrays.Block`; ANY_MOVES and ANY_SINGLE, whether any population moves between arrivals or has update groups of a
// single neuron.

typedef long long i64;

// Rows of `populations` and `connections`; the columns are explained in `arrays.py`.
struct Population {
    int offset, group_offset, group_size, log_width, kind, rule, flags, parameter_offset, parameter_stride, into;
};
struct Connection {
    int source, source_base, first_entry, most_entries, most_rows, channel_stride, block_length, log_width;
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

// State of one run (`exact.state.State`): potentials, time of the last update; instant of the last arrival at an update
// group and at a marked neuron, touched groups (for tiles only); neurons that fired (C order and index, packed) by
// population, their spikes, counts.
struct State {
    double *y, *last;
    int *stamp, *mark, *touched;
    i64 *keys, *fired, *counts;
};

// A tile of hits in shared memory: amount, first weight, first neuron (-1: none), next hit of the same neurons (-1:
// none), and the first hits of all neurons.
struct Hits {
    double* amount;
    int *weight, *start, *next, *first, *firsts;
};

// One instant of a run.
struct Instant {
    double t;
    int now, row;
    const int* i_in;
    const i64* n_in;
    int *fired, *touched, *failed;  // neurons that fired, by population; touched groups of a population; a flag
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

// A potential after dt seconds without arrivals.
__device__ __noinline__ double after(const i64* powers, int kind, double v, double dt, double rest, double tau) {
    if (!(dt > 0.0)) return v;
    if (kind == DRIFT) return v + rest * dt;
    return rest + (v - rest) * exponential(powers, -dt / tau);
}

__device__ __forceinline__ double advanced(const Network& net, int kind, double v, double last, double t, int q) {
    return after(net.powers, kind, v, t - last, net.rest[q], net.tau[q]);
}

// Bound, threshold and reset of a neuron at which spikes arrived; returns its potential.
__device__ __forceinline__ double settled(const Network& net, const State& state, const Population& population, int p,
                                          int local, int q, double v, bool marked, const Instant& instant) {
    if ((population.flags & BOUNDED) && v < net.lower[q]) v = net.lower[q];
    if ((population.flags & SATURATES) && v > net.upper[q]) v = net.upper[q];
    const double threshold = net.threshold[q];
    if (!(v >= threshold) || !marked) return v;
    i64 spikes = 1;
    if (population.rule == MANY) {
        const double ratio = v / threshold;
        if (ratio < MAX_SPIKES_AT_ONCE)
            spikes = (i64)floor(ratio);
        else
            *instant.failed = 1;
    }
    const int flat = net.flat[population.offset + local];
    const i64 total = state.counts[population.offset + flat] + spikes;
    state.counts[population.offset + flat] = total;
    if (total > MAX_SPIKES) *instant.failed = 1;
    state.fired[population.offset + local] = spikes;
    state.keys[population.offset + atomicAdd(instant.fired + p, 1)] = (i64)flat << 32 | local;
    return population.rule == ZERO ? net.v_reset[q] : v - (double)spikes * threshold;
}

// Lists an update group for the second pass.
__device__ __forceinline__ void touch(const State& state, const Population& population, int group,
                                      const Instant& instant) {
    const int g = population.group_offset + group;
    if (state.stamp[g] == instant.now) return;
    state.stamp[g] = instant.now;
    state.touched[population.group_offset + atomicAdd(instant.touched, 1)] = group;
}

// Writes the hits number base to base + size of a connection into shared memory.
__device__ __forceinline__ void list_hits(const Network& net, const State& state, const Connection& connection,
                                          int base, int size, const Hits& hits, const Instant& instant) {
    for (int h = threadIdx.x; h < size; h += THREADS) {
        const int arrival = (base + h) / connection.most_rows, r = base + h - arrival * connection.most_rows;
        int s = arrival, e = 0;
        if (connection.most_entries > 1) s = arrival / connection.most_entries, e = arrival - s * connection.most_entries;
        int source = instant.i_in[instant.row + (connection.source ? 0 : s)];
        i64 n;
        if (connection.source == 0) {
            n = instant.n_in[instant.row + s];
        } else {
            const int offset = net.population[connection.source].offset;
            const i64 key = state.keys[offset + s];
            source = (int)(key >> 32);
            n = state.fired[offset + (int)key];
        }
        bool exists = true;
        if (connection.first_entry >= 0) {
            e = connection.first_entry + source;
        } else {
            const int place = connection.source_base + source;
            e += net.entry_begin[place];
            exists = e < net.entry_begin[place + 1];
        }
        int start = -1;
        if (exists) {
            const Entry entry = net.entry[e];
            if (r < entry.end - entry.begin) {
                const Row row = net.stencil[entry.begin + r];
                start = row.position * connection.channel_stride + entry.shift;
                hits.weight[h] = entry.first + row.block;
                hits.amount[h] = (double)n * net.factor[e];
            }
        }
        hits.start[h] = start;
        hits.next[h] = -1;
    }
}

// Links the hits of the same neurons in ascending order, and lists the first ones.
__device__ __forceinline__ void link_hits(const Hits& hits, int size) {
    for (int h = threadIdx.x; h < size; h += THREADS) {
        const int start = hits.start[h];
        if (start < 0) continue;
        bool first = true;
        for (int other = 0; other < h; ++other) first &= hits.start[other] != start;
        if (first) hits.first[atomicAdd(hits.firsts, 1)] = h;
        for (int other = h + 1; other < size; ++other) {
            if (hits.start[other] == start) {
                hits.next[h] = other;
                break;
            }
        }
    }
}

// Adds the hits of a tile to the neurons of population p. If these are all hits of the instant the thresholds follow at
// once (`last`); otherwise the neurons are listed. A thread has CHANNELS neurons of a position at a time, so that as many
// reads are under way.
__device__ __forceinline__ void add_hits(const Network& net, const State& state, const Connection& connection,
                                         const Population& population, int p, const Hits& hits, int chains,
                                         bool linked, bool last, const Instant& instant) {
    const int width = 1 << connection.log_width, first_k = threadIdx.x & (width - 1);
    const int step = THREADS >> connection.log_width, length = connection.block_length;
    const bool grouped = !ANY_SINGLE || population.group_size > 1, moves = ANY_MOVES && population.kind != STATIC;
    const bool always = grouped && !(population.flags & MARKED);
    for (int j = threadIdx.x >> connection.log_width; j < chains; j += step) {
        const int head = linked ? hits.first[j] : j, start = hits.start[head];
        if (start < 0) continue;
        for (int begin = first_k; begin < length; begin += CHANNELS * width) {
            double v[CHANNELS];
            bool reached[CHANNELS];
            int q[CHANNELS];
#pragma unroll
            for (int u = 0; u < CHANNELS; ++u) {
                const int k = begin + u * width, local = start + k, neuron = population.offset + local;
                reached[u] = always;
                q[u] = population.parameter_offset + (population.parameter_stride ? local : grouped ? k : 0);
                if (k >= length) continue;
                v[u] = state.y[neuron];
                if (moves && grouped) v[u] = advanced(net, population.kind, v[u], state.last[neuron], instant.t, q[u]);
            }
            for (int h = head; h >= 0; h = hits.next[h]) {
                const double amount = hits.amount[h];
                const WEIGHT* const weight = net.weight + hits.weight[h];
#pragma unroll
                for (int u = 0; u < CHANNELS; ++u) {
                    const int k = begin + u * width, neuron = population.offset + start + k;
                    if (k >= length) continue;
                    const double w = weight[k], jump = amount * w;
                    if (grouped) {
                        v[u] = v[u] + jump;
                        reached[u] |= w != 0.0;
                    } else if (jump != 0.0) {  // a zero weight is no arrival
                        if (moves && !reached[u])
                            v[u] = advanced(net, population.kind, v[u], state.last[neuron], instant.t, q[u]);
                        v[u] = v[u] + net.gain[q[u]] * jump;
                        reached[u] = true;
                    }
                }
            }
#pragma unroll
            for (int u = 0; u < CHANNELS; ++u) {
                const int k = begin + u * width, local = start + k, neuron = population.offset + local;
                if (k >= length || !(grouped || reached[u])) continue;
                if (moves) state.last[neuron] = instant.t;
                if (last) {
                    v[u] = settled(net, state, population, p, local, q[u], v[u], reached[u], instant);
                } else {
                    if (!grouped || k == 0) touch(state, population, local / population.group_size, instant);
                    if ((population.flags & MARKED) && reached[u]) state.mark[neuron] = instant.now;
                }
                state.y[neuron] = v[u];
            }
        }
    }
}

// Thresholds of all neurons that the tiles have touched.
__device__ __forceinline__ void settle_touched(const Network& net, const State& state, const Population& population,
                                               int p, const Instant& instant) {
    const int size = population.group_size, width = 1 << population.log_width, touched = *instant.touched;
    const int first_k = threadIdx.x & (width - 1), step = THREADS >> population.log_width;
    for (int j = threadIdx.x >> population.log_width; j < touched; j += step) {
        const int start = state.touched[population.group_offset + j] * size;
        for (int k = first_k; k < size; k += width) {
            const int local = start + k, neuron = population.offset + local;
            const int q = population.parameter_offset + (population.parameter_stride ? local : k);
            const bool marked = !(population.flags & MARKED) || state.mark[neuron] == instant.now;
            state.y[neuron] = settled(net, state, population, p, local, q, state.y[neuron], marked, instant);
        }
    }
}

// Sorts `m` keys by merging exchanges (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
__device__ void sort(i64* keys, int m) {
    int top = 1;
    while (2 * top < m) top *= 2;
    for (int p = top; p > 0; p /= 2) {
        int q = top, r = 0, d = p;
        for (;;) {
            for (int i = threadIdx.x; i < m - d; i += THREADS) {
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

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) run_summed(
    // the network
    const Population* population, const Connection* connection, const int* flat, const int* entry_begin,
    const Entry* entry, const double* factor, const Row* stencil, const WEIGHT* weight, const double* threshold,
    const double* lower, const double* upper, const double* v_reset, const double* rest, const double* tau,
    const double* gain, const i64* powers, i64 populations, i64 output, i64 tile,
    // the recordings, one after another: recording b has the input rows begin[b] to begin[b + 1]
    const i64* begin, const double* end, const double* t_in, const int* i_in, const i64* n_in,
    // their states, outputs and records; numbers of neurons and update groups, records of one instant at most
    i64 neurons, i64 groups, i64 most_new, i64 capacity, double* y, double* last, int* stamp, int* mark, int* touched,
    i64* keys, i64* fired, i64* counts, double* readout, Record* records, Cursor* cursors) {
    const i64 b = blockIdx.x;
    const int tid = threadIdx.x, threads = THREADS;
    const Network net = {population, connection, flat,  entry_begin, entry, factor, stencil, weight,
                         threshold,  lower,      upper, v_reset,     rest,  tau,    gain,    powers};
    const State state = {y + b * neurons,
                         last ? last + b * neurons : last,
                         stamp + b * groups,
                         mark ? mark + b * neurons : mark,
                         touched + b * groups,
                         keys + b * neurons,
                         fired + b * neurons,
                         counts + b * neurons};
    extern __shared__ double shared[];
    int* const integers = (int*)(shared + tile);
    const Hits hits = {shared, integers, integers + tile, integers + 2 * tile, integers + 3 * tile, integers + 4 * tile};
    int *const n_touched = hits.firsts + 1, *const n_fired = hits.firsts + 2;
    Cursor* const cursor = cursors + b;
    t_in += begin[b];
    i_in += begin[b];
    n_in += begin[b];
    const int rows = (int)(begin[b + 1] - begin[b]);
    const double until = end[b];
    int row = cursor->row, now = cursor->now, recorded = 0;
    // Neurons that fired, by population; every other instant has the second half.
    for (int p = tid; p < 2 * populations; p += threads) n_fired[p] = 0;

    while (row < rows && t_in[row] <= until && recorded + most_new <= capacity) {
        const double t = t_in[row];
        ++now;
        __syncthreads();  // all threads have left the last instant
        int m = 1;
        while (row + m < rows && t_in[row + m] == t) ++m;
        const Instant instant = {t,    now, row, i_in, n_in, n_fired + (now & 1) * populations, n_touched, &cursor->failed};
        for (int p = tid; p < populations; p += threads) n_fired[(~now & 1) * populations + p] = 0;
        for (int s = tid; s < m; s += threads) state.counts[i_in[row + s]] += n_in[row + s];

        for (int p = 1; p < populations; ++p) {
            const int past = net.population[p + 1].into;
            int tiles = 0;
            for (int c = net.population[p].into; c < past; ++c) {
                const Connection through = net.connection[c];
                const int spikes = through.source ? instant.fired[through.source] : m;
                tiles += (spikes * through.most_entries * through.most_rows + (int)tile - 1) / (int)tile;
            }
            if (tiles == 0) continue;
            const Population target = net.population[p];
            bool begun = false;
            if (tid == 0) *n_touched = 0;
            for (int c = target.into; c < past; ++c) {
                const Connection through = net.connection[c];
                const int spikes = through.source ? instant.fired[through.source] : m;
                const int of_spike = through.most_entries * through.most_rows, all = spikes * of_spike;
                for (int base = 0; base < all; base += (int)tile) {
                    const int size = all - base < tile ? all - base : (int)tile;
                    // The hits of one arrival are those of different neurons.
                    const bool linked = base / through.most_rows != (base + size - 1) / through.most_rows;
                    if (begun) __syncthreads();
                    begun = true;
                    if (tid == 0) *hits.firsts = 0;
                    list_hits(net, state, through, base, size, hits, instant);
                    __syncthreads();
                    if (linked) {
                        link_hits(hits, size);
                        __syncthreads();
                    }
                    const int chains = linked ? *hits.firsts : size;
                    add_hits(net, state, through, target, p, hits, chains, linked, tiles == 1, instant);
                }
            }
            if (tiles > 1) {
                __syncthreads();
                settle_touched(net, state, target, p, instant);
            }
            __syncthreads();
            const int fired_now = instant.fired[p];
            if (fired_now > 1) sort(state.keys + target.offset, fired_now);
            if (target.flags & RECORDED) {
                for (int s = tid; s < fired_now; s += threads) {
                    const i64 key = state.keys[target.offset + s];
                    const i64 n = state.fired[target.offset + (int)key];
                    records[b * capacity + recorded + s] = {t, n, p, (int)(key >> 32)};
                }
                recorded += fired_now;
            }
        }
        row += m;
    }

    if (!(row < rows && t_in[row] <= until)) {
        row = rows;
        __syncthreads();
        const Population last_one = net.population[output];
        const int size = net.population[output + 1].offset - last_one.offset;
        for (int local = tid; local < size; local += threads) {
            const int neuron = last_one.offset + local, f = net.flat[neuron];
            double v = state.y[neuron];
            if (last_one.flags & FIRES) {
                v = (double)state.counts[last_one.offset + f];
            } else if (ANY_MOVES && last_one.kind != STATIC) {
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
    __syncthreads();
    if (tid == 0) {
        cursor->row = row;
        cursor->now = now;
        cursor->records = recorded;
    }
}
