"""The self-contained page of a run, a comparison or a study.

Input: run folders. Output: one HTML file per page, which needs no network.
"""
