"""What vectors are scored on: similarity, analogies, neighbours, hit rates and the likelihood of held-out text.

In come vectors or tables; out go scores and the share of out-of-vocabulary questions.
"""
