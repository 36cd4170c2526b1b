/* The human table of `nd bench`: MACs ratio and measured ratio side by side. */
#ifndef ND_CLI_BENCH_TABLE_H
#define ND_CLI_BENCH_TABLE_H

#include "bench/bench.h"
#include "cli/cli.h"

typedef struct nd_bench_table nd_bench_table;

nd_bench_table *nd_bench_table_new(void); /* NULL when out of memory, which the others accept */
void nd_bench_table_add(nd_bench_table *table, const nd_row *row);
/* Prints the rows, where there are any, and what the columns mean under them; and frees. */
void nd_bench_table_print(nd_bench_table *table, FILE *file, const nd_bench_settings *settings);

#endif
