"""Photographed things and grounds: cut-outs with their names, what a ground shows, scenes of both."""
