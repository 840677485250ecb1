/* What TensorRT's Python bindings link, so that they can be imported without TensorRT. Nothing here
   makes an object: signatures, enumerations and classes to derive from are all that can be had. */

#include <stdbool.h>
#include <stddef.h>

void *createInferBuilder_INTERNAL(void *logger, int version) { return NULL; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return NULL; }
void *createInferRuntime_INTERNAL(void *logger, int version) { return NULL; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return NULL; }
void *getBuilderPluginRegistry(int capability) { return NULL; }
void *getPluginRegistry(void) { return NULL; }
bool initLibNvInferPlugins(void *logger, const char *name) { return false; }
int getInferLibVersion(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
