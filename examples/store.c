/* store.c - a program whose memory is the database: run it again and again, it goes on counting.
 *
 *   cc store.c $(pkg-config --cflags --libs varve) -o store && ./store && ./store */
#include <stdio.h>
#include <varve.h>

struct visits { /* lives in the image: plain memory, plain pointers */
    unsigned count;
    char last[64];
};

int main(int argc, char **argv)
{
    const varve_store_options create = { .size = sizeof create, .flags = VARVE_STORE_CREATE };
    const varve_image_options page = { .size = sizeof page, .name = "visits", .create_size = 4096 };
    varve_store *store = NULL;
    varve_session *session = NULL;
    varve_image *image = NULL;
    varve_module_id id;
    varve_error error;

    if (varve_module_id_of(page.name, &id) != VARVE_OK ||
        varve_store_open(argc > 1 ? argv[1] : "visits.varve", &create, &store, &error) != VARVE_OK ||
        varve_session_begin(store, NULL, &session, &error) != VARVE_OK ||
        varve_image_open(session, &id, &page, &image, &error) != VARVE_OK)
        goto failed;
    struct visits *visits = varve_image_bytes(image);
    visits->count++;
    printf("visit %u, the last one was by \"%s\"\n", visits->count, visits->last);
    snprintf(visits->last, sizeof visits->last, "%s", argc > 2 ? argv[2] : "nobody");
    if (varve_session_commit(session, NULL, NULL, &error) != VARVE_OK) /* durable when it returns */
        goto failed;
    varve_store_close(store);
    return 0;
failed:
    fprintf(stderr, "%s\n", error.message);
    varve_session_abort(session);
    varve_store_close(store);
    return 1;
}
