"""Readers of published data sets: COCO's panoptic, referring, caption and question files."""
