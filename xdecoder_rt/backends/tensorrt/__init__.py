"""The backend of TensorRT and TensorRT-RTX engines."""
