"""Quantization: calibration sets, range estimators, the QDQ writer, the sensitivity search.

=================  ============================================================
``sets``           what a model is calibrated on: images, labels where there are any
``observe``        histograms of activations, gathered by running the tasks; kept on disk
``ranges``         range estimators: max, percentile, entropy, mse
``profiles``       what each target wants quantized, and in which form
``qdq``            writes QuantizeLinear and DequantizeLinear into a graph
``groups``         candidates: which operators are quantized, or kept, together
``sensitivity``    finds the largest quantized set within an accuracy budget
``report``         what was kept and why: Markdown, JSON, a plot
=================  ============================================================
"""
