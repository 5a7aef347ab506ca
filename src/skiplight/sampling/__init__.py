"""Which windows and negatives are seen, as pure functions of seed, epoch, position and slot.

In come tokens and their counts; out go windows, negatives and masks, the same in torch, Numba and Triton.
"""
