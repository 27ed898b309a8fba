/* error.h - how a failure travels: a status up the stack, its words beside it.
 *
 * A function that can fail returns varve_status. The place where the cause is known raises it once, with
 * vv_fail; everybody above passes it on with TRY. The words wait in a buffer of the thread until the door
 * (varve.c) copies them into the caller's varve_error. Nothing is printed and nothing exits. */
#ifndef VV_ERROR_H
#define VV_ERROR_H

#include <varve.h>

/* Raise `status` with words that say what went wrong, where, and what to do. Returns `status`. */
varve_status vv_fail(varve_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* Raise what errno `number` means: ENOSPC, EDQUOT, EFBIG are FULL; ENOMEM is MEMORY; EMFILE, ENFILE, EAGAIN
 * are HOST_LIMIT; all else is IO. The words are followed by ": ", the system's own, and what to do. (EFBIG: a
 * limit on the length of one file is one more way in which there is no room, and the way on is the same.) */
varve_status vv_fail_errno(int number, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Raise UNCERTAIN, whatever errno `number` is: nobody knows whether what was done will last. */
varve_status vv_fail_uncertain(int number, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* As vv_fail, with a number of its own beside the words (the exit code of a guest). */
varve_status vv_fail_number(varve_status status, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Put "PREFIX: " before the words of the failure that is on its way; returns `status`. For a caller that
 * knows what the raiser could not: the file's name, the commit, the script's line. */
varve_status vv_fail_within(varve_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* The last words of this thread and the errno behind them (0: none). Lent until the next failure. */
const char *vv_words(void);
int vv_words_errno(void);

/* Keep them while something is cleaned up that may fail too, and bring them back: the first failure is the one to tell. */
struct vv_last_words {
    int number;
    char text[sizeof((varve_error *)0)->message];
};
void vv_words_keep(struct vv_last_words *last);
void vv_words_bring_back(const struct vv_last_words *last);

/* The door's last step: fill the caller's storage with `status` and this thread's words. NULL is fine;
 * VARVE_OK and VARVE_END are no failures and write nothing. Returns `status`. */
varve_status vv_error_deliver(varve_error *error, varve_status status);

/* Keep the status in `rc` and go to `out` unless it is VARVE_OK. No other macro jumps. */
#define TRY(expression)     \
    do {                    \
        rc = (expression);  \
        if (rc != VARVE_OK) \
            goto out;       \
    } while (0)

/* What only our own code can break. Stays on in every build; prints the fact and aborts. */
#define VV_ASSERT(fact) ((fact) ? (void)0 : vv_assert_failed(__FILE__, __LINE__, #fact))
_Noreturn void vv_assert_failed(const char *file, int line, const char *fact);

#endif
