"""The ``.plan`` file: archive, manifest, and the plan as one object."""
