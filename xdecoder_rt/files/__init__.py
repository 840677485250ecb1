"""Files that a stranger may have made: opened only if regular, images only if of a photograph."""
