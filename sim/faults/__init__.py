"""What a failure or a slow rank costs one step: bytes to move, work to split anew, clocks that make up for it."""
