"""Which windows and negatives a position of the text gives: draws, subsampling, windows, the noise distribution."""
