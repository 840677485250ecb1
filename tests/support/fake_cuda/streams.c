/* Streams and events: what is submitted runs at once, or, where running is deferred, as late as
 * the rules of streams allow: a program that forgets to wait then reads what was there before. */

#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

struct operation *operation_new(int kind) {
    struct operation *operation = calloc(1, sizeof *operation);
    if (!operation) abort();
    operation->kind = kind;
    return operation;
}

static void operation_free(struct operation *operation) {
    free(operation->staged);
    free(operation->parameters);
    free(operation);
}

static void fill(const struct operation *o) {
    for (size_t row = 0; row < o->height; row++)
        for (size_t at = 0; at < o->width; at += (size_t)o->value_size)
            memcpy(o->target + row * o->target_pitch + at, &o->value, (size_t)o->value_size);
}

static CUresult execute(struct call *call, struct operation *o) {
    switch (o->kind) {
        case COPY:
            for (size_t row = 0; row < o->height; row++)
                memmove(o->target + row * o->target_pitch, o->source + row * o->source_pitch,
                        o->width);
            return CUDA_SUCCESS;
        case FILL:
            fill(o);
            return CUDA_SUCCESS;
        case LAUNCH:
            return run_launch(call, o);
        case RECORD:
            if (o->object->event.stream == o->stream && o->object->event.ticket == o->ticket) {
                o->object->event.done = true; /* else it was recorded anew since */
                o->object->event.milliseconds = now();
            }
            return CUDA_SUCCESS;
        case WAIT:
            return drain(call, o->stream, o->until);
    }
    return CUDA_SUCCESS;
}

static CUresult finish_first(struct call *call, struct object *stream) {
    struct operation *o = stream->stream.first;
    stream->stream.first = o->next;
    if (!o->next) stream->stream.last = NULL;
    CUresult done = execute(call, o);
    stream->stream.finished = o->ticket;
    operation_free(o);
    return done;
}

/* Runs what is queued in the stream up to the operation numbered `until`. */
CUresult drain(struct call *call, struct object *stream, uint64_t until) {
    CUresult worst = CUDA_SUCCESS;
    while (stream->stream.first && stream->stream.first->ticket <= until) {
        CUresult done = finish_first(call, stream);
        if (done != CUDA_SUCCESS) worst = done;
    }
    return worst;
}

CUresult drain_context(struct call *call, struct object *context, bool non_blocking_too) {
    CUresult worst = CUDA_SUCCESS;
    struct object *object;
    for (size_t at = 0; (object = object_next(&at));) {
        if (object->kind != STREAM || object->context != context || !object->alive) continue;
        if (object->stream.non_blocking && !non_blocking_too) continue;
        CUresult done = drain(call, object, UINT64_MAX);
        if (done != CUDA_SUCCESS) worst = done;
    }
    return worst;
}

void stream_discard(struct object *stream) {
    for (struct operation *o = stream->stream.first, *next; o; o = next) {
        next = o->next;
        operation_free(o);
    }
    stream->stream.first = stream->stream.last = NULL;
}

CUresult submit(struct call *call, struct object *stream, struct operation *operation) {
    CUresult done = CUDA_SUCCESS;
    if (stream->stream.capturing) return capture(call, stream, operation);
    operation->ticket = ++stream->stream.issued;
    if (operation->kind == RECORD) operation->object->event.ticket = operation->ticket;
    if (!state.deferred && !stream->stream.first) {
        done = execute(call, operation);
        stream->stream.finished = operation->ticket;
        operation_free(operation);
        return done;
    }
    if (operation->kind == COPY && is_pageable(operation->source)) {
        /* The driver takes its own copy of pageable memory before it returns. */
        size_t size = operation->width * operation->height;
        operation->staged = malloc(size ? size : 1);
        if (!operation->staged) abort();
        for (size_t row = 0; row < operation->height; row++)
            memcpy((char *)operation->staged + row * operation->width,
                   operation->source + row * operation->source_pitch, operation->width);
        operation->source = operation->staged;
        operation->source_pitch = operation->width;
    }
    bool to_pageable = operation->kind == COPY && is_pageable(operation->target);
    if (stream->stream.last)
        stream->stream.last->next = operation;
    else
        stream->stream.first = operation;
    stream->stream.last = operation;
    /* The default stream waits for all blocking streams, and they for it. */
    struct object *first = stream->context->ctx.default_stream;
    if (stream == first) {
        struct object *other;
        for (size_t at = 0; (other = object_next(&at));)
            if (other->kind == STREAM && other->alive && other != stream &&
                other->context == stream->context && !other->stream.non_blocking)
                if (drain(call, other, UINT64_MAX) != CUDA_SUCCESS) done = call->result;
    } else if (!stream->stream.non_blocking && drain(call, first, UINT64_MAX) != CUDA_SUCCESS) {
        done = call->result;
    }
    if (to_pageable && drain(call, stream, UINT64_MAX) != CUDA_SUCCESS) done = call->result;
    return done;
}

/* ---- streams ---- */

/* 0 and 1 are the default stream's handles, 2 the per-thread default stream's. */
CUresult stream_get(struct call *call, struct object *context, CUstream handle,
                    struct object **found) {
    argument(call, "stream", (uint64_t)(uintptr_t)handle);
    if ((uintptr_t)handle == 2)
        return call_fail(call, CUDA_ERROR_NOT_SUPPORTED,
                         "the per-thread default stream is not modelled");
    if ((uintptr_t)handle < 2) {
        *found = context->ctx.default_stream;
        return CUDA_SUCCESS;
    }
    TRY(object_get(call, handle, STREAM, found));
    if ((*found)->context != context)
        return call_fail(call, CUDA_ERROR_INVALID_HANDLE,
                         "the stream %p is of another context than the current one",
                         (void *)handle);
    return CUDA_SUCCESS;
}

#define NEED_STREAM()              \
    NEED_CONTEXT();                \
    struct object *stream = NULL;  \
    TRY(stream_get(&call, context, handle, &stream))

EXPORT CUresult cuStreamCreateWithPriority(CUstream *result, unsigned flags, int priority) {
    CALL(cuStreamCreate);
    NEED_CONTEXT();
    if (flags > 1) FAIL(CUDA_ERROR_INVALID_VALUE, "unknown flags 0x%x", flags);
    struct object *stream = object_new(STREAM, context);
    stream->stream.non_blocking = flags & 1;
    stream->stream.priority = priority;
    argument(&call, "stream", stream->handle);
    argument(&call, "flags", flags);
    *result = (CUstream)(uintptr_t)stream->handle;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreate(CUstream *result, unsigned flags) {
    return cuStreamCreateWithPriority(result, flags, 0);
}

EXPORT CUresult cuStreamDestroy_v2(CUstream handle) {
    CALL(cuStreamDestroy);
    NEED_STREAM();
    if (stream == context->ctx.default_stream)
        FAIL(CUDA_ERROR_INVALID_HANDLE, "the default stream cannot be destroyed");
    CUresult done = drain(&call, stream, UINT64_MAX);
    stream->alive = false;
    return done;
}

EXPORT CUresult cuStreamSynchronize(CUstream handle) {
    CALL(cuStreamSynchronize);
    NEED_STREAM();
    TRY(refuse_captured(&call, stream));
    if (stream == context->ctx.default_stream) TRY(drain_context(&call, context, false));
    return drain(&call, stream, UINT64_MAX);
}

/* A question also makes progress: who asks in a loop gets an end. */
EXPORT CUresult cuStreamQuery(CUstream handle) {
    QUERY(cuStreamQuery);
    NEED_STREAM();
    TRY(refuse_captured(&call, stream));
    if (!stream->stream.first) return CUDA_SUCCESS;
    TRY(finish_first(&call, stream));
    return CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned flags) {
    CALL(cuStreamWaitEvent);
    NEED_STREAM();
    argument(&call, "event", (uint64_t)(uintptr_t)event);
    if (flags) FAIL(CUDA_ERROR_INVALID_VALUE, "flags 0x%x; 0 was expected", flags);
    struct object *object = NULL;
    TRY(object_get(&call, event, EVENT, &object));
    if (!object->event.recorded || object->event.done) return CUDA_SUCCESS;
    struct operation *operation = operation_new(WAIT);
    operation->stream = object->event.stream;
    operation->until = object->event.ticket;
    return submit(&call, stream, operation);
}

EXPORT CUresult cuStreamGetFlags(CUstream handle, unsigned *flags) {
    QUERY(cuStreamGetFlags);
    NEED_STREAM();
    *flags = stream->stream.non_blocking;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetPriority(CUstream handle, int *priority) {
    QUERY(cuStreamGetPriority);
    NEED_STREAM();
    *priority = stream->stream.priority;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext *result) {
    QUERY(cuStreamGetCtx);
    NEED_STREAM();
    *result = (CUcontext)(uintptr_t)stream->context->handle;
    return CUDA_SUCCESS;
}

/* ---- events ---- */

#define NEED_EVENT()                                          \
    struct object *event = NULL;                              \
    argument(&call, "event", (uint64_t)(uintptr_t)handle);    \
    TRY(object_get(&call, handle, EVENT, &event))

EXPORT CUresult cuEventCreate(CUevent *result, unsigned flags) {
    CALL(cuEventCreate);
    NEED_CONTEXT();
    if (flags & ~3u) FAIL(CUDA_ERROR_NOT_SUPPORTED, "flags 0x%x are not modelled", flags);
    struct object *event = object_new(EVENT, context);
    event->event.timing = !(flags & 2);
    argument(&call, "event", event->handle);
    *result = (CUevent)(uintptr_t)event->handle;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(CUevent handle) {
    CALL(cuEventDestroy);
    NEED_EVENT();
    event->alive = false;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
    CALL(cuEventRecord);
    NEED_CONTEXT();
    NEED_EVENT();
    struct object *stream = NULL;
    TRY(stream_get(&call, context, stream_handle, &stream));
    if (event->context != context)
        FAIL(CUDA_ERROR_INVALID_HANDLE, "the event is of another context than the current one");
    event->event.recorded = true;
    event->event.done = false;
    event->event.stream = stream;
    struct operation *operation = operation_new(RECORD);
    operation->object = event;
    operation->stream = stream;
    return submit(&call, stream, operation);
}

EXPORT CUresult cuEventSynchronize(CUevent handle) {
    CALL(cuEventSynchronize);
    NEED_EVENT();
    if (!event->event.recorded) return CUDA_SUCCESS;
    return drain(&call, event->event.stream, event->event.ticket);
}

EXPORT CUresult cuEventQuery(CUevent handle) {
    QUERY(cuEventQuery);
    NEED_EVENT();
    if (!event->event.recorded || event->event.done) return CUDA_SUCCESS;
    TRY(finish_first(&call, event->event.stream));
    return CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent from, CUevent to) {
    CALL(cuEventElapsedTime);
    struct object *first = NULL, *second = NULL;
    TRY(object_get(&call, from, EVENT, &first));
    TRY(object_get(&call, to, EVENT, &second));
    if (!first->event.timing || !second->event.timing)
        FAIL(CUDA_ERROR_INVALID_HANDLE, "an event was created without timing");
    if (!first->event.recorded || !second->event.recorded)
        FAIL(CUDA_ERROR_INVALID_HANDLE, "an event was never recorded");
    if (!first->event.done || !second->event.done)
        FAIL(CUDA_ERROR_NOT_READY, "an event is not reached yet");
    *milliseconds = (float)(second->event.milliseconds - first->event.milliseconds);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
    return cuEventElapsedTime_v2(milliseconds, from, to);
}
