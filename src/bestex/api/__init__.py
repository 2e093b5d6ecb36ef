"""HTTP and WebSocket: carries requests to the engine and its answers to the client, and decides nothing."""
