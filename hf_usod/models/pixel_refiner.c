/* What `PixelRefiner` (pixel_refiner.py) computes, for one image on a CPU: its weights in one pass over the image, and a
   pass for each iteration, where PyTorch takes some 500 over memory. Without a compiler the package does with PyTorch. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 64 /* pixels of a row at once: what is known of their neighbors stays in the first cache */

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

/* e^x, of x in [-87, 0], to the last digits of a float: 2^n times a polynomial on [-ln(2) / 2, ln(2) / 2]. */
INLINE float exponential(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: in floats of this size the last bits are the whole number */
    float shifted = x * 1.44269504f + magic, n = shifted - magic;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float value = 1.98756915e-4f;
    value = value * r + 1.39819995e-3f;
    value = value * r + 8.33345184e-3f;
    value = value * r + 4.16657962e-2f;
    value = value * r + 1.66666657e-1f;
    value = value * r + 0.5f;
    value = value * r * r + r + 1.0f;
    uint32_t bits, exponent;
    memcpy(&bits, &value, sizeof bits);
    memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The weights (count, BLOCK) of a block's pixels, from its place in the padded image. */
INLINE void weigh(const struct refiner *refiner, const struct padded *shape, const float *image, float *weights)
{
    const int count = refiner->count;
    const int64_t *places = shape->places;
    memset(weights, 0, sizeof(float) * count * BLOCK);
    for (int channel = 0; channel < shape->channels; channel++, image += shape->plane) {
        float mean[BLOCK] = {0}, scale[BLOCK] = {0}, shift[BLOCK];
        for (int k = 0; k < count; k++) {
            const float *neighbor = image + places[k];
            for (int x = 0; x < BLOCK; x++)
                mean[x] += neighbor[x];
        }
        for (int x = 0; x < BLOCK; x++)
            mean[x] /= count;
        for (int k = 0; k < count; k++) {
            const float *neighbor = image + places[k];
            for (int x = 0; x < BLOCK; x++)
                scale[x] += (neighbor[x] - mean[x]) * (neighbor[x] - mean[x]);
        }
        for (int x = 0; x < BLOCK; x++) {
            float width = (sqrtf(scale[x] / (count - 1)) + refiner->epsilon) * refiner->bandwidth;
            scale[x] = -1 / (width * width * shape->channels);
            shift[x] = 2 * (mean[x] - image[x]) * scale[x];
        }
        for (int k = 0; k < count; k++) {
            const float *neighbor = image + places[k];
            float *weight = weights + k * BLOCK;
            for (int x = 0; x < BLOCK; x++) {
                float difference = neighbor[x] - mean[x];
                weight[x] += (difference * scale[x] + shift[x]) * difference;
            }
        }
    }
    float largest[BLOCK], sum[BLOCK] = {0};
    memcpy(largest, weights, sizeof largest);
    for (int k = 1; k < count; k++) {
        const float *weight = weights + k * BLOCK;
        for (int x = 0; x < BLOCK; x++)
            largest[x] = weight[x] > largest[x] ? weight[x] : largest[x];
    }
    for (int k = 0; k < count; k++) {
        float *weight = weights + k * BLOCK;
        for (int x = 0; x < BLOCK; x++) {
            float affinity = weight[x] - largest[x];
            weight[x] = exponential(affinity < -refiner->negligible ? -refiner->negligible : affinity);
            sum[x] += weight[x];
        }
    }
    for (int x = 0; x < BLOCK; x++)
        sum[x] = 1 / sum[x];
    for (int k = 0; k < count; k++) {
        float *weight = weights + k * BLOCK;
        for (int x = 0; x < BLOCK; x++)
            weight[x] = weight[x] * sum[x] + refiner->position_weights[k];
    }
}

/* The weighted sums (BLOCK) of the neighbors of a block's pixels, from its place in the padded map. */
INLINE void add_up(const float *map, const int64_t *places, int count, const float *restrict weights, float *sums)
{
    float sum[BLOCK] = {0};
    for (int k = 0; k < count; k++) {
        const float *weight = weights + k * BLOCK, *neighbor = map + places[k];
        for (int x = 0; x < BLOCK; x++)
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
