"""Training on several ranks: their identity, their start, and the exchange of tables or gradients.

rank              rank and world of this process, before torch.distributed is initialised
launcher          starts the other ranks of a machine on the same run folder, and watches them
strategy          the base of both strategies for Lightning
gradient_exchange sums gradients over the ranks: for engines whose tables move in the optimiser's step
in_place          shares tables within a machine and reconciles those of machines: for engines that move them in place
by_name           either of them for one's own Trainer, chosen by the module's engine
replica_exchange  exchanges the changes of replicas: for tables that are moved in place
shared_memory     tensors in memory that the processes of a machine share
reconciliation    the rule by which the changes of several replicas become one
curvature         the curvature of the loss, which that rule needs
schedule          which rows are exchanged after which step
"""
