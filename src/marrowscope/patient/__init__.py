"""A patient's figures from cells: counts, differential, corrected ratio and call, quality flags."""
