/* The gradient of the weights of a depthwise convolution (depthwise.py), in one pass over the maps; of 5 x 5 kernels
   oneDNN takes six times as long. Without a compiler the package does with oneDNN. */

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 8 /* channels at once; these compute in steps of so many */

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Maps lie as (batch, height, width, channels); beyond their border they are zero. */
struct convolution {
    int batch, channels, height, width, out_height, out_width;
    int side, stride; /* of the kernel: 3 lines and 2, or 5 lines and 1 or 2 */
    int top, left; /* lines of zeros above the maps, and left of them */
};

/* Adds to the sums (side) of a row of the kernel what pixels `from` to `to` of a row of gradients give, whose neighbors
   are all within the maps, if `inside`. */
INLINE void add_up(const struct convolution *conv, const float *gradients, const float *maps, vector *sums, int from,
                   int to, int side, int stride, int inside)
{
    const int64_t channels = conv->channels;
    for (int x = from; x < to; x++) {
        const vector gradient = *(const vector *)(gradients + x * channels);
        const int first = x * stride - conv->left;
#pragma GCC unroll 8
        for (int column = 0; column < side; column++)
            if (inside || (first + column >= 0 && first + column < conv->width))
                sums[column] += gradient * *(const vector *)(maps + (first + column) * channels);
    }
}

/* Of kernels of `side` lines: (side, side, channels), to which is added; for channels `first` to `end`. */
INLINE void of_weights(const struct convolution *conv, const float *gradients, const float *maps, float *weights,
                       int first, int end, const int side, const int stride)
{
    const int64_t channels = conv->channels;
    const int width = conv->out_width, room = conv->width - side + conv->left, border = (conv->left + stride - 1) / stride;
    const int fitting = room < 0 ? 0 : room / stride + 1, last = fitting < width ? fitting : width;
    const int begin = border < last ? border : last;
    for (int64_t row = 0; row < (int64_t)conv->batch * conv->out_height; row++) {
        const int64_t image = row / conv->out_height;
        for (int channel = first; channel < end; channel += LANES)
            for (int line = 0; line < side; line++) {
                const int y = (int)(row % conv->out_height) * stride + line - conv->top;
                if (y < 0 || y >= conv->height)
                    continue;
                const float *gradient_row = gradients + row * width * channels + channel;
                const float *map_row = maps + (image * conv->height + y) * conv->width * channels + channel;
                float *weight_row = weights + line * side * channels + channel;
                vector sums[side];
                for (int column = 0; column < side; column++)
                    sums[column] = *(const vector *)(weight_row + column * channels);
                add_up(conv, gradient_row, map_row, sums, 0, begin, side, stride, 0);
                add_up(conv, gradient_row, map_row, sums, begin, last, side, stride, 1);
                add_up(conv, gradient_row, map_row, sums, last, width, side, stride, 0);
                for (int column = 0; column < side; column++)
                    *(vector *)(weight_row + column * channels) = sums[column];
            }
    }
}

/* As above, of the kernels that there are. */
INLINE void of_kernel(const struct convolution *conv, const float *gradients, const float *maps, float *weights,
                      int first, int end)
{
    if (conv->side == 3)
        of_weights(conv, gradients, maps, weights, first, end, 3, 2);
    else if (conv->stride == 1)
        of_weights(conv, gradients, maps, weights, first, end, 5, 1);
    else
        of_weights(conv, gradients, maps, weights, first, end, 5, 2);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma,tune=haswell"))) static void
of_kernel_avx2(const struct convolution *conv, const float *gradients, const float *maps, float *weights, int first,
               int end)
{
    of_kernel(conv, gradients, maps, weights, first, end);
}
#endif

/* What threads share; each takes the next channels that no other has taken. */
struct work {
    const struct convolution *conv;
    const float *gradients, *maps;
    float *weights;
    int share, next; /* channels at a time; the first that are left */
};

static void do_work(void *data)
{
    struct work *work = data;
    const int channels = work->conv->channels;
    int first;
    while ((first = __atomic_fetch_add(&work->next, work->share, __ATOMIC_RELAXED)) < channels) {
        const int end = first + work->share < channels ? first + work->share : channels;
#ifdef __x86_64__
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            of_kernel_avx2(work->conv, work->gradients, work->maps, work->weights, first, end);
        else
#endif
            of_kernel(work->conv, work->gradients, work->maps, work->weights, first, end);
    }
}

/* Of PyTorch's OpenMP: threads of its own would wait for these, which stay busy for a while after they have worked. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));

/* Adds to `weights` (side, side, channels) the sums over all pixels of gradients (batch, out_height, out_width, channels)
   times maps (batch, height, width, channels). There must be whole steps of LANES channels. */
void usod_depthwise_weights(const struct convolution *conv, const float *gradients, const float *maps, float *weights,
                            int threads)
{
    const int steps = conv->channels / LANES;
    struct work work = {conv, gradients, maps, weights, (steps + threads - 1) / threads * LANES, 0};
    if (threads > 1 && GOMP_parallel)
        GOMP_parallel(do_work, &work, (unsigned)threads, 0);
    else
        do_work(&work);
}
