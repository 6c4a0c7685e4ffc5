"""More than one machine: shards predicted on a cluster, and put together to the run one machine would have written."""
