"""Libraries of C whose work a loop of the caller's divides among workers: the same bits, in memory of a known size."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_programs import HERE, write_library
from exported_models import ROWS, SMALL, fed, rows_of, trained_model

WIDE = SMALL.replace("width = 24", "width = 160")
PROGRAM = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef THREADS
#include <pthread.h>

struct call {
    void (*task)(void *, int);
    void *argument;
    int number;
};

static void *one(void *given) {
    const struct call *call = (const struct call *)given;
    call->task(call->argument, call->number);
    return NULL;
}

static void each(void *context, int count, void (*task)(void *, int), void *argument) {
    pthread_t threads[16];
    struct call calls[16];
    int k;
    *(int *)context = count;
    for (k = 0; k < count; k++) {
        calls[k].task = task;
        calls[k].argument = argument;
        calls[k].number = k;
        if (pthread_create(threads + k, NULL, one, calls + k)) abort();
    }
    for (k = 0; k < count; k++) pthread_join(threads[k], NULL);
}
#elif defined _OPENMP
static void each(void *context, int count, void (*task)(void *, int), void *argument) {
    int k;
    *(int *)context = count;
#pragma omp parallel for schedule(static, 1)
    for (k = 0; k < count; k++) task(argument, k);
}
#else
static void each(void *context, int count, void (*task)(void *, int), void *argument) {
    int k;
    *(int *)context = count;
    for (k = count - 1; k >= 0; k--) task(argument, k);
}
#endif

int main(int count, char **words) {
    static float x[37 * 10], amount[37], scores[37 * 3], size[37], loss, accuracy, r2, lr;
    static int32_t inner[37], label[37];
    const struct model_settings settings = MODEL_SETTINGS;
    const int workers = count > 1 ? atoi(words[1]) : 1;
    const int64_t bytes = MODEL_MEMORY(37) + (workers - 1) * MODEL_WORKER_MEMORY(37);
    char *memory = (char *)malloc((size_t)bytes + MODEL_ALIGNMENT);
    char *const block = memory;
    int seen = 0, step, row;
    memory += MODEL_ALIGNMENT - (uintptr_t)memory % MODEL_ALIGNMENT;
    if (model_worker_memory(37) != MODEL_WORKER_MEMORY(37) || model_init(memory, bytes, 37) != MODEL_OK) return 3;
    if (model_set_parallel(memory, each, &seen, workers) != MODEL_OK) return 4;
    for (row = 0; row < 37; row++) {
        if (fread(x + 10 * row, 4, 10, stdin) != 10 || fread(inner + row, 4, 1, stdin) != 1) return 5;
        label[row] = (int32_t)(7 * row % 3);
        amount[row] = (float)row;
    }
    for (step = 0; step < 5; step++) {
        const int64_t rows = step % 2 ? 16 : 37;
        if (model_step(memory, rows, &settings, x, inner, label, amount, &loss, &accuracy, &r2, &lr)) return 6;
        fwrite(&loss, 4, 1, stdout);
    }
    if (model_predict(memory, 37, x, inner, scores, size) != MODEL_OK) return 7;
    fwrite(scores, 4, 37 * 3, stdout);
    if (workers > 1 && seen != workers) return 8;
    free(block);
    return 0;
}
"""
WAYS = {
    "backwards": (),
    "threads": ("-DTHREADS", "-pthread", "-fsanitize=thread", "-g"),
    "openmp": ("-fopenmp",),
    "sanitised": ("-DTHREADS", "-pthread", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    made = tmp_path_factory.mktemp("library")
    write_library(made, trained_model(WIDE, ROWS), None, True)
    return made


@pytest.fixture(scope="module")
def alone(folder: Path) -> bytes:
    return run(folder, "alone", (), 1)


def run(folder: Path, name: str, options: tuple[str, ...], workers: int) -> bytes:
    (folder / f"{name}.c").write_text(PROGRAM)
    return HERE.run(HERE.build(folder, f"{name}.c", *options), rows_of(*fed()[:2]), [str(workers)])


@pytest.mark.parametrize("way", WAYS)
def test_bits_are_those_of_one_worker(way: str, folder: Path, alone: bytes) -> None:
    for workers in (1, 2, 3, 7):
        assert run(folder, way, WAYS[way], workers) == alone, workers


BROKEN = """
#include "model.h"
#include <stdio.h>

static char block[MODEL_MEMORY(4) + 2 * MODEL_WORKER_MEMORY(4) + 64];
static float x[40], scores[12], size[4];
static int32_t inner[4];

static void in_order(void *context, int count, void (*task)(void *, int), void *argument) {
    int k;
    (void)context;
    for (k = 0; k < count; k++) task(argument, k);
}

static void nothing(void *context, int count, void (*task)(void *, int), void *argument) {
    (void)context, (void)count, (void)task, (void)argument;
}

static void all_but_the_last(void *context, int count, void (*task)(void *, int), void *argument) {
    in_order(context, count - 1, task, argument);
}

static void twice(void *context, int count, void (*task)(void *, int), void *argument) {
    in_order(context, count, task, argument);
    task(argument, 0);
}

static void beyond(void *context, int count, void (*task)(void *, int), void *argument) {
    in_order(context, count, task, argument);
    task(argument, count);
    task(argument, -1);
}

int main(void) {
    char *memory = block + (64 - (uintptr_t)block % 64);
    const int64_t one = MODEL_WORKER_MEMORY(4), bytes = MODEL_MEMORY(4) + 2 * one;
    const model_parallel wrong[] = {nothing, all_but_the_last, twice};
    int k;
    printf("%d ", model_set_parallel(NULL, in_order, NULL, 3));
    printf("%d ", model_set_parallel(memory, in_order, NULL, 3));
    printf("%d ", model_init(memory, bytes - 1, 4));
    printf("%d ", model_set_parallel(memory, in_order, NULL, 3));
    printf("%d ", model_init(memory, bytes, 4));
    printf("%d ", model_set_parallel(memory, in_order, NULL, 0));
    printf("%d ", model_set_parallel(memory, in_order, NULL, 65537));
    printf("%d ", model_set_parallel(memory, in_order, NULL, 4));
    printf("%d ", model_set_parallel(memory, NULL, NULL, 3));
    printf("%d ", model_set_parallel(memory, NULL, NULL, 1));
    printf("%d ", model_predict(memory, 4, x, inner, scores, size));
    printf("%d ", model_set_parallel(memory, beyond, NULL, 3));
    printf("%d ", model_predict(memory, 4, x, inner, scores, size));
    for (k = 0; k < 3; k++) {
        printf("| %d ", model_init(memory, bytes, 4) || model_set_parallel(memory, wrong[k], NULL, 3));
        printf("%d ", model_predict(memory, 4, x, inner, scores, size));
        printf("%d ", model_predict(memory, 4, x, inner, scores, size));
    }
    printf("| %d %d", model_worker_memory(0) == 0, model_worker_memory(4) == one);
    return 0;
}
"""


def test_a_loop_that_does_not_keep_its_promise_is_answered_by_a_code(folder: Path) -> None:
    (folder / "broken.c").write_text(BROKEN)
    options = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    first, *broken, sizes = HERE.run(HERE.build(folder, "broken.c", *options)).decode().split("|")
    assert first.split() == ["5", "4", "0", "2", "0", "9", "9", "2", "5", "0", "0", "0", "0"]
    assert [one.split() for one in broken] == [["0", "10", "4"]] * 3
    assert sizes.split() == ["1", "1"]
