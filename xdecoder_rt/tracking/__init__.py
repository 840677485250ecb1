"""Segments that keep their ids from frame to frame."""
