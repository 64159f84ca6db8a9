/* A picture of where a model's bytes went. */
#ifndef CLI_SVG_H
#define CLI_SVG_H
#include <snug.h>
#include <stdio.h>

/* One bar per layer (and one for what stands outside), stacked by role, coloured by bits per weight. False: writing
 * failed. */
bool svg_write(FILE *to, const snug_model *model);
#endif
