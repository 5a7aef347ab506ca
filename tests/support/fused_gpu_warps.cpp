// Run `train_warps` on a CPU, program after program; built by `cuda_on_cpu.py`.
#include "cuda_on_cpu.h"
#include KERNEL

extern "C" void launch(const int *count, const int *word, const int *left, const int *right, const int *at,
                       const int *negatives, float *inputs, float *outputs, const float *inputs_in_flight,
                       const float *outputs_in_flight, double *losses, long long *pairs, int first, int rows,
                       float rate_begin, float rate_step, int programs) {
    auto kernel = [&] {
        train_warps(count, word, left, right, at, negatives, inputs, outputs, inputs_in_flight, outputs_in_flight,
                    losses, pairs, first, rows, rate_begin, rate_step, programs);
    };
    for (blockIdx.x = 0; blockIdx.x * WARPS < programs; blockIdx.x++)
        for (int thread = 0; thread < 32 * WARPS; thread += 32) warp::run(kernel, thread);
}
