"""The second opinion: a trained network reads a slice, says how sure it is, and why.

Research use, not a diagnosis.
"""
