"""What the engine's answers look like in a terminal: pure functions from answers to rich renderables."""
