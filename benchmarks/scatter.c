/* The floor under every event-driven simulator of such networks: the spikes of integrate-and-fire neurons without leak,
 * scattered through convolutions and matrices by plain loops over plain arrays. No recording of anything but spikes, no
 * parameters per neuron, no delays, no crossings between events. Compiled by event_driven.py, never needed to use mtt_brian.
 *
 * Neurons are numbered channels last, so that the innermost loop runs over the output channels of one kernel position.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    int64_t c_in, h_in, w_in;    /* the source as the kernel sees it, after pooling */
    int64_t c_out, h_out, w_out; /* the target; a matrix is c_in = inputs, all else 1 */
    int64_t kernel, stride, pad;
    int64_t pool;                /* side of the average pooling in front, 1 for none */
    int64_t fires;
    const double *weight;        /* [c_in][kernel][kernel][c_out] */
} layer;

typedef struct {
    double *v;
    int64_t *stamp, *touched, *fired;
    int32_t *spikes;
} scratch;

/* Returns the number of spike records, or -1 where `room` is too small. Spikes of layer l (0: the first after the input)
 * go to out_t, out_l, out_i, out_n in the order in which they are fired; `readout` gets the potentials of the last layer. */
int64_t scatter(int64_t n_layers, const layer *layers, int64_t n_in, const double *t_in, const int64_t *i_in,
                const int64_t *count_in, int64_t room, double *out_t, int32_t *out_l, int64_t *out_i, int64_t *out_n,
                double *readout)
{
    int64_t size = 0, n_records = 0;
    scratch *s = calloc(n_layers, sizeof(scratch));
    for (int64_t l = 0; l < n_layers; l++) {
        int64_t pixels = layers[l].h_out * layers[l].w_out, n = pixels * layers[l].c_out;
        s[l].v = calloc(n, sizeof(double));
        s[l].stamp = calloc(pixels, sizeof(int64_t));
        s[l].touched = malloc(pixels * sizeof(int64_t));
        s[l].fired = malloc(n * sizeof(int64_t));
        s[l].spikes = malloc(n * sizeof(int32_t));
        if (n > size)
            size = n;
    }
    int64_t now = 0;
    for (int64_t row = 0; row < n_in && n_records >= 0;) {
        int64_t first = row;
        double t = t_in[row];
        while (row < n_in && t_in[row] == t)
            row++;
        now++;
        int64_t m = row - first; /* spikes that enter the layer */
        for (int64_t l = 0; l < n_layers && m > 0; l++) {
            const layer *p = &layers[l];
            double *v = s[l].v, share = 1.0 / (double)(p->pool * p->pool);
            int64_t n_touched = 0;
            int64_t width = p->w_in * p->pool;
            int64_t height = p->h_in * p->pool;
            for (int64_t k = 0; k < m; k++) {
                int64_t c, y, x;
                double n;
                if (l == 0) { /* the input comes in C order */
                    int64_t i = i_in[first + k];
                    c = i / (height * width), y = i / width % height, x = i % width;
                    n = (double)count_in[first + k];
                } else {
                    int64_t i = s[l - 1].fired[k];
                    int64_t c_source = layers[l - 1].c_out, w_source = layers[l - 1].w_out, h_source = layers[l - 1].h_out;
                    n = s[l - 1].spikes[i];
                    if (p->h_in == 1 && p->w_in == 1) { /* a matrix behind a convolution counts in C order of the pooled map */
                        int64_t yy = i / c_source / w_source / p->pool, xx = i / c_source % w_source / p->pool;
                        c = (i % c_source * (h_source / p->pool) + yy) * (w_source / p->pool) + xx, y = 0, x = 0;
                    } else {
                        c = i % c_source, y = i / c_source / w_source, x = i / c_source % w_source;
                    }
                }
                if (!(p->h_in == 1 && p->w_in == 1))
                    y /= p->pool, x /= p->pool;
                n *= share;
                for (int64_t a = 0; a < p->kernel; a++) {
                    int64_t oy = y + p->pad - a;
                    if (oy < 0 || oy % p->stride || oy / p->stride >= p->h_out)
                        continue;
                    oy /= p->stride;
                    for (int64_t b = 0; b < p->kernel; b++) {
                        int64_t ox = x + p->pad - b;
                        if (ox < 0 || ox % p->stride || ox / p->stride >= p->w_out)
                            continue;
                        ox /= p->stride;
                        int64_t pixel = oy * p->w_out + ox;
                        if (s[l].stamp[pixel] != now) {
                            s[l].stamp[pixel] = now;
                            s[l].touched[n_touched++] = pixel;
                        }
                        double *restrict to = v + pixel * p->c_out;
                        const double *restrict w = p->weight + ((c * p->kernel + a) * p->kernel + b) * p->c_out;
                        for (int64_t o = 0; o < p->c_out; o++)
                            to[o] += n * w[o];
                    }
                }
            }
            m = 0;
            if (!p->fires)
                break;
            for (int64_t k = 0; k < n_touched; k++) {
                int64_t begin = s[l].touched[k] * p->c_out;
                for (int64_t i = begin; i < begin + p->c_out; i++) {
                    if (v[i] >= 1.0) {
                        double n = floor(v[i]);
                        v[i] -= n;
                        s[l].spikes[i] = (int32_t)n;
                        s[l].fired[m++] = i;
                    }
                }
            }
            if (n_records + m > room) {
                n_records = -1;
                break;
            }
            for (int64_t k = 0; k < m; k++, n_records++) {
                out_t[n_records] = t;
                out_l[n_records] = (int32_t)l;
                out_i[n_records] = s[l].fired[k];
                out_n[n_records] = s[l].spikes[s[l].fired[k]];
            }
        }
    }
    const layer *last = &layers[n_layers - 1];
    for (int64_t o = 0; o < last->c_out * last->h_out * last->w_out; o++)
        readout[o] = s[n_layers - 1].v[o];
    for (int64_t l = 0; l < n_layers; l++) {
        free(s[l].v), free(s[l].stamp), free(s[l].touched), free(s[l].fired), free(s[l].spikes);
    }
    free(s);
    return n_records;
}
