"""From pixels and depth to metres."""
