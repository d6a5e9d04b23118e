"""Which source, and how deep to tune: an answer from features, before any target training.

Only the target's training images are used. The test set is never read.
"""

from stagetransfer.advise.advice import Advice, advise
from stagetransfer.advise.candidates import Candidate, find_candidates

__all__ = ["Advice", "Candidate", "advise", "find_candidates"]
