"""Callbacks: metrics, progress, evaluations, and checks of the ranks and for divergence.

Input: Lightning's hooks. Output: lines of metrics.jsonl and records of the logger.
"""
