"""Orders, events, money and the rules between them: pure, without I/O, clock or randomness."""
