"""Fields to cells, many at once: where fields come from, the worker, several processes."""
