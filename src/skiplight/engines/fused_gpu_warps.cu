// Negative sampling on a GPU, one warp for each window: scores and updates both tables in place, in float32.
//
// A warp takes consecutive kept tokens as centres and works through their windows one after the other. Each of its 32
// lanes owns N of the DIM numbers of every row, so a row is read, changed and added to without any exchange; only the
// scores are sums over lanes. The K + 1 output rows of a window and their changes are in registers. The rows of all
// words within reach are in shared memory from their entry to their exit, in a ring of 2·WINDOW + 1 slots, each beside
// the row as it was read: what is added to the table in the end is the difference. So a window reads K + 2 rows of the
// tables and adds to K + 2.
//
// The words to the left and right at the same distance are scored together: 2·(K + 1) sums over lanes take one
// butterfly, in which half of the sums leave a lane with each exchange, so that every lane ends with one score, and the
// logistic function is computed once for all of them.
//
// Other warps do not see a change before it is in the table, and 2·WINDOW + 1 windows are long: of frequent words, so
// many changes would be on their way that steps had to be shortened (`in_flight.py`). The row of a word for which rate
// times their number would exceed AGAIN is read again for each window, and changed in the table in each. What is on its
// way is then one window's.
//
// Arguments are those of `train_resident` in `fused_gpu_triton.py`, but `inputs_in_flight` is that of one window.
// Constants: DIM, WINDOW, K, SHORTEST, MOST as there; AGAIN: at most MOST; VEC: numbers that a lane reads at a time, a
// divisor of DIM: 4, 2 or 1; WARPS: warps in a block; RING_BYTES: shared memory of a warp.

constexpr int OUTPUTS = K + 1, SLOTS = 2 * WINDOW + 1;
constexpr int PARTS = (DIM + 32 * VEC - 1) / (32 * VEC), N = PARTS * VEC, ROW = 32 * N;
constexpr int TILE = OUTPUTS <= 2 ? 2 : OUTPUTS <= 4 ? 4 : OUTPUTS <= 8 ? 8 : 16;  // sums of one context, padded
constexpr int COPIES = 16 / TILE;                                                  // lanes that hold the same score
static_assert(OUTPUTS <= 16, "a lane holds one score of two contexts");
static_assert(K + 5 <= 32, "a lane reads one integer of a window");

// The words within reach of a warp's window.
struct alignas(16) Ring {
    float row[SLOTS][ROW], before[SLOTS][ROW];  // now, and as they were read
    float step[2][2][TILE];                     // -rate · gradient by each score: in turns, left and right, output rows
    int word[SLOTS];
    float shorter[SLOTS];  // `step_scale` of each row
};

static_assert(sizeof(Ring) == RING_BYTES, "the host has reserved so much shared memory for a warp");

#if WINDOW < 16
using Slots = unsigned;  // a bit for each slot
__device__ inline int lowest(Slots slots) { return __ffs(slots) - 1; }
#else
using Slots = unsigned long long;
__device__ inline int lowest(Slots slots) { return __ffsll(slots) - 1; }
#endif

#if defined(__CUDA_ARCH__)
constexpr bool WIDE_ADDITIONS = __CUDA_ARCH__ >= 900, COPIES_ALONE = __CUDA_ARCH__ >= 800;
#else
constexpr bool WIDE_ADDITIONS = false, COPIES_ALONE = false;
#endif

// The numbers of a row that a lane owns.
struct Row {
    float x[N];
};

// Columns lane·VEC + part·32·VEC and the VEC - 1 after it belong to a lane.
__device__ inline bool own(int lane, int part) { return DIM % (32 * VEC) == 0 || (part * 32 + lane) * VEC < DIM; }

__device__ inline Row read(const float *table, int word, int lane) {
    Row made;
    const float *begin = table + (long long)word * DIM + lane * VEC;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        float *to = made.x + part * VEC;
        const float *from = begin + part * 32 * VEC;
#pragma unroll
        for (int i = 0; i < VEC; i++) to[i] = 0;
        if (!own(lane, part)) continue;
        if constexpr (VEC == 4) {
            float4 four = __ldcg(reinterpret_cast<const float4 *>(from));
            to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
        } else {
#pragma unroll
            for (int i = 0; i < VEC; i++) to[i] = __ldcg(from + i);
        }
    }
    return made;
}

__device__ inline void add(float *table, int word, int lane, const Row &change) {
    float *begin = table + (long long)word * DIM + lane * VEC;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        const float *by = change.x + part * VEC;
        float *to = begin + part * 32 * VEC;
        if (!own(lane, part)) continue;
        if constexpr (WIDE_ADDITIONS && VEC == 4) {
            asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(by[0]), "f"(by[1]),
                         "f"(by[2]), "f"(by[3])
                         : "memory");
        } else {
#pragma unroll
            for (int i = 0; i < VEC; i++) atomicAdd(to + i, by[i]);
        }
    }
}

// Begin to copy a row to shared memory; `copied` waits until all copies have ended. A lane copies what it will read.
__device__ inline void copy(float *row, const float *table, int word, int lane) {
    const float *begin = table + (long long)word * DIM + lane * VEC;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        if (!own(lane, part)) continue;
        const float *from = begin + part * 32 * VEC;
        float *to = row + (part * 32 + lane) * VEC;
        if constexpr (COPIES_ALONE && VEC == 4) {
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
                         "l"(from)
                         : "memory");
        } else {
#pragma unroll
            for (int i = 0; i < VEC; i++) to[i] = __ldcg(from + i);
        }
    }
}

__device__ inline void copied() {
    if constexpr (COPIES_ALONE && VEC == 4) asm volatile("cp.async.wait_all;" ::: "memory");
}

__device__ inline Row load(const float *row, int lane) {
    Row made;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        const float *from = row + (part * 32 + lane) * VEC;
        if constexpr (VEC == 4) {
            float4 four = *reinterpret_cast<const float4 *>(from);
            made.x[part * 4] = four.x, made.x[part * 4 + 1] = four.y;
            made.x[part * 4 + 2] = four.z, made.x[part * 4 + 3] = four.w;
        } else {
#pragma unroll
            for (int i = 0; i < VEC; i++) made.x[part * VEC + i] = from[i];
        }
    }
    return made;
}

__device__ inline void store(float *row, int lane, const Row &from) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        float *to = row + (part * 32 + lane) * VEC;
        const float *x = from.x + part * VEC;
        if constexpr (VEC == 4) {
            *reinterpret_cast<float4 *>(to) = make_float4(x[0], x[1], x[2], x[3]);
        } else {
#pragma unroll
            for (int i = 0; i < VEC; i++) to[i] = x[i];
        }
    }
}

__device__ inline float step_scale(float rate, float others, float in_flight) {
    return __fdividef(MOST, fmaxf(rate * others * in_flight, MOST));
}

// Sum SIZE numbers over all lanes; a lane keeps the sum whose number its upper bits spell.
template <int SIZE, int MASK = 16>
__device__ inline float butterfly(const float (&sums)[SIZE], int lane) {
    if constexpr (MASK == 0) {
        return sums[0];
    } else if constexpr (SIZE == 1) {
        const float both[1] = {sums[0] + __shfl_xor_sync(0xffffffffu, sums[0], MASK)};
        return butterfly<1, MASK / 2>(both, lane);
    } else {
        float half[SIZE / 2];
        const bool upper = lane & MASK;
#pragma unroll
        for (int i = 0; i < SIZE / 2; i++) {
            const float keep = upper ? sums[i + SIZE / 2] : sums[i], give = upper ? sums[i] : sums[i + SIZE / 2];
            half[i] = keep + __shfl_xor_sync(0xffffffffu, give, MASK);
        }
        return butterfly<SIZE / 2, MASK / 2>(half, lane);
    }
}

// Take a word into a slot; return whether its row is to be read again for each window.
__device__ inline bool enter(Ring &ring, int slot, int word, const float *inputs, float in_flight, float rate,
                             float others, int lane) {
    const bool again = rate * others * in_flight * SLOTS > AGAIN;
    if (!again) {
        const Row row = read(inputs, word, lane);
        store(ring.row[slot], lane, row);
        store(ring.before[slot], lane, row);
    }
    if (lane == 0) ring.word[slot] = word, ring.shorter[slot] = step_scale(rate, others, in_flight);
    return again;
}

__device__ inline void leave(Ring &ring, int slot, float *inputs, int lane) {
    Row change = load(ring.row[slot], lane);
    const Row before = load(ring.before[slot], lane);
#pragma unroll
    for (int n = 0; n < N; n++) change.x[n] -= before.x[n];
    add(inputs, ring.word[slot], lane, change);
}

__device__ inline void move(Ring &ring, int slot, Slots again, float *inputs, Row row, Row change, int lane) {
    const float shorter = ring.shorter[slot];
#pragma unroll
    for (int n = 0; n < N; n++) change.x[n] *= shorter;
    if (again >> slot & 1) {
        add(inputs, ring.word[slot], lane, change);
    } else {
#pragma unroll
        for (int n = 0; n < N; n++) row.x[n] += change.x[n];
        store(ring.row[slot], lane, row);
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) train_warps(
    const int *count, const int *word, const int *left, const int *right, const int *at, const int *negatives,
    float *inputs, float *outputs, const float *inputs_in_flight, const float *outputs_in_flight, double *losses,
    long long *pairs, int first, int rows, float rate_begin, float rate_step, int programs) {
    extern __shared__ float4 shared[];
    const int lane = threadIdx.x & 31, program = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (program >= programs) return;
    Ring &ring = reinterpret_cast<Ring *>(shared)[threadIdx.x >> 5];

    const int stop = min(first + rows, *count), last = *count - 1;
    const int share = max((stop - first + programs - 1) / programs, SHORTEST);
    const int begin = first + program * share, end = min(begin + share, stop);
    if (begin >= end) return;
    const float others = (float)((stop - first + share - 1) / share - 1);

    const Row zero{};
    for (int slot = 0; slot < SLOTS; slot++) store(ring.row[slot], lane, zero);  // also what is beyond DIM

    // All rows of the first window except its last one, which comes within reach with the window.
    Slots again = 0;  // the slots whose rows are read for each window
    for (int position = max(begin - WINDOW, 0); position < begin + WINDOW && position <= last; position++) {
        const int came = word[position], slot = position % SLOTS;
        const float rate = rate_begin + at[begin] * rate_step;
        if (enter(ring, slot, came, inputs, inputs_in_flight[came], rate, others, lane)) again |= Slots(1) << slot;
    }

    // Lanes 0 to K - 1 read the negatives of a window; the next five the word, its reach, its place, and the next word.
    const int *mine = lane < K ? negatives + lane
                      : lane == K     ? word + first
                      : lane == K + 1 ? left + first
                      : lane == K + 2 ? right + first
                      : lane == K + 3 ? at + first
                                      : word + first + WINDOW;
    const int stride = lane < K ? K : 1, latest = lane == K + 4 ? last - WINDOW : end - 1;
    const bool reads = lane < K + 5;
    auto facts_of = [&](int c) { return reads && c <= latest ? mine[(long long)(c - first) * stride] : 0; };
    int facts = facts_of(begin), centre_slot = begin % SLOTS;
    double total = 0;
    long long made = 0;
    int parity = 0;

    for (int c = begin; c < end; c++) {
        const int now = facts;
        facts = facts_of(c + 1);
        const int centre = __shfl_sync(0xffffffffu, now, K), before = __shfl_sync(0xffffffffu, now, K + 1);
        const int after = __shfl_sync(0xffffffffu, now, K + 2), token = __shfl_sync(0xffffffffu, now, K + 3);
        const int came = __shfl_sync(0xffffffffu, now, K + 4);
        const float rate = rate_begin + token * rate_step;
        const bool any = before + after > 0;

        Row u[OUTPUTS], change[OUTPUTS];
        int drawn[OUTPUTS];
#pragma unroll
        for (int j = 0; j < OUTPUTS; j++) {
            drawn[j] = j ? __shfl_sync(0xffffffffu, now, j - 1) : centre;
            if (!any) drawn[j] = -1;
            if (drawn[j] >= 0) u[j] = read(outputs, drawn[j], lane);
            else
#pragma unroll
                for (int n = 0; n < N; n++) u[j].x[n] = 0;
#pragma unroll
            for (int n = 0; n < N; n++) change[j].x[n] = 0;
        }

        // One row leaves reach, and one comes within it, in the same slot.
        int slot = centre_slot + WINDOW;
        if (slot >= SLOTS) slot -= SLOTS;
        const Slots bit = Slots(1) << slot;
        if (c - WINDOW - 1 >= max(begin - WINDOW, 0) && !(again & bit)) leave(ring, slot, inputs, lane);
        __syncwarp();
        again &= ~bit;
        if (c + WINDOW <= last && enter(ring, slot, came, inputs, inputs_in_flight[came], rate, others, lane))
            again |= bit;
        __syncwarp();

        // The slots of this window, a run of them that may go round the end, except for the centre's.
        int from = centre_slot - before;
        if (from < 0) from += SLOTS;
        const Slots run = (Slots(2) << (before + after)) - 1;
        Slots to_copy = again & (run << from | run >> (SLOTS - from)) & ~(Slots(1) << centre_slot);
        for (; to_copy; to_copy &= to_copy - 1)
            copy(ring.row[lowest(to_copy)], inputs, ring.word[lowest(to_copy)], lane);
        copied();

        // The score of this lane: of the word on the left or on the right, and of output row `number`.
        const int side = lane >> 4, number = (lane & 15) / COPIES;
        const int negative = __shfl_sync(0xffffffffu, now, max(number - 1, 0)), chosen = number ? negative : centre;
        const bool scored = any && number < OUTPUTS && chosen >= 0;
        const float sign = number == 0 ? -1.f : 1.f;
        const float shorter = step_scale(rate, others, scored ? outputs_in_flight[chosen] : 0.f);
        made += before + after;
        float loss = 0;

        for (int distance = 1; distance <= max(before, after); distance++) {
            const bool uses_left = distance <= before, uses_right = distance <= after;
            int left_slot = centre_slot - distance, right_slot = centre_slot + distance;
            if (left_slot < 0) left_slot += SLOTS;
            if (right_slot >= SLOTS) right_slot -= SLOTS;
            if (!uses_left) left_slot = right_slot;  // it is read, scored and left as it is
            if (!uses_right) right_slot = left_slot;
            const Row v = load(ring.row[left_slot], lane), w = load(ring.row[right_slot], lane);
            float sums[2 * TILE];
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                float s = 0, t = 0;
                if (j < OUTPUTS) {
                    const Row &output = u[j < OUTPUTS ? j : 0];
#pragma unroll
                    for (int n = 0; n < N; n++) s += v.x[n] * output.x[n], t += w.x[n] * output.x[n];
                }
                sums[j] = s, sums[TILE + j] = t;
            }
            const float z = sign * butterfly(sums, lane);
            const bool counts = scored && (side ? uses_right : uses_left);
            const float e = __expf(-fabsf(z));
            const float gradient = __fdividef(sign * (z < 0 ? e : 1.f), 1.f + e);
            loss += counts && lane % COPIES == 0 ? fmaxf(z, 0.f) + __logf(1.f + e) : 0.f;
            ring.step[parity][side][number] = counts ? -rate * gradient : 0.f;
            __syncwarp();
            const float *to_left = ring.step[parity][0], *to_right = ring.step[parity][1];
            Row moved_v{}, moved_w{};
#pragma unroll
            for (int j = 0; j < OUTPUTS; j++) {
                const float a = to_left[j], b = to_right[j];
#pragma unroll
                for (int n = 0; n < N; n++) {
                    moved_v.x[n] += a * u[j].x[n];
                    moved_w.x[n] += b * u[j].x[n];
                    change[j].x[n] += a * v.x[n];
                    change[j].x[n] += b * w.x[n];
                }
            }
            if (uses_left) move(ring, left_slot, again, inputs, v, moved_v, lane);
            if (uses_right) move(ring, right_slot, again, inputs, w, moved_w, lane);
            parity ^= 1;
        }
        total += loss;

#pragma unroll
        for (int j = 0; j < OUTPUTS; j++) {
            const float scale = __shfl_sync(0xffffffffu, shorter, j * COPIES);
#pragma unroll
            for (int n = 0; n < N; n++) change[j].x[n] *= scale;
            if (drawn[j] >= 0) add(outputs, drawn[j], lane, change[j]);
        }
        if (++centre_slot == SLOTS) centre_slot = 0;
    }

    const int oldest = max(max(begin - WINDOW, 0), end - 1 - WINDOW);
    for (int position = oldest; position < end + WINDOW && position <= last; position++)
        if (!(again >> position % SLOTS & 1)) leave(ring, position % SLOTS, inputs, lane);
#pragma unroll
    for (int mask = 16; mask; mask >>= 1) total += __shfl_xor_sync(0xffffffffu, total, mask);
    if (lane == 0) {
        losses[program] += total;
        pairs[program] += made;
    }
}
