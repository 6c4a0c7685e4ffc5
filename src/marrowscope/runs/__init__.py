"""A run on disk: its folder, manifest, parts and tables."""
