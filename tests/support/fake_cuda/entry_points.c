/* How other entry points are found, and those that are there only because programs link them. */

#define _GNU_SOURCE
#include "fake.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ---- cuGetProcAddress ---- */

/* The newest form of an entry point that a program written for `version` knows. What is not listed
 * has one form, or got its second one before any version that still matters. */
static const struct {
    const char *name, *symbol;
    int since;
} newer_forms[] = {
    {"cuCtxCreate", "cuCtxCreate_v4", 12050},
    {"cuEventElapsedTime", "cuEventElapsedTime_v2", 12080},
    {"cuGetProcAddress", "cuGetProcAddress_v2", 12000},
    {"cuGraphInstantiate", "cuGraphInstantiateWithFlags", 12000},
};

static void *own_symbol(const char *name) {
    Dl_info info;
    void *library = dladdr((void *)own_symbol, &info) && info.dli_fname
                        ? dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_LAZY)
                        : NULL;
    if (!library) return NULL;
    void *symbol = strncmp(name, "cu", 2) == 0 ? dlsym(library, name) : NULL;
    dlclose(library);
    return symbol;
}

static void *resolve(const char *name, int version) {
    for (size_t i = 0; i < sizeof newer_forms / sizeof *newer_forms; i++) {
        if (strcmp(newer_forms[i].name, name) != 0) continue;
        if (version >= newer_forms[i].since) return own_symbol(newer_forms[i].symbol);
        void *plain = own_symbol(name);
        if (plain) return plain;
    }
    char second[128];
    snprintf(second, sizeof second, "%s_v2", name);
    void *symbol = own_symbol(second);
    return symbol ? symbol : own_symbol(name);
}

EXPORT CUresult cuGetProcAddress(const char *name, void **symbol, int version, cuuint64_t flags) {
    (void)flags;
    *symbol = resolve(name, version);
    return *symbol ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **symbol, int version, cuuint64_t flags,
                                    CUdriverProcAddressQueryResult *status) {
    CUresult found = cuGetProcAddress(name, symbol, version, flags);
    if (status)
        *status = found == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS
                                        : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return found;
}

/* ---- what is not modelled ---- */

/* pycuda's extension is not imported unless all that it links is there. The arguments are not
 * looked at, so one signature serves all. */
static CUresult unsupported(const char *name) {
    __attribute__((cleanup(call_end))) struct call call = {0};
    if (!call_begin(&call, name, false, true)) return call.result;
    FAIL(CUDA_ERROR_NOT_SUPPORTED, "%s is not modelled", name);
}

#define UNSUPPORTED(name)                                                        \
    EXPORT CUresult fakecuda_no_##name(void) __asm__(#name);                     \
    EXPORT CUresult fakecuda_no_##name(void) { return unsupported(#name); }

UNSUPPORTED(cuArray3DCreate_v2)
UNSUPPORTED(cuArray3DGetDescriptor_v2)
UNSUPPORTED(cuArrayCreate_v2)
UNSUPPORTED(cuArrayDestroy)
UNSUPPORTED(cuArrayGetDescriptor_v2)
UNSUPPORTED(cuCtxAttach)
UNSUPPORTED(cuCtxDisablePeerAccess)
UNSUPPORTED(cuCtxEnablePeerAccess)
UNSUPPORTED(cuCtxGetCacheConfig)
UNSUPPORTED(cuCtxGetLimit)
UNSUPPORTED(cuCtxGetSharedMemConfig)
UNSUPPORTED(cuCtxSetCacheConfig)
UNSUPPORTED(cuCtxSetLimit)
UNSUPPORTED(cuCtxSetSharedMemConfig)
UNSUPPORTED(cuFuncSetSharedMemConfig)
UNSUPPORTED(cuFuncSetSharedSize)
UNSUPPORTED(cuIpcCloseMemHandle)
UNSUPPORTED(cuIpcGetEventHandle)
UNSUPPORTED(cuIpcGetMemHandle)
UNSUPPORTED(cuIpcOpenEventHandle)
UNSUPPORTED(cuIpcOpenMemHandle_v2)
UNSUPPORTED(cuLaunch)
UNSUPPORTED(cuLaunchGrid)
UNSUPPORTED(cuLaunchGridAsync)
UNSUPPORTED(cuLinkAddData_v2)
UNSUPPORTED(cuLinkAddFile_v2)
UNSUPPORTED(cuLinkComplete)
UNSUPPORTED(cuLinkCreate_v2)
UNSUPPORTED(cuLinkDestroy)
UNSUPPORTED(cuMemcpy3DAsync_v2)
UNSUPPORTED(cuMemcpy3DPeer)
UNSUPPORTED(cuMemcpy3DPeerAsync)
UNSUPPORTED(cuMemcpy3D_v2)
UNSUPPORTED(cuMemcpyAtoA_v2)
UNSUPPORTED(cuMemcpyAtoD_v2)
UNSUPPORTED(cuMemcpyAtoH_v2)
UNSUPPORTED(cuMemcpyDtoA_v2)
UNSUPPORTED(cuMemcpyHtoA_v2)
UNSUPPORTED(cuMemcpyPeer)
UNSUPPORTED(cuMemcpyPeerAsync)
UNSUPPORTED(cuModuleGetGlobal_v2)
UNSUPPORTED(cuModuleGetSurfRef)
UNSUPPORTED(cuModuleGetTexRef)
UNSUPPORTED(cuModuleLoad)
UNSUPPORTED(cuParamSetSize)
UNSUPPORTED(cuParamSetTexRef)
UNSUPPORTED(cuParamSetf)
UNSUPPORTED(cuParamSeti)
UNSUPPORTED(cuParamSetv)
UNSUPPORTED(cuProfilerInitialize)
UNSUPPORTED(cuProfilerStart)
UNSUPPORTED(cuProfilerStop)
UNSUPPORTED(cuStreamAttachMemAsync)
UNSUPPORTED(cuSurfRefGetArray)
UNSUPPORTED(cuSurfRefSetArray)
UNSUPPORTED(cuTexRefCreate)
UNSUPPORTED(cuTexRefDestroy)
UNSUPPORTED(cuTexRefGetAddressMode)
UNSUPPORTED(cuTexRefGetAddress_v2)
UNSUPPORTED(cuTexRefGetArray)
UNSUPPORTED(cuTexRefGetFilterMode)
UNSUPPORTED(cuTexRefGetFlags)
UNSUPPORTED(cuTexRefGetFormat)
UNSUPPORTED(cuTexRefSetAddress2D_v3)
UNSUPPORTED(cuTexRefSetAddressMode)
UNSUPPORTED(cuTexRefSetAddress_v2)
UNSUPPORTED(cuTexRefSetArray)
UNSUPPORTED(cuTexRefSetFilterMode)
UNSUPPORTED(cuTexRefSetFlags)
UNSUPPORTED(cuTexRefSetFormat)
