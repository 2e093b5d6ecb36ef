"""The commands: each reads its arguments, calls the engine and prints the answer. What is slow to load loads inside."""
