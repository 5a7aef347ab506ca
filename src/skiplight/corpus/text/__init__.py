"""What becomes of text: documents, normalised tokens, counts of words, and ids.

In come rows of text; out go the ids of in-vocabulary tokens, document by document.
"""
