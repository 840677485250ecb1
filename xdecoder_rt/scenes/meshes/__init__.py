"""Objects whose meshes are made up anew for every scene."""
