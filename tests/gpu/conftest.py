"""A GPU with TensorRT, and CUDA's driver, where there is neither."""

from fake_cuda import fake_cuda, fake_driver  # noqa: F401
from fake_tensorrt import gpu  # noqa: F401
