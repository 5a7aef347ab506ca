"""Evaluations of vectors and tables: similarity, analogies, neighbours, hit rate, and held-out likelihood.

Each returns a score and, where it asks questions, the share of those with words out of vocabulary.
"""
