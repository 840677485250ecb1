"""What the scores of a compact model are worth: curves fitted to labelled images."""
