"""Labelled images on disk: the labelled folder, COCO, RefCOCO and VQA files, as items to read."""
