/* Divergences between two next-token distributions given as logits, in double. Source: definitions; nats. */
#ifndef EVAL_DIVERGENCE_H
#define EVAL_DIVERGENCE_H
#include <stddef.h>
#include <stdint.h>
typedef struct divergence { double kl, js; int same_top; } divergence;
/* KL(p || q), JS(p, q), equal argmax, of softmax(ref) = p and softmax(model) = q. Equal inputs give exactly 0. */
divergence divergence_of(const float *ref, const float *model, size_t n);
/* -log softmax(logits)[token] */
double nll_of(const float *logits, size_t n, int32_t token);
#endif
