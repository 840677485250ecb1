"""Training: data, losses, and a loop that resumes. Needs the ``train`` extra.

`trainer.train` runs a `config.TrainConfig`; `arguments` makes one from a command line;
``python -m xdecoder_rt.training`` does both.
"""
