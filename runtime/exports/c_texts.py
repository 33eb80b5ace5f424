"""The texts of a C library, with fields: header, example, and a file for CMake. Names begin with `prefix`."""

from __future__ import annotations

HEADER = """\
/* {model}, a model compiled by dlc for {machine}.
 *
 * All memory is the caller's: no function allocates, prints, or keeps anything elsewhere, so several threads may each
 * use a memory of their own. Functions give 0 ({upper}_OK), or another code of enum {prefix}_error. Arrays are dense,
 * rows first, the last dimension varying fastest. Inputs hold the numbers that the model reads: normalised columns,
 * words and tokens as numbers. `preparation` in manifest.json says how those of the training data were made.
 */
#ifndef DLC_{upper}_H
#define DLC_{upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_ABI INT64_C({abi})
#define {upper}_ALIGNMENT 64
/* The bytes of memory for calls of up to `rows` rows, and those of each worker behind the first. */
#define {upper}_MEMORY(rows) ({fixed} + {upper}_SCRATCH(rows) + {upper}_VALUES(rows) + ((int64_t)(rows) + 7) / 8 * 64)
#define {upper}_WORKER_MEMORY(rows) ({fixed_of_worker} + {upper}_SCRATCH(rows))
#define {upper}_ROUNDED(rows) (((int64_t)(rows) + {less}) / {rounding} * {rounding})
#define {upper}_SCRATCH(rows) (({scratch} * ({upper}_ROUNDED(rows) + {rounding}) + 63) / 64 * 64)
#define {upper}_VALUES(rows) {values}

enum {prefix}_error {{
{errors}
}};

/* The text of an error code. */
const char *{prefix}_error_text(int error);

/* {upper}_MEMORY(rows), and {upper}_WORKER_MEMORY(rows), or 0 where `rows` is below 1 or above 2147483647. */
int64_t {prefix}_memory(int64_t rows);
int64_t {prefix}_worker_memory(int64_t rows);

/* Lay out memory of at least {upper}_MEMORY(rows) bytes, which begins at a multiple of {upper}_ALIGNMENT. */
#define {prefix}_init(memory, bytes, rows) {prefix}_init_abi({upper}_ABI, memory, bytes, rows)
int {prefix}_init_abi(int64_t abi, void *memory, int64_t bytes, int64_t rows);

/* A loop of the caller's that calls task(argument, k) once for each k from 0 to count - 1, in any order and on any
 * threads, and returns when all calls have returned. */
typedef void (*{prefix}_parallel)(void *context, int count, void (*task)(void *argument, int number), void *argument);

/* Compute with so many workers, by that loop; results have the same bits. The memory that {prefix}_init was given has
 * {upper}_MEMORY(rows) + (workers - 1) * {upper}_WORKER_MEMORY(rows) bytes. Without this call, there is one worker. */
int {prefix}_set_parallel(void *memory, {prefix}_parallel parallel, void *context, int workers);

{functions}

/* The persistent tensor called `name`, dense, and its bytes unless `bytes` is NULL; NULL where there is none, or no
 * memory was laid out. It is for reading: predictions may use copies that were made of it. */
const void *{prefix}_tensor(void *memory, const char *name, int64_t *bytes);
{changing}
#ifdef __cplusplus
}}
#endif
#endif
"""

DECLARATIONS = {
    "predict": """\
/* Compute the outputs of `rows` rows.
{note} *
{arrays}
 */
int {prefix}_predict({parameters});""",
    "evaluate": """\
/* Compute the loss and the metrics of `rows` rows, as one batch; no weight changes.
{note} *
{arrays}
 */
int {prefix}_evaluate({parameters});""",
    "step": """\
/* Make one update of the weights in this memory from `rows` rows.
{note} *
{arrays}
 */
int {prefix}_step({parameters});""",
    "generate_next": """\
/* Choose the token that follows `length` tokens, as `dlc generate` does with this seed.
 * A call goes on where the one before ended if its tokens are those of that call and one more; others begin anew.
 * No seed is negative.
 */
int {prefix}_generate_next({parameters});""",
}

TITLES = {"step": "the training", "generate_next": "the choice of tokens"}
SETTINGS = """\
/* Settings of {title}, which are finite, with their limits; and their values in the model's text. */
struct {struct} {{
{fields}
}};
#define {usual} {{{values}}}

"""

CHANGING = """
/* All tensors as a safetensors file, with the states of the optimizer; weights.safetensors is one. */
#define {upper}_FILE_BYTES INT64_C({file_bytes})
int {prefix}_save(void *memory, void *file, int64_t bytes);
int {prefix}_load(void *memory, const void *file, int64_t bytes);

/* Go on as after so many updates, with the random numbers of a seed; {prefix}_init begins with the text's, and 0.
 * Neither is negative. */
int {prefix}_continue(void *memory, int64_t seed, int64_t updates);
"""

EXAMPLE = """\
/* Reads rows of the inputs from standard input and writes the outputs of each row to standard output.
 *
 * Numbers are raw, in this processor's byte order (little-endian), inputs and outputs in the order of manifest.json.
 *
 *     cc -std=c99 example.c lib{prefix}.a -o example
 */
#include "{prefix}.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

enum {{ ROWS = 32 }};

/* Whether there was more to read. Input that ends in the middle of a row ends the program. */
static int filled(void *target, size_t bytes, int in_row) {{
    const size_t got = fread(target, 1, bytes, stdin);
    if (got == bytes) {{
        return 1;
    }}
    if (got > 0 || in_row) {{
        fprintf(stderr, "the input ends in the middle of a row\\n");
        exit(2);
    }}
    return 0;
}}

int main(void) {{
{declarations}
    const size_t bytes = (size_t){upper}_MEMORY(ROWS);
    char *block = (char *)malloc(bytes + {upper}_ALIGNMENT);
    void *memory;
    int error, ended = 0;
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    if (block == NULL) {{
        fprintf(stderr, "there is not enough memory\\n");
        return 1;
    }}
    memory = block + ({upper}_ALIGNMENT - (uintptr_t)block % {upper}_ALIGNMENT);
    error = {prefix}_init(memory, (int64_t)bytes, ROWS);
{fixed}    while (error == {upper}_OK && !ended) {{
        long row = 0, rows;
        while (row < ROWS && !ended) {{
{read}
            row += !ended;
        }}
        rows = row;
        if (rows == 0) {{
            break;
        }}
        error = {prefix}_predict(memory, rows, {arguments});
        for (row = 0; error == {upper}_OK && row < rows; row++) {{
{written}
        }}
    }}
    if (error != {upper}_OK) {{
        fprintf(stderr, "%s\\n", {prefix}_error_text(error));
    }}
    free(block);
    return error == {upper}_OK ? 0 : 1;
}}
"""

CMAKE = """\
cmake_minimum_required(VERSION 3.13)
project({prefix} C)
add_library({prefix} STATIC IMPORTED)
set_target_properties({prefix} PROPERTIES
    IMPORTED_LOCATION ${{CMAKE_CURRENT_SOURCE_DIR}}/lib{prefix}.a
    INTERFACE_INCLUDE_DIRECTORIES ${{CMAKE_CURRENT_SOURCE_DIR}})
add_executable({prefix}_example example.c)
target_link_libraries({prefix}_example {prefix})
"""
