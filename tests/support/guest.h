/* guest.h - modules for tests: compiled from tests/vm/NAME.wat, or put together byte by byte. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

struct guest {
    uint8_t *bytes; /* exactly `size` of them on the heap, so that a sanitizer sees one read too many */
    size_t size;
};

/* The folder of the compiled modules: a test program's first argument. */
void guest_folder(const char *folder);
struct guest guest_load(const char *name);
struct guest guest_load_from(const char *folder, const char *name); /* FOLDER/NAME.wasm */
struct guest guest_copy(const void *bytes, size_t size);
void guest_free(struct guest *guest);

#endif
