"""Labelled images and the scores of an engine on them.

`labelled_folder` reads and writes the folder format; `evaluate.evaluate` runs an engine over it and
gives a `report.Report`; each metric has a module of its own (`panoptic_quality`, `semantic`,
`referring`, `retrieval`, `captions`, `answers`).
"""
