"""From a graph's edges, by random walks, to node vectors and a classifier of nodes (DeepWalk, Perozzi et al. 2014).

    python scripts/examples/nodes.py

The graph is a planted partition: six communities of fifty nodes, dense within and sparse between. The walks are the
text, in which a node is a word. A linear classifier learns the communities from the vectors of a tenth of the nodes and
predicts those of the rest; it is compared with always predicting the largest community.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import networkx
import numpy as np
import torch
from sklearn.metrics import f1_score

import skiplight

COMMUNITIES, MEMBERS = 6, 50
WALKS, STEPS = 20, 40


def random_walks(graph: networkx.Graph, seed: int = 0) -> list[str]:
    """Return random walks of STEPS nodes, WALKS from every node, each as a line of node names."""
    rng = np.random.default_rng(seed)
    neighbors = {node: list(graph[node]) for node in graph}
    lines = []
    for start in list(graph) * WALKS:
        walk = [start]
        while len(walk) < STEPS and neighbors[walk[-1]]:
            walk.append(neighbors[walk[-1]][rng.integers(len(neighbors[walk[-1]]))])
        lines.append(" ".join(map(str, walk)))
    return lines


def classify(features: torch.Tensor, labels: torch.Tensor, share: float = 0.1, seed: int = 0) -> float:
    """Train a linear classifier on a share of [n, d] features and [n] labels; return its macro F1 on the others."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    seen, asked = order[: int(share * len(labels))], order[int(share * len(labels)) :]
    model = torch.nn.Linear(features.shape[1], COMMUNITIES)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(features[seen]), labels[seen]).backward()
        optimizer.step()
    guess = model(features[asked]).argmax(1)
    return float(f1_score(labels[asked], guess, average="macro"))


def main(options: list[str]) -> tuple[float, float]:
    """Train and print both F1 scores; `options` are overrides as for `skiplight train`."""
    graph = networkx.planted_partition_graph(COMMUNITIES, MEMBERS, p_in=0.15, p_out=0.01, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walks.txt"
        path.write_text("\n".join(random_walks(graph)) + "\n")
        run = skiplight.train(
            "data=sequences", f"data.path={path}", f"data.store={folder}/stores",
            "sampling.subsample=0", "vocabulary.min_count=1", "model.dim=32", "trainer.max_epochs=3",
            "data.heldout=0", "evaluation.similarity=[]", "logger=none", *options, run_dir=f"{folder}/run",
        )  # fmt: skip
        vectors = run.vectors
    nodes = [int(word) for word in vectors.vocabulary]
    labels = torch.tensor([node // MEMBERS for node in nodes])
    ours = classify(vectors.unit(), labels)
    largest = torch.full_like(labels, int(labels.bincount().argmax()))
    guessed = float(f1_score(labels, largest, average="macro"))
    print(f"macro F1: {ours:.3f} by node vectors, {guessed:.3f} by the largest community")
    return ours, guessed


if __name__ == "__main__":
    main(sys.argv[1:])
