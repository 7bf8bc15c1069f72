"""Serving: queues, KV stores, step prices and the loop that runs a replica ahead to its horizon."""
