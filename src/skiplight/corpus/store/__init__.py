"""Encoded text: a `TokenStore`, mapped into memory, or a `TokenStream`; both give the same segments."""
