"""What words mean, learnt from a sentence encoder: unseen names land near those that are known."""
