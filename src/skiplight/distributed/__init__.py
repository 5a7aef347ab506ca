"""Training on several ranks: which of them a process is, how they are started, and what they share or exchange.

rank              rank and world of this process, before torch.distributed is up
launcher          starts the other ranks of a machine on the same run folder, and watches them
strategy          what both strategies of Lightning have in common
gradient_exchange sums gradients over the ranks, row by row: for engines whose optimiser steps
in_place          shares tables within a machine and reconciles those of machines: for engines that move them in place
shared_memory     puts tensors into memory that the processes of a machine share
reconciliation    the rule by which the changes of several replicas become one
curvature         the curvature of the loss, which that rule needs
schedule          which rows are exchanged after which step
"""
