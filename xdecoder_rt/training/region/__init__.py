"""Makes the classifier of regions of a compact model: :mod:`xdecoder_rt.models.region`."""
