"""From text to tokens: sources, normalising and splitting, the vocabulary, the token store and its streamed twin."""
