"""Statistics on plain arrays: intervals, clustered cells, figures of merit, temperatures."""
