"""Evaluation at the end of every epoch too, for callbacks that monitor what it finds."""

from __future__ import annotations

import lightning

from skiplight.training.callbacks.evaluation import Evaluation
from skiplight.training.module import SkipGramModule


class EpochEvaluation(Evaluation):
    """Evaluate before EarlyStopping and ModelCheckpoint read their metric, which they do at the end of an epoch.

    The last epoch of a run is left to the evaluation at the end where callbacks then change the tables
    (`changes_tables`), as those that average them do.
    """

    changes_tables = False

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        ended = pl_module.tokens >= pl_module.total_tokens
        if self.evaluated != pl_module.tokens and not self.interrupted() and not (ended and self.changes_tables):
            self.run(trainer, pl_module)
