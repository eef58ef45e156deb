/* What `PixelRefiner` (pixel_refiner.py) computes, for one image on a CPU: its weights in one pass over the image, and a
   pass for each iteration, where PyTorch takes some 500 over memory. Without a compiler the package does with PyTorch. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wpsabi" /* about vectors that functions return: all are part of their callers */

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 64 /* pixels of a row at once: what is known of their neighbors stays in the first cache */
#define LANES 8
#define STEPS (BLOCK / LANES)

/* Said to the compiler: by itself it makes vectors of neighbors, which lie apart, instead of pixels. */
typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* What all images share. */
struct refiner {
    int count; /* of a pixel's neighbors */
    const int *offsets; /* of them, in rows and columns: (count, 2) */
    const float *position_weights;
    int pad, iterations; /* at least 1 */
    float bandwidth, epsilon, negligible;
};

/* Planes (height, width) with their border repeated around them, in rows of whole blocks: (channels, rows, columns). */
struct padded {
    int channels, height, width, pad, blocks;
    int64_t columns, plane;
    const int64_t *places; /* of the neighbors, relative to their pixel */
};

/* The larger ones; b where one is no number. */
INLINE vector larger(vector a, vector b)
{
    const bits is_larger = a > b;
    return (vector)((is_larger & (bits)a) | (~is_larger & (bits)b));
}

INLINE vector root(vector x)
{
    for (int lane = 0; lane < LANES; lane++)
        x[lane] = sqrtf(x[lane]);
    return x;
}

/* e^x, of x in [-87, 0], to the last digits of a float: 2^n times a polynomial on [-ln(2) / 2, ln(2) / 2]. */
INLINE vector exponential(vector x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: in floats of this size the last bits are the whole number */
    const vector shifted = x * 1.44269504f + magic, n = shifted - magic;
    const vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vector value = r * 1.98756915e-4f + 1.39819995e-3f;
    value = value * r + 8.33345184e-3f;
    value = value * r + 4.16657962e-2f;
    value = value * r + 1.66666657e-1f;
    value = value * r + 0.5f;
    value = value * r * r + r + 1.0f;
    return (vector)((bits)value + ((bits)shifted << 23));
}

/* The weights (count, BLOCK) of a block's pixels, from its place in the padded image. */
INLINE void weigh(const struct refiner *refiner, const struct padded *shape, const float *image, float *to)
{
    const int count = refiner->count;
    const int64_t *places = shape->places;
    vector *weights = (vector *)to;
    memset(weights, 0, sizeof(float) * count * BLOCK);
    for (int channel = 0; channel < shape->channels; channel++, image += shape->plane) {
        vector mean[STEPS] = {0}, scale[STEPS] = {0}, shift[STEPS];
        for (int k = 0; k < count; k++) {
            const vector *neighbor = (const vector *)(image + places[k]);
            for (int x = 0; x < STEPS; x++)
                mean[x] += neighbor[x];
        }
        for (int x = 0; x < STEPS; x++)
            mean[x] /= (float)count;
        for (int k = 0; k < count; k++) {
            const vector *neighbor = (const vector *)(image + places[k]);
            for (int x = 0; x < STEPS; x++)
                scale[x] += (neighbor[x] - mean[x]) * (neighbor[x] - mean[x]);
        }
        for (int x = 0; x < STEPS; x++) {
            const vector width = (root(scale[x] / (float)(count - 1)) + refiner->epsilon) * refiner->bandwidth;
            scale[x] = -1.0f / (width * width * (float)shape->channels);
            shift[x] = 2.0f * (mean[x] - ((const vector *)image)[x]) * scale[x];
        }
        for (int k = 0; k < count; k++) {
            const vector *neighbor = (const vector *)(image + places[k]);
            for (int x = 0; x < STEPS; x++) {
                const vector difference = neighbor[x] - mean[x];
                weights[k * STEPS + x] += (difference * scale[x] + shift[x]) * difference;
            }
        }
    }
    for (int x = 0; x < STEPS; x++) {
        vector largest = weights[x], sum = {0};
        for (int k = 1; k < count; k++)
            largest = larger(largest, weights[k * STEPS + x]);
        for (int k = 0; k < count; k++) {
            vector *weight = weights + k * STEPS + x;
            *weight = exponential(larger((vector){0} - refiner->negligible, *weight - largest));
            sum += *weight;
        }
        const vector share = 1.0f / sum;
        for (int k = 0; k < count; k++)
            weights[k * STEPS + x] = weights[k * STEPS + x] * share + refiner->position_weights[k];
    }
}

/* The weighted sums (BLOCK) of the neighbors of a block's pixels, from its place in the padded map. */
INLINE void add_up(const float *map, const int64_t *places, int count, const float *restrict weights, float *sums)
{
    vector sum[STEPS] = {0};
    for (int k = 0; k < count; k++) {
        const vector *weight = (const vector *)(weights + k * BLOCK), *neighbor = (const vector *)(map + places[k]);
        for (int x = 0; x < STEPS; x++)
            sum[x] += weight[x] * neighbor[x];
    }
    memcpy(sums, sum, sizeof sum);
}

/* Pads a plane, whose rows are `stride` apart. */
INLINE void repeat_border(const struct padded *shape, const float *plane, int stride, float *padded)
{
    for (int y = -shape->pad; y < shape->height + shape->pad; y++, padded += shape->columns) {
        const float *row = plane + (int64_t)stride * (y < 0 ? 0 : y < shape->height ? y : shape->height - 1);
        for (int x = 0; x < shape->pad; x++)
            padded[x] = row[0];
        memcpy(padded + shape->pad, row, sizeof(float) * shape->width);
        for (int x = shape->pad + shape->width; x < shape->columns; x++)
            padded[x] = row[shape->width - 1];
    }
}

/* Where a block begins in a padded plane. */
INLINE int64_t start(const struct padded *shape, int64_t block)
{
    return (block / shape->blocks + shape->pad) * shape->columns + shape->pad + block % shape->blocks * BLOCK;
}

INLINE void refine(const struct refiner *refiner, const struct padded *shape, const float *image, const float *saliency,
                   float *refined, float *padded, float *weights, float *sums)
{
    const int count = refiner->count, height = shape->height, width = shape->width, stride = shape->blocks * BLOCK;
    const int64_t blocks = (int64_t)height * shape->blocks;
    for (int channel = 0; channel < shape->channels; channel++)
        repeat_border(shape, image + (int64_t)channel * height * width, width, padded + channel * shape->plane);
    for (int64_t block = 0; block < blocks; block++)
        weigh(refiner, shape, padded + start(shape, block), weights + block * count * BLOCK);
    for (int iteration = 0; iteration < refiner->iterations; iteration++) {
        repeat_border(shape, iteration ? sums : saliency, iteration ? stride : width, padded);
        for (int64_t block = 0; block < blocks; block++)
            add_up(padded + start(shape, block), shape->places, count, weights + block * count * BLOCK,
                   sums + block * BLOCK);
    }
    for (int y = 0; y < height; y++)
        memcpy(refined + (int64_t)y * width, sums + (int64_t)y * stride, sizeof(float) * width);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma,tune=haswell"))) static void
refine_avx2(const struct refiner *refiner, const struct padded *shape, const float *image, const float *saliency,
            float *refined, float *padded, float *weights, float *sums)
{
    refine(refiner, shape, image, saliency, refined, padded, weights, sums);
}
#endif

/* Refines a map (height, width) by its image (channels, height, width). Returns 1 if memory does not suffice, else 0. */
int usod_refine(const struct refiner *refiner, const float *image, const float *saliency, float *refined, int channels,
                int height, int width)
{
    const int count = refiner->count, pad = refiner->pad, blocks = (width + BLOCK - 1) / BLOCK;
    const int64_t columns = blocks * BLOCK + 2 * pad, plane = columns * (height + 2 * pad);
    int64_t *places = malloc(sizeof(int64_t) * count);
    float *padded = malloc(sizeof(float) * channels * plane);
    float *weights = malloc(sizeof(float) * height * blocks * BLOCK * count);
    float *sums = malloc(sizeof(float) * height * blocks * BLOCK);
    const int lacking = !places || !padded || !weights || !sums;
    if (!lacking) {
        for (int k = 0; k < count; k++)
            places[k] = refiner->offsets[2 * k] * columns + refiner->offsets[2 * k + 1];
        const struct padded shape = {channels, height, width, pad, blocks, columns, plane, places};
#ifdef __x86_64__
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            refine_avx2(refiner, &shape, image, saliency, refined, padded, weights, sums);
        else
#endif
            refine(refiner, &shape, image, saliency, refined, padded, weights, sums);
    }
    free(places);
    free(padded);
    free(weights);
    free(sums);
    return lacking;
}
