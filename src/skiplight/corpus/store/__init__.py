"""Encoded text: segments of documents, stored once and mapped into memory, or streamed.

In come documents of ids; out go a `TokenStore` or a `TokenStream`, which give the same segments.
"""
