"""Windows and negatives as pure functions of seed, epoch, position and slot.

Input: tokens and their counts. Output: windows, negatives and masks, the same in torch, Numba and Triton.
"""
