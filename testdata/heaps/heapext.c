/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * heapext: an extension of Python, in C, which heapext.py uses.
 *
 *   parse(n, leak)  makes a document of a few nodes, and frees all; with leak, the last one only
 *                   every third time, as it forgets it where it finds an error
 *   digest(n)       frees what it makes
 *
 * Both return how many bytes they allocated, and are as innocent as their wrapper, node_alloc,
 * but for parse_document with leak.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#define APART __attribute__((noipa))

struct node {
	struct node *next;
	size_t len;
	char body[];
};

static APART struct node *node_alloc(size_t len)
{
	struct node *n = malloc(sizeof *n + len);
	if (!n)
		abort();
	n->len = len;
	memset(n->body, 'n', len);
	return n;
}

static APART size_t parse_document(unsigned n, int leak)
{
	struct node *nodes[9];
	size_t done = 0;
	for (unsigned i = 0; i < 9; i++) {
		nodes[i] = node_alloc(i < 8 ? 40 + (n + i) * 131 % 200 : 150);
		done += sizeof *nodes[i] + nodes[i]->len;
	}
	for (unsigned i = 0; i < 8; i++)
		free(nodes[i]);
	if (!leak || n % 3)
		free(nodes[8]);
	return done;
}

static APART size_t digest_block(unsigned n)
{
	size_t len = 100 + n * 53 % 2000;
	free(node_alloc(len));
	return len;
}

static PyObject *parse(PyObject *self, PyObject *args)
{
	unsigned n;
	int leak;
	(void)self;
	if (!PyArg_ParseTuple(args, "Ip", &n, &leak))
		return NULL;
	return PyLong_FromSize_t(parse_document(n, leak));
}

static PyObject *digest(PyObject *self, PyObject *args)
{
	unsigned n;
	(void)self;
	if (!PyArg_ParseTuple(args, "I", &n))
		return NULL;
	return PyLong_FromSize_t(digest_block(n));
}

static PyMethodDef methods[] = {
	{"parse", parse, METH_VARARGS, NULL},
	{"digest", digest, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	.m_base = PyModuleDef_HEAD_INIT, .m_name = "heapext", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_heapext(void)
{
	return PyModule_Create(&module);
}
