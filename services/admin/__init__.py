"""The operators' page: what readers did, what is in the queues, which processes run."""
