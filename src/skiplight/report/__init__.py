"""The self-contained page of a run, a comparison or a study.

In come run folders; out goes one HTML file, which needs no network.
"""
