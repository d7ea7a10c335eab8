/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps rows and writes them as JSON and CSV. Measures nothing. */
#include "fractions/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/banned.h"

int fr_rows_add(struct fr_rows *r, const struct fr_row *row)
{
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 32;
		struct fr_row *rows = reallocarray(r->rows, room, sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		r->rows = rows;
		r->room = room;
	}
	r->rows[r->count++] = *row;
	return 0;
}

void fr_rows_finish(struct fr_rows *r)
{
	free(r->rows);
	*r = (struct fr_rows){.rows = NULL};
}

int fr_notes_add(struct fr_notes *n, const char *format, ...)
{
	char **lines = reallocarray(n->lines, n->count + 1, sizeof(*lines));
	va_list ap;
	int length;

	if (!lines)
		return -ENOMEM;
	n->lines = lines;
	va_start(ap, format);
	length = vasprintf(&lines[n->count], format, ap);
	va_end(ap);
	if (length < 0)
		return -ENOMEM;
	n->count++;
	return 0;
}

void fr_notes_finish(struct fr_notes *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->lines[i]);
	free(n->lines);
	*n = (struct fr_notes){.lines = NULL};
}

const struct fr_row *fr_rows_find(const struct fr_rows *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (!strcmp(r->rows[i].name, name))
			return &r->rows[i];
	return NULL;
}

const struct fr_row *fr_rows_at(const struct fr_rows *steps, const char *name, uint32_t users)
{
	for (size_t i = 0; i < steps->count; i++)
		if (steps->rows[i].users == users && !strcmp(steps->rows[i].name, name))
			return &steps->rows[i];
	return NULL;
}

static double rounded(double value)
{
	return round(value * 1000) / 1000;
}

static json_t *real(double value)
{
	return isfinite(value) ? json_real(rounded(value)) : json_null();
}

static json_t *row_json(const struct fr_row *row, bool step)
{
	const struct fr_result *m = &row->result;
	json_t *o = json_pack(
		"{s:s s:i s:f s:s s:i s:o s:o s:o s:o s:o s:i s:i s:f s:b s:s s:s s:i s:I s:b}",
		"case", row->name, "replicas", (int)row->replicas, "fraction",
		row->permille / 1000.0, "arbitration", row->arbitration, "users_within_bound",
		row->within ? (int)row->users : 0, "tokens_per_second", real(m->tokens_per_second),
		"ttft_p50_ms", real(m->ttft_p50), "ttft_p95_ms", real(m->ttft_p95), "itl_p50_ms",
		real(m->itl_p50), "itl_p99_ms", real(m->itl_p99), "isl", (int)row->isl, "osl",
		(int)row->osl, "bound_ms", row->bound_ms, "simulated", (int)row->simulated, "model",
		row->model, "device", row->device, "users", (int)row->users, "requests",
		(json_int_t)m->requests, "host_bound", (int)fr_host_bound(&row->host));

	if (!o || !step)
		return o;
	json_object_set_new(o, "within_bound", json_boolean(row->within));
	json_object_set_new(o, "failed", json_integer((json_int_t)m->failed));
	json_object_set_new(o, "requests_per_second", real(m->requests_per_second));
	json_object_set_new(o, "ttft_max_ms", real(m->ttft_max));
	json_object_set_new(o, "generator_lag_p99_ms", real(m->lag_p99));
	json_object_set_new(o, "host_cpu_ratio", real(row->host.cpu));
	json_object_set_new(o, "host_wait_ratio", real(row->host.wait));
	json_object_set_new(o, "host_stolen_ratio", real(row->host.stolen));
	return o;
}

json_t *fr_rows_json(const struct fr_rows *r, bool steps)
{
	json_t *array = json_array();

	for (size_t i = 0; i < r->count; i++)
		json_array_append_new(array, row_json(&r->rows[i], steps));
	return array;
}

static void csv_real(FILE *out, double value)
{
	if (isfinite(value))
		fprintf(out, ",%.3f", value);
	else
		fputc(',', out);
}

int fr_rows_csv(const struct fr_rows *r, FILE *out)
{
	fputs("case,replicas,fraction,arbitration,users_within_bound,tokens_per_second,ttft_p50_ms,"
	      "ttft_p95_ms,itl_p50_ms,itl_p99_ms,isl,osl,bound_ms,simulated,model,device,users,"
	      "requests,host_bound\n",
	      out);
	for (size_t i = 0; i < r->count; i++) {
		const struct fr_row *row = &r->rows[i];
		const struct fr_result *m = &row->result;
		const double values[] = {m->tokens_per_second, m->ttft_p50, m->ttft_p95, m->itl_p50,
					 m->itl_p99};

		fprintf(out, "\"%s\",%u,%g,%s,%u", row->name, row->replicas, row->permille / 1000.0,
			row->arbitration, row->within ? row->users : 0);
		for (size_t k = 0; k < AQ_ARRAY_SIZE(values); k++)
			csv_real(out, values[k]);
		fprintf(out, ",%u,%u,%g,%s,%s,\"%s\",%u,%" PRIu64 ",%s\n", row->isl, row->osl,
			row->bound_ms, row->simulated ? "true" : "false", row->model, row->device,
			row->users, m->requests, fr_host_bound(&row->host) ? "true" : "false");
	}
	return fflush(out) || ferror(out) ? -EIO : 0;
}
