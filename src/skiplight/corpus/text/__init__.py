"""From rows of text to documents, normalised tokens, counts of words, and ids, document by document."""
