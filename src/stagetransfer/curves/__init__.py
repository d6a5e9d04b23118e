"""ROC, FROC and convergence curves: of finished runs and of candidate tables, as CSV and plots."""
