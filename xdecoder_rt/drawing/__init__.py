"""Pictures of results: masks, outlines, labels and strips of text."""
