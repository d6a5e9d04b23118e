"""The expected calibration error as its definition reads, for tests."""

import numpy as np


def plain_ece(labels, probabilities, bins=15):
    total = 0.0
    for m in range(bins):
        rows = [i for i, p in enumerate(probabilities) if m / bins < max(p) <= (m + 1) / bins]
        if rows:
            hits = sum(int(np.argmax(probabilities[i]) == labels[i]) for i in rows) / len(rows)
            sure = sum(max(probabilities[i]) for i in rows) / len(rows)
            total += len(rows) / len(labels) * abs(hits - sure)
    return total
