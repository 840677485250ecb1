"""Parity with the original network: reference tensors in, a verdict a tensor out.

``python -m xdecoder_rt.parity DIR`` runs a fixture folder (weights, inputs, and the arrays
that the original computed from them) through our model and compares every array.
"""
