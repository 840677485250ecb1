"""Photographed things and grounds: what they show, and scenes of both."""
