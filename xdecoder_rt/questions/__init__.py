"""Questions to an encoded image: one file a task, with its rows and the reading of its answer."""
