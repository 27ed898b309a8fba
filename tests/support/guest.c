/* guest.c - see guest.h. */
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *compiled;

static void die(const char *what, const char *which)
{
    fprintf(stderr, "guest %s: %s\n", which, what);
    exit(1);
}

void guest_folder(const char *folder)
{
    compiled = folder;
}

struct guest guest_copy(const void *bytes, size_t size)
{
    struct guest guest = { .bytes = malloc(size == 0 ? 1 : size), .size = size };

    if (guest.bytes == NULL)
        die("out of memory", "copy");
    memcpy(guest.bytes, bytes, size);
    return guest;
}

struct guest guest_load_from(const char *folder, const char *name)
{
    static uint8_t room[4 << 20];
    char path[4096];

    if (snprintf(path, sizeof path, "%s/%s.wasm", folder, name) >= (int)sizeof path)
        die("too long a path", name);
    FILE *const file = fopen(path, "rb");
    if (file == NULL)
        die("cannot open it", path);
    const size_t size = fread(room, 1, sizeof room, file);
    if (size == sizeof room || ferror(file))
        die("cannot read it, or it is too long", path);
    fclose(file);
    return guest_copy(room, size);
}

struct guest guest_load(const char *name)
{
    return guest_load_from(compiled, name);
}

void guest_free(struct guest *guest)
{
    free(guest->bytes);
    *guest = (struct guest){ .bytes = NULL };
}
