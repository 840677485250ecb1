"""Three-dimensional models of what stands in homes, offices, streets and gardens."""
