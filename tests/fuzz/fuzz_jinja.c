/* Any bytes as a chat template, run on a small conversation: it renders UTF-8 text or fails with a message, in bounded
 * time. */
#include "fuzz.h"
#include "token/jinja.h"
#include "token/utf8.h"

#include <string.h>

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":\" Gr\\u00fc\\u00dfe "
    "\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2."
    "5,true,null]}}}]}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"n\":3,\"tools\":[{\"name\":\"f\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static json_t *vars;
    if (!vars) vars = json_loads(conversation, 0, NULL);
    FUZZ_CHECK(vars != NULL);
    char *template = malloc(n + 1), *out = NULL;
    if (!template) return 0;
    memcpy(template, data, n);
    template[n] = 0;
    snug_error err = {0};
    snug_err e = jinja_render(template, vars, &out, &err);
    FUZZ_CHECK((e == SNUG_OK) == (out != NULL));
    if (out)
        FUZZ_CHECK(utf8_valid_prefix((const uint8_t *)out, strlen(out)) == strlen(out));
    else
        FUZZ_CHECK(err.code == e && (err.message[0] || e == SNUG_ERR_ARG)); /* raise_exception may be given nothing */
    free(out);
    free(template);
    return 0;
}
