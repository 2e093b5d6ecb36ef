"""The benchmark: the engine, and a Node.js stack of the same use, under one load."""
