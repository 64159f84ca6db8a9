/* Chat templates: a safe interpreter for the part of Jinja that models ship. Evaluates nothing else: no imports, no
 * attribute access beyond JSON values, bounded steps and output. */
#ifndef TOKEN_JINJA_H
#define TOKEN_JINJA_H
#include "base/json.h"
/* vars: an object with messages, add_generation_prompt, bos_token, eos_token, tools ... Result malloc'd, NUL-terminated.
 * Errors name the template's line. raise_exception('...') gives SNUG_ERR_ARG with its text. */
snug_err jinja_render(const char *tmpl, const json_t *vars, char **out, snug_error *err);
#endif
