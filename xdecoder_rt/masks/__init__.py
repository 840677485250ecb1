"""From class and mask logits to maps and masks at the size of the image."""
