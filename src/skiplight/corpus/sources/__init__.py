"""Sources of text: the Hub, files and URLs, sequences, and built-in texts; each has shards and a fingerprint."""
