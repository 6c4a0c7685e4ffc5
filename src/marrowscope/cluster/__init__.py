"""More than one machine: the shards of a run, put together to the run that one machine would have written."""
