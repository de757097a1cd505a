"""The stages of the data factory; each one makes the jobs of `unif2ace_core.data.shards.run_stage`."""
