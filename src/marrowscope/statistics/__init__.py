"""Statistics on plain arrays: confidence intervals, clustered cells, metrics, temperature scaling."""
