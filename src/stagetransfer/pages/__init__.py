"""Pages of results: their blocks, numbers and plots, written as HTML, Markdown, LaTeX and CSV.

Reports, advice, stress tests and model cards are such pages. Each command adds its own blocks.
"""
