"""Work on single pixels: the resize, compiled loops for this processor, bands over threads."""
