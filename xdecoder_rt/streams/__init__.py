"""Frames from cameras, videos and folders, newest first."""
