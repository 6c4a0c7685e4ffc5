"""More than one machine: shards predicted on a cluster, and put together to the run that one machine would have made."""
