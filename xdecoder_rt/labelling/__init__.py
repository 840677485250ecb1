"""Labels for whole folders and videos of pictures, made by an engine and written as data sets."""
