"""Training on several ranks: which of them a process is, how they are started, and what they exchange.

place             rank and world of this process, before torch.distributed is up
launcher          starts the other ranks of a machine on the same run folder, and watches them
strategy          what both strategies of Lightning have in common
gradient_exchange sums gradients over the ranks, row by row: for engines whose optimiser steps
table_averaging   reconciles tables that every rank moves by itself: for engines that move them in place
roll_call         makes sure that the ranks begin alike, and writes down who they are
"""
