/* Runs the compiled search outside of Python: for other processors, and under sanitizers. Each array has its own block of
 * exactly its size. Reads requests from the standard input and writes the results, as test_kernel.py packs them. */

#include <stdio.h>
#include <stdlib.h>

#include "search.c"

static void *make(int64_t bytes) {
    void *room = calloc((size_t)bytes + (bytes == 0), 1);
    if (!room) abort();
    return room;
}

static void *read_block(int64_t bytes) {
    void *room = make(bytes);
    if (bytes && fread(room, 1, (size_t)bytes, stdin) != (size_t)bytes) abort();
    return room;
}

static void write_block(void *room, int64_t bytes) {
    if (bytes && fwrite(room, 1, (size_t)bytes, stdout) != (size_t)bytes) abort();
    free(room);
}

int main(void) {
    int64_t head[6];
    double priors[3];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        if (fread(priors, sizeof priors, 1, stdin) != 1) abort();
        struct job job = {.bars = head[0], .nodes = head[1], .waves = head[2], .seasons = head[3], .rows = head[4]};
        job.line_ridge = priors[0], job.wave_ridge = priors[1], job.lasso = priors[2];
        int64_t *times_ns = read_block(8 * job.bars), *node_bars = read_block(8 * job.nodes);
        struct season *season = read_block(16 * job.seasons);
        double *values = read_block(8 * job.rows * job.bars);
        struct path *begin = head[5] ? read_block((int64_t)sizeof *begin * job.rows) : 0;
        job.times_ns = times_ns, job.node_bars = node_bars, job.season = season, job.values = values, job.begin = begin;
        job.path = make((int64_t)sizeof *job.path * job.rows);
        job.parameters = make(8 * job.rows * (job.nodes + job.waves));
        job.line = make(8 * job.rows * job.nodes);
        job.numbers = make(32 * job.rows);
        job.status = make(16 * job.rows);
        job.memory = make(kernel_memory_bytes(job.bars, job.waves));
        kernel_fit(&job);
        write_block(job.parameters, 8 * job.rows * (job.nodes + job.waves));
        write_block(job.line, 8 * job.rows * job.nodes);
        write_block(job.numbers, 32 * job.rows);
        write_block(job.status, 16 * job.rows);
        write_block(job.path, (int64_t)sizeof *job.path * job.rows);
        free(times_ns), free(node_bars), free(season), free(values), free(begin), free(job.memory);
    }
    return 0;
}
