"""The review station: what people decide about a run's cells, kept as events; pages, sign-off and export."""
