"""Runs the whole engine on a virtual clock from one seed, breaks all that can break, and checks what must hold."""
