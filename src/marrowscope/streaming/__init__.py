"""From many fields to their cells: reading slides, the worker, several processes."""
