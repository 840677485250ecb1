"""The forms in which labels are written: one file a form, and the table of them."""
