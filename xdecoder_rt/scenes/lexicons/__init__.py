"""What the stamps and the models of others show, by hand: names that were checked by looking."""
