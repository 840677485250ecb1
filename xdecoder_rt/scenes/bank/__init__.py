"""A bank of pictures from which training scenes are composed as they are needed.

A bank is made once (``python -m xdecoder_rt.scenes bank``): cut-outs of things, drawn and
rendered, whole labelled scenes, and photographs. :class:`~.composed.ComposedScenes` puts them
together, another scene for every sample.
"""
