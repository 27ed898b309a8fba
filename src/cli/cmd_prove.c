/* cmd_prove.c - varve prove and varve verify: one page of one module against a root that is trusted. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int write_file(struct cli *cli, const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    bool written = file != NULL && fwrite(data, 1, size, file) == size;

    if (file != NULL)
        written = fclose(file) == 0 && written;
    return written ? EXIT_DONE : cli_error(cli, VARVE_IO, "cannot write %s: %s", path, strerror(errno));
}

int cmd_prove(struct cli *cli, int argc, char **argv)
{
    const char *output = NULL;
    uint64_t address = 0;
    varve_module_info module;
    varve_module_id id;
    varve_root root;
    void *proof = NULL;
    size_t size = 0;
    varve_error error;
    int code = cli_common(cli, &argc, argv, true);
    const struct cli_option options[] = {
        { "--output", 'o', "FILE", "where the proof goes (default: stdout)", .text = &output },
        { .name = NULL },
    };

    if (code != EXIT_DONE ||
        !cli_options(
            cli, &argc, argv, options, "MODULE ADDR",
            "Prove the page at ADDR of MODULE, or that no such module is there (give its 64 hex digits).", 2,
            2, &code))
        return code;
    if (!cli_parse_size(argv[2], &address))
        return cli_usage(cli, "ADDR %s: not a number", argv[2]);
    code = cli_begin(cli, true);
    if (code != EXIT_DONE)
        return code;
    if (strlen(argv[1]) != 64 || varve_hex_parse(argv[1], id.bytes) != VARVE_OK) {
        code = cli_module(cli, argv[1], &module);
        if (code != EXIT_DONE)
            return code;
        id = module.id;
    }
    if (varve_prove(cli->session, &id, address / 4096, &proof, &size, &error) != VARVE_OK ||
        varve_session_root(cli->session, &root, &error) != VARVE_OK) {
        varve_free(proof);
        return cli_fail(cli, &error, NULL);
    }
    if (output != NULL)
        code = write_file(cli, output, proof, size);
    else if (!cli->json)
        (void)fwrite(proof, 1, size, cli->out);
    if (code == EXIT_DONE && cli->json) {
        cli_set(cli, "root", cli_json_hex(root.bytes, 32));
        cli_set(cli, "proof", cli_json_bytes(proof, size));
    } else if (code == EXIT_DONE) {
        char hex[65];
        varve_hex_format(root.bytes, hex);
        cli_note(cli, "root %s, %zu bytes", hex, size);
    }
    varve_free(proof);
    return code;
}

int cmd_verify(struct cli *cli, int argc, char **argv)
{
    const char *root_text = NULL;
    varve_root root;
    varve_claim claim = VARVE_INIT(varve_claim);
    uint8_t *data = NULL;
    size_t size = 0;
    char hex[65];
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--root", 0, "HEX", "the state root that is trusted", .text = &root_text },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "FILE --root HEX",
                     "Check a proof; needs no store. Exit 1: not proved.", 1, 1, &code))
        return code;
    if (root_text == NULL || varve_hex_parse(root_text, root.bytes) != VARVE_OK)
        return cli_usage(cli, "--root HEX: the 64 digits of the root that you trust");
    code = cli_read_file(cli, argv[1], &data, &size);
    if (code != EXIT_DONE)
        return code;
    const varve_status status = varve_proof_check(data, size, &root, &claim, &error);
    free(data);
    if (status != VARVE_OK) {
        if (cli->json)
            cli_line(cli, json_pack("{s:b, s:o}", "proved", 0, "why", cli_json_text(error.message)));
        else
            cli_note(cli, "not proved: %s", error.message);
        return EXIT_FAILED;
    }
    varve_hex_format(claim.module.bytes, hex);
    if (cli->json) {
        cli_set(cli, "proved", json_true());
        cli_set(cli, "module", json_string(hex));
        cli_set(cli, "present", json_boolean(claim.present));
        cli_set(cli, "page", json_integer((json_int_t)claim.page));
        cli_set(cli, "bytes", claim.present ? cli_json_bytes(claim.bytes, sizeof claim.bytes) : json_null());
    } else if (claim.present) {
        (void)fprintf(cli->out, "proved: page %llu of module %s\n", (unsigned long long)claim.page, hex);
    } else {
        (void)fprintf(cli->out, "proved: no module %s\n", hex);
    }
    return EXIT_DONE;
}
