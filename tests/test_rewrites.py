"""Every exact rewrite of the network against the original's order of operations."""

from __future__ import annotations

import pytest
import torch
from conftest_models import randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
