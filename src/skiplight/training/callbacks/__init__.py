"""What a training does besides its steps: metrics, progress, evaluations, and checks of its ranks and of divergence.

In come Lightning's hooks; out go lines of metrics.jsonl and what the logger is given.
"""
