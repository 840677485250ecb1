"""Level shrink of mask features: the mask features at the resolution of each decoder level."""
