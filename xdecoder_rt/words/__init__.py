"""Words and sentences: vocabularies, tokens, the text graph, and where embeddings are kept."""
