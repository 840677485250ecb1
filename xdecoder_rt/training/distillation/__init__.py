"""Meanings of words, learnt from a sentence encoder: unseen names land near known ones."""
