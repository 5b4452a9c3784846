// order="sum" on a GPU: the populations follow each other, each through the whole recording.
//
// A network without delays has no loop, so a population can be computed for all instants before the next one begins.
// A *hit* is a block of weights that one spike adds to the neurons of a position. A *unit* is a block of neighbouring
// neurons; for a convolution it holds the channels of a position. `count_hits` and `list_hits` list the hits of every
// unit in the order in which `exact` adds them. `update` then runs each neuron through the list of its unit, with the
// potential in a register: its threads do not wait for each other. `sort_spikes` brings the spikes of the population
// into the order of the next one's hits: by instant, then by neuron. Every sum has the order of `exact`, and products
// and sums are rounded one by one: all results are equal to the last bit.
//
// More macros than those of common.cu: CHANNELS, neurons of a thread; MOST_INTO, connections into one population at
// most.

// Different values of a digit of `sort_spikes`.
#define DIGITS 16

// A spike: number of its instant, which is the first input row of that time; neuron (C order); how many at once.
struct alignas(16) Spike {
    int row, i;
    i64 n;
};
// A hit: its instant, first weight, first neuron and length.
struct alignas(16) Hit {
    int row, weight, start, length;
};
// Recordings that run at the same time.
struct Batch {
    const i64* begin;    // first input row of each recording
    const double* t;     // time of the input rows
    Spike* const* list;  // spikes by population
    const i64* at;       // where those of each recording begin: [populations, recordings + 1]
    int* length;         // how many there are; more than there is room for if the list is too short
    i64 recordings;
};

// The first spike of a list at an instant or later.
__device__ __forceinline__ int first_from(const Spike* list, int length, int row) {
    int low = 0;
    while (low < length) {
        const int middle = (low + length) / 2;
        if (list[middle].row < row)
            low = middle + 1;
        else
            length = middle;
    }
    return low;
}

// Calls f(unit, hit, amount) for all hits on population p at the instants `from` to `to` of a recording, in order.
template <class F>
__device__ __forceinline__ void for_hits(const Network& net, const Batch& batch, i64 b, int p, int from, int to, F f) {
    const Population population = net.population[p];
    const int first = population.connections, into = net.population[p + 1].connections - first, unit = population.unit;
    int at[MOST_INTO];
    for (int c = 0; c < into; ++c) {
        const i64 source = net.connection[first + c].source, place = source * batch.recordings + b;
        at[c] = first_from(batch.list[source] + batch.at[place + source], batch.length[place], from);
    }
    for (;;) {
        int row = to;
        for (int c = 0; c < into; ++c) {
            const i64 source = net.connection[first + c].source, place = source * batch.recordings + b;
            if (at[c] == batch.length[place]) continue;
            const int next = batch.list[source][batch.at[place + source] + at[c]].row;
            row = next < row ? next : row;
        }
        if (row == to) return;
        for (int c = 0; c < into; ++c) {
            const Connection through = net.connection[first + c];
            const i64 place = through.source * batch.recordings + b;
            const Spike* const list = batch.list[through.source] + batch.at[place + through.source];
            for (; at[c] < batch.length[place] && list[at[c]].row == row; ++at[c]) {
                const Spike spike = list[at[c]];
                int e = through.first_entry + spike.i, past = e + 1;
                if (through.first_entry < 0) {
                    e = net.entry_begin[through.source_base + spike.i];
                    past = net.entry_begin[through.source_base + spike.i + 1];
                }
                for (; e < past; ++e) {
                    const Entry entry = net.entry[e];
                    const double amount = (double)spike.n * net.factor[e];
                    for (int r = entry.begin; r < entry.end; ++r) {
                        const Row target = net.stencil[r];
                        const int start = target.position * through.channel_stride + entry.shift;
                        const Hit hit = {row, entry.first + target.block, start, through.block_length};
                        const int end = start + hit.length;
                        for (int u = start / unit; u * unit < end; ++u) f(u, hit, amount);
                    }
                }
            }
        }
    }
}

// The sums of all numbers in front of each, in place; returns the sum of all. For all threads of a block.
__device__ __forceinline__ int sums_before(int* numbers, int count, int* partial) {
    const int begin = (int)((i64)count * threadIdx.x / THREADS), end = (int)((i64)count * (threadIdx.x + 1) / THREADS);
    __syncthreads();
    int own = 0;
    for (int k = begin; k < end; ++k) own += numbers[k];
    partial[threadIdx.x] = own;
    __syncthreads();
    for (int reach = 1; reach < THREADS; reach *= 2) {
        const int other = (int)threadIdx.x >= reach ? partial[threadIdx.x - reach] : 0;
        __syncthreads();
        partial[threadIdx.x] += other;
        __syncthreads();
    }
    int sum = partial[threadIdx.x] - own;
    for (int k = begin; k < end; ++k) {
        const int number = numbers[k];
        numbers[k] = sum;
        sum += number;
    }
    const int all = partial[THREADS - 1];
    __syncthreads();
    return all;
}

#define NETWORK                                                                                                       \
    const Population *population, const Connection *connection, const int *entry_begin, const Entry *entry,           \
        const double *factor, const Row *stencil, const WEIGHT *weight, const double *threshold, const double *lower, \
        const double *upper, const double *v_reset, const double *rest, const double *tau, const double *gain,        \
        const i64 *powers, const i64 *fan_out
#define BATCH const i64 *begin, const double *t_in, Spike *const *list, const i64 *at, int *length, i64 recordings
#define HERE                                                                                             \
    const Network net = {population, connection, entry_begin, entry, factor, stencil, weight, threshold, \
                         lower,      upper,      v_reset,     rest,  tau,    gain,    powers};           \
    const Batch batch = {begin, t_in, list, at, length, recordings};

// The input as spikes, and their counts. One block per recording.
extern "C" __global__ void __launch_bounds__(THREADS)
    list_input(NETWORK, BATCH, const int* i_in, const i64* n_in, i64 neurons, i64* counts) {
    const i64 b = blockIdx.x;
    const double* const t = t_in + begin[b];
    Spike* const spikes = list[0] + at[b];
    for (int row = threadIdx.x; row < length[b]; row += THREADS) {
        int first = 0, past = row;
        while (first < past) {
            const int middle = (first + past) / 2;
            if (t[middle] < t[row])
                first = middle + 1;
            else
                past = middle;
        }
        const int i = i_in[begin[b] + row];
        const i64 n = n_in[begin[b] + row];
        spikes[row] = {first, i, n};
        atomicAdd((unsigned long long*)counts + b * neurons + i, (unsigned long long)n);
    }
}

// How many hits every unit of population p has at the instants of each part of a recording: `number` [recordings,
// units, parts] becomes where they begin. `all`: the hits of each recording. One block per recording.
extern "C" __global__ void __launch_bounds__(THREADS)
    count_hits(NETWORK, BATCH, i64 p, i64 units, i64 parts, int* number, i64* all) {
    HERE;
    __shared__ int partial[THREADS];
    const i64 b = blockIdx.x, rows = begin[b + 1] - begin[b];
    int* const own = number + b * units * parts;
    for (i64 k = threadIdx.x; k < parts; k += THREADS)
        for_hits(net, batch, b, (int)p, (int)(rows * k / parts), (int)(rows * (k + 1) / parts),
                 [&](int unit, const Hit&, double) { ++own[unit * parts + k]; });
    const int sum = sums_before(own, (int)(units * parts), partial);
    if (threadIdx.x == 0) all[b] = sum;
}

// The hits themselves. `number` becomes where the hits of each unit and part end.
extern "C" __global__ void __launch_bounds__(THREADS)
    list_hits(NETWORK, BATCH, i64 p, i64 units, i64 parts, int* number, const i64* first, Hit* hits, double* amounts) {
    HERE;
    const i64 b = blockIdx.x, rows = begin[b + 1] - begin[b];
    int* const own = number + b * units * parts;
    for (i64 k = threadIdx.x; k < parts; k += THREADS)
        for_hits(net, batch, b, (int)p, (int)(rows * k / parts), (int)(rows * (k + 1) / parts),
                 [&](int unit, const Hit& hit, double amount) {
                     const i64 place = first[b] + own[unit * parts + k]++;
                     hits[place] = hit;
                     amounts[place] = amount;
                 });
}

// Runs the neurons of population p through the hits of their units. A thread has CHANNELS neurons of one unit.
extern "C" __global__ void __launch_bounds__(THREADS)
    update(NETWORK, BATCH, i64 p, i64 units, i64 parts, const int* number, const i64* first, const Hit* hits,
           const double* amounts, i64 neurons, double* y, double* last, i64* counts, int* failed) {
    const Population own = population[p];
    const int size = population[p + 1].offset - own.offset, width = (own.unit + CHANNELS - 1) / CHANNELS;
    const i64 worker = blockIdx.x * (i64)THREADS + threadIdx.x, b = worker / (units * width);
    if (b >= recordings) return;
    const i64 place = p * recordings + b;
    const int u = (int)(worker / width % units), lane = (int)(worker % width), flags = own.flags;
    const bool grouped = !ANY_SINGLE || own.group_size > 1, moves = ANY_MOVES && own.kind != STATIC;
    const bool marked = ANY_MARKED && flags & MARKED;
    const double* const t = t_in + begin[b];
    Spike* const spikes = list[p] + at[place + p];
    const i64 room = at[place + p + 1] - at[place + p];
    double v[CHANNELS], since[CHANNELS];
    i64 fired[CHANNELS];
    int local[CHANNELS], q[CHANNELS];
    bool exists[CHANNELS];
#pragma unroll
    for (int j = 0; j < CHANNELS; ++j) {
        const int k = lane + j * width;
        local[j] = u * own.unit + k;
        exists[j] = k < own.unit && local[j] < size;
        q[j] = own.parameter_offset + (own.parameter_stride ? local[j] : grouped ? local[j] % own.group_size : 0);
        if (!exists[j]) q[j] = own.parameter_offset;
        v[j] = since[j] = 0.0;
        fired[j] = 0;
    }
    const int* const ends = number + (b * units + u) * parts;
    i64 h = first[b] + (u ? ends[-1] : 0);
    const i64 end = first[b] + ends[parts - 1];
    Hit hit = {};
    double amount = 0.0;
    if (h < end) hit = hits[h], amount = amounts[h];
    while (h < end) {
        const int row = hit.row;
        const double now = t[row];
        unsigned updated = 0, reached = 0;
        for (bool same = true; same;) {
            Hit next = hit;
            double next_amount = amount;
            same = ++h < end;
            if (same) next = hits[h], next_amount = amounts[h];  // on their way while this hit is added
#pragma unroll
            for (int j = 0; j < CHANNELS; ++j) {
                const int k = local[j] - hit.start;
                if (!exists[j] || k < 0 || k >= hit.length) continue;
                const double w = weight[hit.weight + k], jump = amount * w;
                if (!grouped && jump == 0.0) continue;  // a zero weight is no arrival
                if (moves && !(updated >> j & 1))
                    v[j] = after(powers, own.kind, v[j], now - since[j], rest[q[j]], tau[q[j]]);
                v[j] = v[j] + (grouped ? jump : gain[q[j]] * jump);
                updated |= 1u << j;
                if (!marked || w != 0.0) reached |= 1u << j;
            }
            same = same && next.row == row;
            hit = next;
            amount = next_amount;
        }
#pragma unroll
        for (int j = 0; j < CHANNELS; ++j) {
            if (!(updated >> j & 1)) continue;
            since[j] = now;
            if (flags & BOUNDED && v[j] < lower[q[j]]) v[j] = lower[q[j]];
            if (flags & SATURATES && v[j] > upper[q[j]]) v[j] = upper[q[j]];
            const double level = threshold[q[j]];
            if (!(reached >> j & 1) || !(v[j] >= level)) continue;
            i64 n = 1;
            if (own.rule == MANY) {
                const double ratio = v[j] / level;
                if (ratio < MAX_SPIKES_AT_ONCE)
                    n = (i64)floor(ratio);
                else
                    failed[b] = FAILED;
            }
            fired[j] += n;
            const int slot = atomicAdd(length + place, 1);
            if (slot < room) spikes[slot] = {row, flat(own, local[j]), n};
            v[j] = own.rule == ZERO ? v_reset[q[j]] : v[j] - (double)n * level;
        }
    }
#pragma unroll
    for (int j = 0; j < CHANNELS; ++j) {
        if (!exists[j]) continue;
        y[b * neurons + own.offset + local[j]] = v[j];
        if (moves) last[b * neurons + own.offset + local[j]] = since[j];
        counts[b * neurons + own.offset + flat(own, local[j])] = fired[j];
    }
}

// Sorts the spikes of population p by instant and neuron, digit by digit, without changing the order of equal digits.
// `other` has as much room as the list. One block per recording.
extern "C" __global__ void __launch_bounds__(THREADS) sort_spikes(NETWORK, BATCH, i64 p, Spike* other) {
    __shared__ int number[DIGITS * THREADS], partial[THREADS];
    const i64 b = blockIdx.x, place = p * recordings + b, offset = at[place + p];
    const int m = length[place], tid = threadIdx.x, size = population[p + 1].offset - population[p].offset;
    const int from = (int)((i64)m * tid / THREADS), to = (int)((i64)m * (tid + 1) / THREADS);
    const i64 rows = begin[b + 1] - begin[b];
    if (m < 2) return;
    Spike *source = list[p] + offset, *target = other + offset;
    for (int by_row = 0; by_row < 2; ++by_row) {
        const i64 values = by_row ? rows : size;
        for (i64 unit = 1; unit < values; unit *= DIGITS) {
            for (int d = 0; d < DIGITS; ++d) number[d * THREADS + tid] = 0;
            for (int k = from; k < to; ++k)
                ++number[(by_row ? source[k].row : source[k].i) / unit % DIGITS * THREADS + tid];
            sums_before(number, DIGITS * THREADS, partial);
            for (int k = from; k < to; ++k) {
                const Spike spike = source[k];
                target[number[(by_row ? spike.row : spike.i) / unit % DIGITS * THREADS + tid]++] = spike;
            }
            __syncthreads();
            Spike* const before = source;
            source = target;
            target = before;
        }
    }
    if (source == list[p] + offset) return;
    for (int k = tid; k < m; k += THREADS) list[p][offset + k] = source[k];
}

// Readout and synaptic operations; whether they and all potentials are numbers. One block per recording.
extern "C" __global__ void __launch_bounds__(THREADS)
    finish(NETWORK, BATCH, const double* end, i64 neurons, i64 output, const double* y, const double* last,
           const i64* counts, double* readout, i64* synops, int* failed) {
    __shared__ i64 of_threads[THREADS];
    const i64 b = blockIdx.x;
    finish_recording(population, rest, tau, powers, fan_out, end[b], neurons, output, y + b * neurons,
                     last ? last + b * neurons : last, counts + b * neurons, b, readout, synops, failed + b,
                     of_threads);
}
