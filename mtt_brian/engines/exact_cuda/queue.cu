// order="fifo" on a GPU: one block of threads runs one recording, single event by single event, breadth first.
//
// The state of a run belongs to its block. A *hit* is a row of the stencil of the event: a block of weights that is
// added to the neurons of one position. For a connection the block lists the hits (`list_hits`) and, where there are
// several entries, links those of one position (`link_hits`). Then each neuron is one thread's: it adds its jumps in the
// order of the links and is compared with its threshold (`add_hits`). So membranes are read and written once per event,
// and every sum has the order of `exact`: all results are equal to the last bit. Hits that do not fit into shared memory
// are added tile by tile; the thresholds then follow in a second pass over the touched neurons.
//
// More macros than those of common.cu: CHANNELS and RESIDENT of `arrays.Block`; QUEUE_FULL of `arrays.py`.

// Neighbouring numbers, which a thread reads and writes 16 bytes at a time.
template <class T>
struct alignas(CHANNELS * sizeof(T) < 16 ? CHANNELS * sizeof(T) : 16) Channels {
    T of[CHANNELS];
};
// Spikes of one neuron at one instant: C order of the neuron, and number.
struct alignas(16) Spikes {
    i64 i, n;
};
// A recorded spike: time, number, population, neuron (C order).
struct Record {
    double t;
    i64 n;
    int p, i;
};
// Where an interrupted run continues: next input row, number of the instant, records; whether the run failed; begin and
// length of the queue.
struct Cursor {
    int row, now, records, failed, first, length;
};

// State of one run (`exact.state.State`): potentials, time of the last update; instant of the last arrival at an update
// group and at a marked neuron, touched groups (for tiles only); spikes of this instant by population; counts.
struct State {
    double *y, *last;
    int *stamp, *mark, *touched;
    Spikes* spikes;
    i64* counts;
};

// A tile of hits in shared memory: amount, first weight, first neuron (-1: none), next hit of the same neurons (-1:
// none), and the first hits of all neurons.
struct Hits {
    double* amount;
    int *weight, *start, *next, *first, *firsts;
};

// One event of a run.
struct Instant {
    double t;
    int now;
    int *fired, *touched, *failed;  // neurons that fired, by population; touched groups of a population; a flag
    Spikes* latest;                 // the first of the spikes that a population is firing, in shared memory
    int tile;                       // room of `latest`
};

// Adds to a spike count without waiting for its value. Sums above MAX_SPIKES are found at the end of the run.
__device__ __forceinline__ void count(const State& state, int neuron, i64 n) {
    atomicAdd((unsigned long long*)state.counts + neuron, (unsigned long long)n);
}

// Spikes and reset of a neuron that has reached its threshold; returns its potential.
__device__ __forceinline__ double fired(const Network& net, const State& state, const Population& population, int p,
                                        int local, int q, double v, double threshold, const Instant& instant) {
    i64 spikes = 1;
    if (population.rule == MANY) {
        const double ratio = v / threshold;
        if (ratio < MAX_SPIKES_AT_ONCE)
            spikes = (i64)floor(ratio);
        else
            *instant.failed = FAILED;
    }
    const Spikes spike = {flat(population, local), spikes};
    count(state, population.offset + (int)spike.i, spikes);
    const int slot = atomicAdd(instant.fired + p, 1);
    state.spikes[population.offset + slot] = spike;
    if (slot < instant.tile) instant.latest[slot] = spike;
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

// Asks for neighbouring potentials to be brought from memory into the L2 cache, while the thread goes on.
__device__ __forceinline__ void prefetch(const double* from, int number) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(8 * number));
#elif defined(__CUDA_ARCH__)
    for (int line = 0; line < number; line += 16) asm volatile("prefetch.global.L2 [%0];" ::"l"(from + line));
#endif
}

// Writes the hits number base to base + size of a connection into shared memory.
// `spikes` are those of the source.
__device__ __forceinline__ void list_hits(const Network& net, const State& state, const Connection& connection,
                                          const Spikes* spikes, int base, int size, const Hits& hits) {
    const int padded = (size + 3) & ~3;  // to whole groups of four
    for (int h = threadIdx.x; h < padded; h += THREADS) {
        if (h >= size) {
            hits.start[h] = -1;
            continue;
        }
        const int arrival = (base + h) / connection.most_rows, r = base + h - arrival * connection.most_rows;
        int s = arrival, e = 0;
        if (connection.most_entries > 1) s = arrival / connection.most_entries, e = arrival - s * connection.most_entries;
        const Spikes spike = spikes[s];
        const int source = (int)spike.i;
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
                hits.amount[h] = (double)spike.n * net.factor[e];
                if (CHANNELS > 1 && connection.aligned)  // large networks, of which few potentials are in a cache
                    prefetch(state.y + net.population[connection.target].offset + start, connection.block_length);
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
        int before = 0, next = size;
#pragma unroll 4
        for (int g = 0; g < size; g += 4) {
            const Quad four = *(const Quad*)(hits.start + g);
            const int same = (four.a == start) | (four.b == start) << 1 | (four.c == start) << 2 | (four.d == start) << 3;
            if (same == 0) continue;
            for (int other = g; other < g + 4; ++other) {
                if (!(same >> (other - g) & 1)) continue;
                before += other < h;
                if (other > h && other < next) next = other;
            }
        }
        if (before == 0) hits.first[atomicAdd(hits.firsts, 1)] = h;
        if (next < size) hits.next[h] = next;
    }
}

// Reads neighbouring numbers, of which `room` exist.
template <bool ALIGNED, class T>
__device__ __forceinline__ Channels<T> read(const T* from, int room) {
    if constexpr (ALIGNED) {
        return *(const Channels<T>*)from;
    } else {
        Channels<T> numbers;
#pragma unroll
        for (int u = 0; u < CHANNELS; ++u) numbers.of[u] = u < room ? from[u] : T(0);
        return numbers;
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void write(double* to, const Channels<double>& numbers, int room) {
    if constexpr (ALIGNED) {
        *(Channels<double>*)to = numbers;
    } else {
#pragma unroll
        for (int u = 0; u < CHANNELS; ++u)
            if (u < room) to[u] = numbers.of[u];
    }
}

// Reads a parameter of neighbouring neurons; `one`: they share it.
template <bool ALIGNED>
__device__ __forceinline__ Channels<double> read_parameter(const double* from, bool one, int room) {
    if (!one) return read<ALIGNED>(from, room);
    Channels<double> numbers;
#pragma unroll
    for (int u = 0; u < CHANNELS; ++u) numbers.of[u] = *from;
    return numbers;
}

// Adds the hits of a tile to the neurons of population p. If these are all hits of the instant the thresholds follow at
// once (`last`); otherwise the neurons are listed. A thread has CHANNELS neighbouring neurons of a position at a time.
template <bool ALIGNED>
__device__ __forceinline__ void add_hits(const Network& net, const State& state, const Connection& connection,
                                         const Population& population, int p, const Hits& hits, int chains, bool linked,
                                         bool last, const Instant& instant) {
    const int length = connection.block_length, stride = CHANNELS << connection.log_width;
    const int first_k = (CHANNELS * threadIdx.x) & (stride - 1), step = THREADS >> connection.log_width;
    const bool grouped = !ANY_SINGLE || population.group_size > 1, moves = ANY_MOVES && population.kind != STATIC;
    const bool each = population.parameter_stride, one = ANY_SINGLE && !grouped && !each;
    const int kind = population.kind, flags = population.flags, parameters = population.parameter_offset;
    const bool marked = ANY_MARKED && flags & MARKED, always = grouped && !marked;
    double* const y = state.y + population.offset;
    double* const times = state.last + population.offset;
    for (int j = threadIdx.x >> connection.log_width; j < chains; j += step) {
        const int head = linked ? hits.first[j] : j, start = hits.start[head];
        if (start < 0) continue;
        for (int k = first_k; k < length; k += stride) {
            int h = head;
            const int local = start + k, room = length - k, q = parameters + (each ? local : grouped ? k : 0);
            const WEIGHT* const weights = net.weight + k;
            Channels<double> v = read<ALIGNED>(y + local, room);
            Channels<WEIGHT> weight = read<ALIGNED>(weights + hits.weight[h], room);
            unsigned reached = always ? ~0u : 0u;
            Channels<double> since, rest, tau;
            if (moves) {
                since = read<ALIGNED>(times + local, room);
                rest = read_parameter<ALIGNED>(net.rest + q, one, room);
                tau = read_parameter<ALIGNED>(net.tau + q, one, room);
            }
            if (moves && grouped) {
#pragma unroll
                for (int u = 0; u < CHANNELS; ++u)
                    if (u < room)
                        v.of[u] = after(net.powers, kind, v.of[u], instant.t - since.of[u], rest.of[u], tau.of[u]);
            }
            while (true) {
                const double amount = hits.amount[h];
                h = hits.next[h];
#pragma unroll
                for (int u = 0; u < CHANNELS; ++u) {
                    const double w = weight.of[u], jump = amount * w;
                    if (grouped) {
                        v.of[u] = v.of[u] + jump;
                        if (marked) reached |= (unsigned)(w != 0.0) << u;
                    } else if (jump != 0.0) {  // a zero weight is no arrival
                        if (moves && !(reached >> u & 1))
                            v.of[u] = after(net.powers, kind, v.of[u], instant.t - since.of[u], rest.of[u], tau.of[u]);
                        v.of[u] = v.of[u] + net.gain[one ? q : q + u] * jump;
                        reached |= 1u << u;
                    }
                }
                if (h < 0) break;
                weight = read<ALIGNED>(weights + hits.weight[h], room);
            }
            const unsigned updated = grouped ? ~0u : reached;
            if (moves) {
#pragma unroll
                for (int u = 0; u < CHANNELS; ++u)
                    if (u < room && updated >> u & 1) times[local + u] = instant.t;
            }
            if (last) {
                if (flags & (BOUNDED | SATURATES)) {
                    Channels<double> lower, upper;
                    if (flags & BOUNDED) lower = read_parameter<ALIGNED>(net.lower + q, one, room);
                    if (flags & SATURATES) upper = read_parameter<ALIGNED>(net.upper + q, one, room);
#pragma unroll
                    for (int u = 0; u < CHANNELS; ++u) {
                        if (!(updated >> u & 1)) continue;
                        if (flags & BOUNDED && v.of[u] < lower.of[u]) v.of[u] = lower.of[u];
                        if (flags & SATURATES && v.of[u] > upper.of[u]) v.of[u] = upper.of[u];
                    }
                }
                const Channels<double> threshold = read_parameter<ALIGNED>(net.threshold + q, one, room);
                unsigned firing = 0;
#pragma unroll
                for (int u = 0; u < CHANNELS; ++u)
                    firing |= (unsigned)(v.of[u] >= threshold.of[u] && (ALIGNED || u < room)) << u;
                firing &= reached;
                for (int u = 0; firing; ++u, firing >>= 1) {  // rarely
                    if (!(firing & 1)) continue;
                    double potential = 0.0, level = 0.0;
#pragma unroll
                    for (int x = 0; x < CHANNELS; ++x)
                        if (x == u) potential = v.of[x], level = threshold.of[x];
                    potential = fired(net, state, population, p, local + u, one ? q : q + u, potential, level, instant);
#pragma unroll
                    for (int x = 0; x < CHANNELS; ++x)
                        if (x == u) v.of[x] = potential;
                }
            } else {
#pragma unroll
                for (int u = 0; u < CHANNELS; ++u) {
                    if (u >= room || !(updated >> u & 1)) continue;
                    if (!grouped || k + u == 0) touch(state, population, (local + u) / population.group_size, instant);
                    if (marked && reached >> u & 1) state.mark[population.offset + local + u] = instant.now;
                }
            }
            write<ALIGNED>(y + local, v, room);
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
            const int flags = population.flags;
            double v = state.y[neuron];
            if (flags & BOUNDED && v < net.lower[q]) v = net.lower[q];
            if (flags & SATURATES && v > net.upper[q]) v = net.upper[q];
            const bool marked = !(flags & MARKED) || state.mark[neuron] == instant.now;
            const double threshold = net.threshold[q];
            if (marked && v >= threshold) v = fired(net, state, population, p, local, q, v, threshold, instant);
            state.y[neuron] = v;
        }
    }
}

// Writes up to a tile of spikes in ascending order into shared memory and the state; ends with a barrier.
__device__ __forceinline__ void sort_few(const Spikes* latest, Spikes* ordered, Spikes* spikes, int m) {
    for (int s = threadIdx.x; s < m; s += THREADS) {
        const Spikes spike = latest[s];
        int rank = 0;
        for (int other = 0; other < m; ++other) rank += latest[other].i < spike.i;
        ordered[rank] = spike;
        spikes[rank] = spike;
    }
    __syncthreads();
}

// Sorts spikes by merging exchanges (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
__device__ __noinline__ void sort(Spikes* spikes, int m) {
    int top = 1;
    while (2 * top < m) top *= 2;
    for (int p = top; p > 0; p /= 2) {
        int q = top, r = 0, d = p;
        for (;;) {
            for (int i = threadIdx.x; i < m - d; i += THREADS) {
                if ((i & p) != r) continue;
                const Spikes low = spikes[i], high = spikes[i + d];
                if (low.i > high.i) spikes[i] = high, spikes[i + d] = low;
            }
            __syncthreads();
            if (q == p) break;
            d = q - p;
            q /= 2;
            r = p;
        }
    }
}

// What a block works with: the network, the state of its run, shared memory, the input and the output.
struct Run {
    Network net;
    State state;
    Spikes *latest, *ordered;  // the spikes that a population fires, and the same in ascending order
    Spikes* one;               // a single spike
    Hits hits;
    int *touched, *fired;  // touched groups of a population; neurons that fired, by population, for two instants
    int tile, populations, rows;
    double until;
    const double* t_in;
    const int *i_in, *order;
    i64* queue;
    i64 room, most_caused, most_new, capacity;
    Record* records;
    Cursor* cursor;
};

// The next event. Neurons that fired are counted in one half of `fired`; the other one is emptied.
__device__ __forceinline__ Instant begin_event(const Run& run, double t, int now) {
    __syncthreads();  // all threads have left the last event
    int* const counters = run.fired + (now & 1) * run.populations;
    int* const others = run.fired + (~now & 1) * run.populations;
    for (int p = threadIdx.x; p < run.populations; p += THREADS) others[p] = 0;
    return {t, now, counters, run.touched, &run.cursor->failed, run.latest, run.tile};
}

// Adds the `all` hits of a connection, tile by tile. `begun`: whether shared memory may still be read.
__device__ __forceinline__ void add_connection(const Run& run, const Connection& through, const Spikes* spikes, int all,
                                               bool once, bool& begun, const Instant& instant) {
    const Population& target = run.net.population[through.target];
    for (int base = 0; base < all; base += run.tile) {
        const int size = all - base < run.tile ? all - base : run.tile, rows = through.most_rows;
        // The hits of one arrival are those of different neurons.
        const bool linked = size > rows || (base && base % rows + size > rows);
        if (begun) __syncthreads();
        begun = true;
        if (threadIdx.x == 0) *run.hits.firsts = 0;
        list_hits(run.net, run.state, through, spikes, base, size, run.hits);
        __syncthreads();
        if (linked) {
            link_hits(run.hits, size);
            __syncthreads();
        }
        const int chains = linked ? *run.hits.firsts : size;
        if (CHANNELS == 1 || through.aligned)
            add_hits<true>(run.net, run.state, through, target, through.target, run.hits, chains, linked, once,
                           instant);
        else
            add_hits<false>(run.net, run.state, through, target, through.target, run.hits, chains, linked, once,
                            instant);
    }
}

// The spikes that population p has fired, in ascending order, recorded; `list` is where they stand.
__device__ __forceinline__ int fired_by(const Run& run, int p, bool once, const Spikes*& list, int& recorded,
                                        const Instant& instant) {
    const Population& target = run.net.population[p];
    if (!once) {
        __syncthreads();
        settle_touched(run.net, run.state, target, p, instant);
    }
    __syncthreads();
    const int m = instant.fired[p];
    Spikes* const all = run.state.spikes + target.offset;
    list = run.latest;
    if (m > run.tile) {
        sort(all, m);
        list = all;
    } else if (m > 1) {
        sort_few(run.latest, run.ordered, all, m);
        list = run.ordered;
    }
    if (target.flags & RECORDED) {
        for (int s = threadIdx.x; s < m; s += THREADS)
            run.records[recorded + s] = {instant.t, list[s].n, p, (int)list[s].i};
        recorded += m;
    }
    return m;
}

// Runs to the end, or until there is no room for records: one event at a time, breadth first. `row` counts the single
// events of the recording.
__device__ __forceinline__ void run_queued(const Run& run, int& row, int& now, int& recorded) {
    int first = run.cursor->first, length = run.cursor->length;
    while (recorded + run.most_new <= run.capacity) {
        if (length == 0 && (row == run.rows || !(run.t_in[run.order[row]] <= run.until))) {
            row = run.rows;
            break;
        }
        if (length + run.most_caused > run.room) {  // the engine runs this recording elsewhere
            run.cursor->failed = QUEUE_FULL;
            row = run.rows;
            break;
        }
        const int event = length ? row - 1 : row, input = run.order[event];
        const Instant instant = begin_event(run, run.t_in[input], ++now);
        int p = 0;
        i64 neuron = run.i_in[input];
        if (length) {
            const i64 key = run.queue[first];
            p = (int)(key >> 32);
            neuron = (int)key;
            first = (int)((first + 1) % run.room);
            --length;
        } else {
            ++row;
            if (threadIdx.x == 0) count(run.state, (int)neuron, 1);
        }
        if (threadIdx.x == 0) *run.one = {neuron, 1};
        __syncthreads();
        bool opens = true, begun = false;
        const int past = run.net.population[p + 1].connections;
        for (int c = run.net.population[p].connections; c < past; ++c) {
            const Connection& through = run.net.connection[c];
            const int all = through.most_entries * through.most_rows;
            const bool once = opens && through.closes && all <= run.tile;
            if (opens && threadIdx.x == 0) *run.touched = 0;
            add_connection(run, through, run.one, all, once, begun, instant);
            opens = through.closes;
            if (!opens) continue;
            const Spikes* list;
            const int m = fired_by(run, through.target, once, list, recorded, instant);
            for (int s = threadIdx.x; s < m; s += THREADS)
                run.queue[(first + length + s) % run.room] = (i64)through.target << 32 | list[s].i;
            length += m;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        run.cursor->first = first;
        run.cursor->length = length;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) run_recordings(
    // the network
    const Population* population, const Connection* connection, const int* entry_begin, const Entry* entry,
    const double* factor, const Row* stencil, const WEIGHT* weight, const double* threshold,
    const double* lower, const double* upper, const double* v_reset, const double* rest, const double* tau,
    const double* gain, const i64* powers, const i64* fan_out, i64 populations, i64 output, i64 tile,
    // the recordings, one after another: recording b has the input rows begin[b] to begin[b + 1], and in a queue the
    // events event_begin[b] to event_begin[b + 1]
    const i64* begin, const double* end, const double* t_in, const int* i_in, const i64* event_begin,
    const int* order,
    // their states, outputs and records; numbers of neurons and update groups; bounds of `Run`
    i64 neurons, i64 groups, i64 most_new, i64 capacity, i64 most_caused, i64 room, double* y, double* last, int* stamp,
    int* mark, int* touched, Spikes* spikes, i64* counts, double* readout, i64* synops, i64* queue, Record* records,
    Cursor* cursors) {
    const i64 b = blockIdx.x, pitch = neurons + (neurons & 1);  // potentials begin at multiples of 16 bytes
    const int tid = threadIdx.x;
    extern __shared__ Spikes shared[];
    Spikes* const one = shared + 2 * tile;
    int* const starts = (int*)(one + 1);
    double* const amounts = (double*)(starts + tile);
    int *const integers = (int*)(amounts + tile), *const firsts = integers + 3 * tile;
    Cursor* const cursor = cursors + b;
    const Run run = {
        {population, connection, entry_begin, entry, factor, stencil, weight, threshold, lower, upper, v_reset, rest,
         tau, gain, powers},
        {y + b * pitch, last ? last + b * pitch : last, stamp + b * groups, mark ? mark + b * neurons : mark,
         touched + b * groups, spikes + b * neurons, counts + b * neurons},
        shared, shared + tile, one,
        {amounts, integers, starts, integers + tile, integers + 2 * tile, firsts},
        firsts + 1, firsts + 2, (int)tile, (int)populations,
        (int)(event_begin[b + 1] - event_begin[b]), end[b],
        t_in + begin[b], i_in + begin[b], order + event_begin[b],
        queue + b * room, room, most_caused, most_new, capacity, records + b * capacity, cursor};
    for (int p = tid; p < 2 * populations; p += THREADS) run.fired[p] = 0;
    int row = cursor->row, now = cursor->now, recorded = 0;
    run_queued(run, row, now, recorded);

    if (row == run.rows) {
        __syncthreads();
        finish_recording(population, rest, tau, powers, fan_out, run.until, neurons, output, run.state.y,
                         run.state.last, run.state.counts, b, readout, synops, &cursor->failed,
                         (i64*)shared);  // a tile has more spikes than a block threads
    }
    __syncthreads();
    if (tid == 0) {
        cursor->row = row;
        cursor->now = now;
        cursor->records = recorded;
    }
}
