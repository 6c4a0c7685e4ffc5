"""Patient-level results from cells: counts, differential, corrected ratio and call, quality flags."""
