/* The lock, the log of calls, failures on demand, the table of objects, reset. */

#define _GNU_SOURCE
#include "fake.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kind_names[KINDS] = {"context", "stream",     "event",   "module",
                                        "graph",   "executable", "function"};
struct state state;

/* ---- text ---- */

static void text_reserve(struct text *text, size_t more) {
    if (text->size + more + 1 <= text->capacity) return;
    text->capacity = 2 * (text->size + more + 1);
    text->data = realloc(text->data, text->capacity);
    if (!text->data) abort();
}

static void text_add_list(struct text *text, const char *format, va_list list) {
    va_list again;
    va_copy(again, list);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    text_reserve(text, (size_t)size);
    vsnprintf(text->data + text->size, (size_t)size + 1, format, list);
    text->size += (size_t)size;
}

void text_add(struct text *text, const char *format, ...) {
    va_list list;
    va_start(list, format);
    text_add_list(text, format, list);
    va_end(list);
}

void text_add_quoted(struct text *text, const char *string) {
    text_add(text, "\"");
    for (const unsigned char *c = (const unsigned char *)string; *c; c++) {
        if (*c == '"' || *c == '\\' || *c < 0x20 || *c >= 0x7f)
            text_add(text, "\\u%04x", *c);
        else
            text_add(text, "%c", *c);
    }
    text_add(text, "\"");
}

void text_clear(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

/* ---- the lock ---- */

/* A kernel's stand-in is Python code that runs while the lock is held, and pycuda makes some calls
 * with the interpreter's lock and some without. So that the two locks cannot wait for each other,
 * whoever waits for this one first lets the interpreter's go. */
extern int PyGILState_Check(void) __attribute__((weak));
extern void *PyEval_SaveThread(void) __attribute__((weak));
extern void PyEval_RestoreThread(void *) __attribute__((weak));

static pthread_mutex_t mutex;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_mutex(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &attributes);
}

static void lock(void) {
    pthread_once(&once, make_mutex);
    if (pthread_mutex_trylock(&mutex) == 0) return;
    void *thread = PyGILState_Check && PyGILState_Check() ? PyEval_SaveThread() : NULL;
    pthread_mutex_lock(&mutex);
    if (thread) PyEval_RestoreThread(thread);
}

static void unlock(void) { pthread_mutex_unlock(&mutex); }

/* ---- calls ---- */

static struct text log_text;    /* members of a JSON array */
static struct text last_error;
static struct {
    char name[64];
    unsigned after;
    CUresult result;
} failure;

bool call_begin(struct call *call, const char *name, bool quiet, bool needs_init) {
    lock();
    call->name = name;
    call->quiet = quiet;
    if (failure.name[0] && strcmp(name, failure.name) == 0 && failure.after-- == 0) {
        failure.name[0] = 0;
        call_fail(call, failure.result, "failed on demand");
    } else if (needs_init && !state.initialized) {
        call_fail(call, CUDA_ERROR_NOT_INITIALIZED, "cuInit was not called");
    }
    return call->result == CUDA_SUCCESS;
}

void call_end(struct call *call) {
    if (!call->quiet || call->result != CUDA_SUCCESS) {
        if (log_text.size) text_add(&log_text, ",");
        text_add(&log_text, "{\"call\":\"%s\",\"result\":%d", call->name, (int)call->result);
        if (call->message.size) {
            text_add(&log_text, ",\"message\":");
            text_add_quoted(&log_text, call->message.data);
            text_clear(&last_error);
            text_add(&last_error, "%s: %s", call->name, call->message.data);
        }
        text_add(&log_text, ",\"arguments\":{%s}}", call->arguments.size ? call->arguments.data : "");
    }
    text_clear(&call->arguments);
    text_clear(&call->message);
    unlock();
}

CUresult call_fail(struct call *call, CUresult result, const char *format, ...) {
    va_list list;
    va_start(list, format);
    text_clear(&call->message);
    text_add_list(&call->message, format, list);
    va_end(list);
    return call->result = result;
}

static void argument_name(struct call *call, const char *name) {
    text_add(&call->arguments, "%s\"%s\":", call->arguments.size ? "," : "", name);
}

void argument(struct call *call, const char *name, uint64_t value) {
    argument_name(call, name);
    text_add(&call->arguments, "%llu", (unsigned long long)value);
}

void argument_text(struct call *call, const char *name, const char *value) {
    argument_name(call, name);
    text_add_quoted(&call->arguments, value);
}

void argument_bytes(struct call *call, const char *name, const void *bytes, size_t size) {
    argument_name(call, name);
    text_add(&call->arguments, "\"");
    for (size_t i = 0; i < size; i++)
        text_add(&call->arguments, "%02x", ((const unsigned char *)bytes)[i]);
    text_add(&call->arguments, "\"");
}

void argument_triple(struct call *call, const char *name, const unsigned *values) {
    argument_name(call, name);
    text_add(&call->arguments, "[%u,%u,%u]", values[0], values[1], values[2]);
}

/* ---- objects ---- */

/* Dead objects stay in the table, so that a handle kept too long is told from a wrong one. */
static struct object **objects;
static size_t object_count, object_capacity;

struct object *object_new(enum kind kind, struct object *context) {
    if (object_count == object_capacity) {
        object_capacity = object_capacity ? 2 * object_capacity : 64;
        objects = realloc(objects, object_capacity * sizeof *objects);
    }
    struct object *object = calloc(1, sizeof *object);
    if (!objects || !object) abort();
    object->kind = kind;
    object->alive = true;
    object->context = context;
    object->handle = (UINT64_C(0x7a) << 56) | ((uint64_t)(state.generation & 0xffff) << 40) |
                     ((uint64_t)(object_count + 1) << 4);
    return objects[object_count++] = object;
}

struct object *object_find(uint64_t handle, enum kind kind, bool dead_too) {
    size_t index = (handle >> 4) & 0xffffffff;
    if (index == 0 || index > object_count) return NULL;
    struct object *object = objects[index - 1];
    bool found = object->handle == handle && object->kind == kind && (object->alive || dead_too);
    return found ? object : NULL;
}

struct object *object_next(size_t *position) {
    return *position < object_count ? objects[(*position)++] : NULL;
}

CUresult object_get(struct call *call, const void *handle, enum kind kind, struct object **found) {
    struct object *object = object_find((uint64_t)(uintptr_t)handle, kind, true);
    if (!object)
        return call_fail(call, CUDA_ERROR_INVALID_HANDLE, "%p is not a %s", handle,
                         kind_names[kind]);
    if (!object->alive && object->context && !object->context->alive)
        return call_fail(call, CUDA_ERROR_CONTEXT_IS_DESTROYED,
                         "the %s %p went with its context", kind_names[kind], handle);
    if (!object->alive)
        return call_fail(call, CUDA_ERROR_INVALID_HANDLE, "the %s %p was destroyed",
                         kind_names[kind], handle);
    *found = object;
    return CUDA_SUCCESS;
}

/* ---- what tests call ---- */

/* Forgets everything: memory, objects, the log. The device's configuration stays. */
EXPORT void fakecuda_reset(void) {
    lock();
    memory_drop(NULL);
    for (size_t i = 0; i < object_count; i++) {
        if (objects[i]->kind == STREAM) stream_discard(objects[i]);
        if (objects[i]->kind == MODULE) image_free(objects[i]->module.image);
        if (objects[i]->kind == GRAPH || objects[i]->kind == EXECUTABLE) graph_free(objects[i]);
    }
    for (size_t i = 0; i < object_count; i++) free(objects[i]);
    object_count = 0;
    text_clear(&log_text);
    text_clear(&last_error);
    failure.name[0] = 0;
    state.initialized = state.deferred = false;
    state.generation++;
    unlock();
}

EXPORT void fakecuda_configure(const struct device *device) {
    lock();
    state.device = *device;
    state.device.name[sizeof state.device.name - 1] = 0;
    unlock();
}

/* Whether work on a stream waits until something synchronizes with it. */
EXPORT void fakecuda_defer(int deferred) {
    lock();
    state.deferred = deferred;
    unlock();
}

/* The call of `name` after the next `after` calls of it gives `result` and does nothing. */
EXPORT void fakecuda_fail(const char *name, unsigned after, int result) {
    lock();
    snprintf(failure.name, sizeof failure.name, "%s", name);
    failure.after = after;
    failure.result = (CUresult)result;
    unlock();
}

/* The calls so far, as a JSON array; to be given to fakecuda_free. */
EXPORT char *fakecuda_log(void) {
    lock();
    struct text text = {0};
    text_add(&text, "[%s]", log_text.size ? log_text.data : "");
    unlock();
    return text.data;
}

/* What lives, as a JSON object; to be given to fakecuda_free. */
EXPORT char *fakecuda_live(void) {
    lock();
    size_t counts[KINDS] = {0};
    for (size_t i = 0; i < object_count; i++) {
        bool implied = objects[i]->kind == STREAM &&
                       objects[i]->context->ctx.default_stream == objects[i];
        if (objects[i]->alive && !implied) counts[objects[i]->kind]++;
    }
    struct text text = {0};
    text_add(&text, "{\"allocations\":[");
    memory_describe(&text);
    text_add(&text, "]");
    for (int kind = 0; kind < FUNCTION; kind++)
        text_add(&text, ",\"%ss\":%zu", kind_names[kind], counts[kind]);
    text_add(&text, "}");
    unlock();
    return text.data;
}

/* The last failure as a sentence, or ""; to be given to fakecuda_free. */
EXPORT char *fakecuda_last_error(void) {
    lock();
    struct text text = {0};
    text_add(&text, "%s", last_error.size ? last_error.data : "");
    unlock();
    return text.data;
}

EXPORT void fakecuda_free(char *text) { free(text); }
