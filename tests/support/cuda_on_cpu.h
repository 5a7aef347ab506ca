// What a kernel of one-warp programs needs of CUDA, on a CPU: a warp is 32 contexts that take turns at each exchange.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#define __device__
#define __global__
#define __shared__
#define __launch_bounds__(threads)

using std::max;
using std::min;

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct {
    int x;
} threadIdx, blockIdx;
float4 shared[1 << 20];

namespace warp {
constexpr int LANES = 32;
ucontext_t main_context, contexts[LANES];
std::vector<char> stacks[LANES];
bool ended[LANES];
double slots[2][LANES];
int current, turns[LANES];
std::function<void()> work;

inline void go_to(int lane, int from) {
    current = lane;
    threadIdx.x = threadIdx.x / LANES * LANES + lane;
    swapcontext(&contexts[from], &contexts[lane]);
}

// Wait until all lanes have come as far.
inline void meet() {
    const int me = current;
    go_to((me + 1) % LANES, me);
}

inline void begin() {
    work();
    ended[current] = true;
    const int next = current + 1;
    if (next == LANES) setcontext(&main_context);
    current = next;
    threadIdx.x = threadIdx.x / LANES * LANES + next;
    setcontext(&contexts[next]);
}

// Lanes that have left early leave together, as whole warps do in these kernels.
inline void run(std::function<void()> kernel, int first_thread) {
    work = kernel;
    for (int lane = 0; lane < LANES; lane++) {
        stacks[lane].resize(1 << 18);
        getcontext(&contexts[lane]);
        contexts[lane].uc_stack.ss_sp = stacks[lane].data();
        contexts[lane].uc_stack.ss_size = stacks[lane].size();
        contexts[lane].uc_link = nullptr;
        ended[lane] = false, turns[lane] = 0;
        makecontext(&contexts[lane], begin, 0);
    }
    current = 0, threadIdx.x = first_thread;
    swapcontext(&main_context, &contexts[0]);
}

template <typename T>
T exchange(T value, int source) {
    // Two sets of slots: a lane writes the next value before others have read this one, but not the one after it.
    double *now = slots[turns[current]++ & 1];
    now[current] = double(value);
    meet();
    return T(now[source]);
}
}  // namespace warp

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return warp::exchange(value, warp::current ^ mask);
}
template <typename T>
T __shfl_sync(unsigned, T value, int source) {
    return warp::exchange(value, source);
}
inline int __ffs(unsigned bits) { return __builtin_ffs(bits); }
inline int __ffsll(unsigned long long bits) { return __builtin_ffsll(bits); }
inline unsigned long __cvta_generic_to_shared(const void *at) { return (unsigned long)at; }
inline void __syncwarp() { warp::meet(); }
inline float __ldcg(const float *from) { return *from; }
inline float4 __ldcg(const float4 *from) { return *from; }
inline float atomicAdd(float *to, float by) { return *to += by; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
