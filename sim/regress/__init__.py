"""A guard for a user's own scenarios: recorded results, what moved since, and which operator or decision moved it."""
