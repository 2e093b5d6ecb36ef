"""Takes orders in and carries each one to its end, reaching the world through the ports only."""
