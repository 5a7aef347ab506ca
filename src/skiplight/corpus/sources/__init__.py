"""Where text comes from: the Hub, files and URLs, sequences, and the texts that need no download.

In come the options of a source; out go loaders of rows of text, in shards, and a fingerprint of their content.
"""
