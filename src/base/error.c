/* error.c - the thread's last words: the one piece of global state in the library.
 *
 * Words are written where a failure is raised and read once, at the door; so a thread that fails never sees
 * the words of another, and a success leaves old words behind that nobody reads. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct vv_last_words words; /* number: errno behind them; 0: none */

static void say(const char *format, va_list args)
{
    (void)vsnprintf(words.text, sizeof words.text, format, args);
}

varve_status vv_fail(varve_status status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    words.number = 0;
    say(format, args);
    va_end(args);
    return status;
}

varve_status vv_fail_number(varve_status status, int number, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    words.number = number;
    return status;
}

static varve_status status_of_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return VARVE_FULL;
    case ENOMEM:
        return VARVE_MEMORY;
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        return VARVE_HOST_LIMIT;
    default:
        return VARVE_IO;
    }
}

/* What to do about it, for the errnos where that is the same wherever they come from. */
static const char *advice_of_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return "; free some space and try again";
    case EFBIG:
        return "; raise the limit on the size of files (ulimit -f)";
    case EMFILE:
    case ENFILE:
        return "; close something or raise the limit on open files (ulimit -n)";
    case EACCES:
    case EPERM:
        return "; check owner and permissions";
    case EROFS:
        return "; open the store read-only";
    default:
        return "";
    }
}

/* Behind the words: ": ", those of the system, and `advice`. */
static void say_errno(int number, const char *advice)
{
    char system[96];
    const size_t used = strlen(words.text);

    (void)snprintf(words.text + used, sizeof words.text - used, ": %s%s",
                   strerror_r(number, system, sizeof system), advice);
    words.number = number;
}

varve_status vv_fail_errno(int number, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    say_errno(number, advice_of_errno(number));
    return status_of_errno(number);
}

varve_status vv_fail_uncertain(int number, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    say_errno(number, "; whether it lasts is unknown: close the store and open it again");
    return VARVE_UNCERTAIN;
}

varve_status vv_fail_within(varve_status status, const char *format, ...)
{
    char inner[sizeof words.text];
    va_list args;

    memcpy(inner, words.text, sizeof inner);
    va_start(args, format);
    say(format, args);
    va_end(args);
    const size_t used = strlen(words.text);
    (void)snprintf(words.text + used, sizeof words.text - used, ": %s", inner);
    return status;
}

const char *vv_words(void)
{
    return words.text;
}

int vv_words_errno(void)
{
    return words.number;
}

void vv_words_keep(struct vv_last_words *last)
{
    *last = words;
}

void vv_words_bring_back(const struct vv_last_words *last)
{
    words = *last;
}

varve_status vv_error_deliver(varve_error *error, varve_status status)
{
    if (error == NULL || status == VARVE_OK || status == VARVE_END)
        return status;
    error->status = status;
    error->system = words.number;
    memcpy(error->message, words.text, sizeof error->message);
    return status;
}

_Noreturn void vv_assert_failed(const char *file, int line, const char *fact)
{
    (void)fprintf(stderr, "varve: %s:%d: this must be true and is not: %s\n", file, line, fact);
    abort();
}
