"""Frames scaled into a network input: the letterbox of the CPU, bit by bit, where the frame is."""
