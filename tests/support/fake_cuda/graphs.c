/* Graphs: what is submitted to a stream while it is captured, to be submitted again and again. */

#include "fake.h"

#include <stdlib.h>
#include <string.h>

static struct operation *copy_of(const struct operation *operation) {
    struct operation *copy = operation_new(operation->kind);
    *copy = *operation;
    copy->next = NULL;
    if (operation->parameters) {
        copy->parameters = malloc(operation->parameter_size + 1);
        if (!copy->parameters) abort();
        memcpy(copy->parameters, operation->parameters, operation->parameter_size);
    }
    return copy;
}

static void free_all(struct operation **first) {
    for (struct operation *next; *first; *first = next) {
        next = (*first)->next;
        free((*first)->parameters);
        free(*first);
    }
}

/* Takes the operation over. */
CUresult capture(struct call *call, struct object *stream, struct operation *operation) {
    if (operation->kind == RECORD || operation->kind == WAIT) {
        free(operation);
        stream->stream.invalid = true;
        return call_fail(call, CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
                         "events are not modelled within a capture; record and wait around it");
    }
    if (operation->kind == COPY && is_pageable(operation->source)) {
        free(operation);
        stream->stream.invalid = true;
        return call_fail(call, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a copy of pageable memory in a capture");
    }
    struct operation **last = &stream->stream.captured;
    while (*last) last = &(*last)->next;
    *last = operation;
    return CUDA_SUCCESS;
}

CUresult refuse_captured(struct call *call, struct object *stream) {
    if (!stream->stream.capturing) return CUDA_SUCCESS;
    stream->stream.invalid = true;
    return call_fail(call, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the stream is being captured");
}

void graph_free(struct object *graph) { free_all(&graph->graph.first); }

#define NEED_STREAM()             \
    NEED_CONTEXT();               \
    struct object *stream = NULL; \
    TRY(stream_get(&call, context, handle, &stream))

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
    CALL(cuStreamBeginCapture);
    NEED_STREAM();
    argument(&call, "mode", (uint64_t)mode);
    if (stream == context->ctx.default_stream)
        FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the default stream cannot be captured");
    if (stream->stream.capturing) FAIL(CUDA_ERROR_INVALID_VALUE, "it is captured already");
    stream->stream.capturing = true;
    stream->stream.invalid = false;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *result) {
    CALL(cuStreamEndCapture);
    *result = NULL;
    NEED_STREAM();
    if (!stream->stream.capturing) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the stream is not captured");
    stream->stream.capturing = false;
    if (stream->stream.invalid) {
        free_all(&stream->stream.captured);
        FAIL(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "something in the capture was refused");
    }
    struct object *graph = object_new(GRAPH, context);
    graph->graph.first = stream->stream.captured;
    stream->stream.captured = NULL;
    *result = (CUgraph)(uintptr_t)graph->handle;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *result, CUgraph handle,
                                            unsigned long long flags) {
    CALL(cuGraphInstantiate);
    NEED_CONTEXT();
    struct object *graph = NULL;
    TRY(object_get(&call, handle, GRAPH, &graph));
    if (flags) FAIL(CUDA_ERROR_NOT_SUPPORTED, "flags 0x%llx are not modelled", flags);
    struct object *executable = object_new(EXECUTABLE, context);
    struct operation **last = &executable->graph.first;
    for (const struct operation *o = graph->graph.first; o; o = o->next) {
        *last = copy_of(o);
        last = &(*last)->next;
    }
    *result = (CUgraphExec)(uintptr_t)executable->handle;
    return CUDA_SUCCESS;
}

/* What is captured was checked then; since, its memory may have been freed. */
static CUresult check_again(struct call *call, const struct operation *o) {
    if (o->kind == LAUNCH)
        return check_pointers(call, o->object->function.kernel, o->parameters);
    const void *places[] = {o->target, o->kind == COPY ? o->source : NULL};
    for (int i = 0; i < 2; i++) {
        const struct allocation *a = allocation_at((uint64_t)(uintptr_t)places[i]);
        if (places[i] && (!a || !a->alive))
            return call_fail(call, CUDA_ERROR_ILLEGAL_ADDRESS,
                             "%p of the graph is in memory that was freed", places[i]);
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec graph_handle, CUstream handle) {
    CALL(cuGraphLaunch);
    NEED_STREAM();
    struct object *graph = NULL;
    TRY(object_get(&call, graph_handle, EXECUTABLE, &graph));
    for (const struct operation *o = graph->graph.first; o; o = o->next) {
        TRY(check_again(&call, o));
        struct operation *again = copy_of(o);
        again->stream_handle = (uint64_t)(uintptr_t)handle;
        TRY(submit(&call, stream, again));
    }
    return CUDA_SUCCESS;
}

static CUresult destroy(struct call *call, const void *handle, enum kind kind) {
    struct object *graph = NULL;
    TRY(object_get(call, handle, kind, &graph));
    graph_free(graph);
    graph->alive = false;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph handle) {
    CALL(cuGraphDestroy);
    return destroy(&call, handle, GRAPH);
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle) {
    CALL(cuGraphExecDestroy);
    return destroy(&call, handle, EXECUTABLE);
}
