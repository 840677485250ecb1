"""Quantization: calibration sets, range estimators, sensitivity search."""
